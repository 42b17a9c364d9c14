"""The peak of this host in multiply-adds, to measure kernels against."""

from libc.stdint cimport int64_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._team cimport share_out
from pyodl._kernels._types cimport Arguments, Team


cdef extern from "include/peak.h" nogil:
    int PYODL_PEAK_SUMS
    int PYODL_STEPS
    int step_lanes(int) noexcept
    float peak_rounds(int, int64_t, float) noexcept


cdef void fma_cores(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t core
    cdef float *totals = <float *>args.arrays[1]
    for core in range(start, stop):
        totals[core] = peak_rounds(
            args.arithmetic, args.sizes[0], (<const float *>args.arrays[0])[0])


cdef void fma_peak(const Arguments *args, Team team) noexcept nogil:
    """Multiply and add on registers only: in binary16 where a step of the arithmetic is one of the
    processor's own, else in binary32. Arrays: factor, totals (float). Sizes: rounds.

    Each core runs all rounds and writes its own total.
    """
    share_out(args, args.cores, team, fma_cores)


# Of one round, by step.
PEAK_MACS = tuple(step_lanes(step) * PYODL_PEAK_SUMS for step in range(PYODL_STEPS))
KERNELS = {"fma_peak": kernel_capsule(fma_peak)}
