"""Bound kernels, for programs of them."""

from libc.stdint cimport uintptr_t

from pyodl._kernels._spans cimport MOST_ARRAYS, Call
from pyodl._kernels._types cimport Arguments, Kernel, ReachOf


cdef bint divides_everything() noexcept
cdef void run_alone(const Call *calls, int count, double *times) noexcept nogil


cdef class Operation:
    cdef Arguments arguments
    cdef Kernel kernel
    cdef ReachOf reach_of
    cdef readonly tuple arrays
    cdef readonly int inputs
    cdef uintptr_t stops[MOST_ARRAYS]
    cdef public str name
    cdef public long long macs
    cdef public double effort
    cdef double elements

    cdef Call call(self) noexcept
