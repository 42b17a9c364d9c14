"""The peak of this host in multiply-adds, to measure kernels against."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._types cimport Arguments


cdef extern from "include/peak.h" nogil:
    int PYODL_LANES
    int PYODL_PEAK_SUMS
    float fma_rounds(int64_t, float) noexcept


cdef void fma_peak(const Arguments *args, int num_threads) noexcept nogil:
    """Multiply and add on registers only. Arrays: factor, totals (float). Sizes: rounds.

    Each core runs all rounds and writes its own total.
    """
    cdef int core
    cdef float factor = (<const float *>args.arrays[0])[0]
    cdef float *totals = <float *>args.arrays[1]
    for core in prange(args.cores, num_threads=num_threads, use_threads_if=num_threads > 1,
                       schedule="static"):
        totals[core] = fma_rounds(args.sizes[0], factor)


PEAK_MACS = PYODL_LANES * PYODL_PEAK_SUMS  # of one round
KERNELS = {"fma_peak": kernel_capsule(fma_peak)}
