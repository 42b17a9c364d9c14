"""Softmax of the rows of a matrix. Sizes of every kernel: rows, n. Split over rows.

Exponentials are computed twice, for the sum and for the quotient, rather than kept: with a
binary32 accumulator the device keeps them unrounded.
"""

from libc.stdint cimport int64_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._team cimport Block, core_block, share_out
from pyodl._kernels._transcendental cimport exp_float, fast_exp_float
from pyodl._kernels._types cimport (
    Arguments, PYODL_BFLOAT16, PYODL_FLOAT16, PYODL_FP16_MULADD, Team, add, float_from_bits,
    fma_step, load, mul, quotient, rounded, storage_format, store, sub,
)


cdef inline float exponential(int arithmetic, bint fast, float x, float largest) noexcept nogil:
    cdef float difference = sub(arithmetic, x, largest)
    if fast:
        return rounded(arithmetic, fast_exp_float(difference, arithmetic != PYODL_FP16_MULADD))
    return rounded(arithmetic, exp_float(difference))


cdef inline void divide_row(
    int arithmetic, bint fast, const void *x, void *y, int64_t first, int64_t n, float largest,
    float total
) noexcept nogil:
    cdef int64_t i
    cdef float e
    for i in range(first, first + n):
        e = exponential(arithmetic, fast, load(arithmetic, x, i), largest)
        store(arithmetic, y, i, quotient(arithmetic, e, total))


cdef inline float lowest(int arithmetic) noexcept nogil:
    """Return the lowest number of the storage format, where the maximum starts.

    The firmware has -65504 for bfloat16 too, which is not its lowest: a defect, not imitated.
    """
    cdef int format = storage_format(arithmetic)
    if format == PYODL_FLOAT16:
        return -65504
    return float_from_bits(0xFF7F0000U if format == PYODL_BFLOAT16 else 0xFF7FFFFFU)


cdef void fast_row(
    int arithmetic, const void *x, void *y, int64_t first, int64_t n
) noexcept nogil:
    cdef int64_t i
    cdef float largest = lowest(arithmetic)
    cdef float total = 0
    for i in range(first, first + n):
        if load(arithmetic, x, i) > largest:
            largest = load(arithmetic, x, i)
    for i in range(first, first + n):
        total = add(arithmetic, total,
                    exponential(arithmetic, True, load(arithmetic, x, i), largest))
    divide_row(arithmetic, True, x, y, first, n, largest, total)


cdef float block_max(int arithmetic, const void *x, int64_t start, int64_t stop) noexcept nogil:
    """Return the largest element, the first one if that is NaN."""
    cdef int64_t i
    cdef float largest = load(arithmetic, x, start)
    for i in range(start + 1, stop):
        if load(arithmetic, x, i) > largest:
            largest = load(arithmetic, x, i)
    return largest


cdef void expf_row(
    int arithmetic, int cores, const void *x, void *y, int64_t first, int64_t n
) noexcept nogil:
    """Each core owns a block of the row and sums its part; core 0 adds the parts, in order."""
    cdef int core
    cdef int64_t i
    cdef Block block = core_block(0, cores, n)
    cdef float value, partial
    cdef float total = 0
    cdef float largest = block_max(arithmetic, x, first + block.start, first + block.stop)
    for core in range(1, cores):
        block = core_block(core, cores, n)
        if block.start == block.stop:
            break  # the firmware reads beyond the row here
        value = block_max(arithmetic, x, first + block.start, first + block.stop)
        if value > largest:
            largest = value
    for core in range(cores):
        block = core_block(core, cores, n)
        if block.start == block.stop:
            break
        partial = 0
        for i in range(first + block.start, first + block.stop):
            partial = add(arithmetic, partial,
                          exponential(arithmetic, False, load(arithmetic, x, i), largest))
        total = add(arithmetic, total, partial)
    divide_row(arithmetic, False, x, y, first, n, largest, total)


cdef void backward_row(
    int arithmetic, const void *y, const void *dy, void *dx, int64_t first, int64_t n
) noexcept nogil:
    cdef int64_t i
    cdef float value
    cdef float total = 0
    for i in range(first, first + n):
        total = fma_step(arithmetic, load(arithmetic, dy, i), load(arithmetic, y, i), total)
    for i in range(first, first + n):
        value = sub(arithmetic, load(arithmetic, dy, i), total)
        store(arithmetic, dx, i, mul(arithmetic, value, load(arithmetic, y, i)))


cdef void softmax_fast_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t row, n = args.sizes[1]
    for row in range(start, stop):
        fast_row(args.arithmetic, args.arrays[0], args.arrays[1], row * n, n)


cdef void softmax_fast(const Arguments *args, Team team) noexcept nogil:
    """Arrays: x, y."""
    share_out(args, args.sizes[0], team, softmax_fast_part)


cdef void softmax_expf_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t row, n = args.sizes[1]
    for row in range(start, stop):
        expf_row(args.arithmetic, args.cores, args.arrays[0], args.arrays[1], row * n, n)


cdef void softmax_expf(const Arguments *args, Team team) noexcept nogil:
    """Arrays: x, y."""
    share_out(args, args.sizes[0], team, softmax_expf_part)


cdef void softmax_backward_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t row, n = args.sizes[1]
    for row in range(start, stop):
        backward_row(args.arithmetic, args.arrays[0], args.arrays[1], args.arrays[2], row * n, n)


cdef void softmax_backward(const Arguments *args, Team team) noexcept nogil:
    """Arrays: y, dy, dx."""
    share_out(args, args.sizes[0], team, softmax_backward_part)


KERNELS = {
    "softmax_fast": kernel_capsule(softmax_fast),
    "softmax_expf": kernel_capsule(softmax_expf),
    "softmax_backward": kernel_capsule(softmax_backward),
}
