"""Data movement: strided copies that keep bits, and the same copies widened to binary32.

im2row, im2col, padding, transposes and layout changes are one strided copy each; so is what a
contraction reads. Offsets and strides count elements and may be negative (a flip).
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t
from libc.string cimport memcpy

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._team cimport Block, core_block
from pyodl._kernels._types cimport (
    Arguments, PYODL_FLOAT32, float_bits, load_value, storage_format,
)


cdef extern from "include/elementwise.h" nogil:
    void widen_values(int, const void *, int64_t, float *, int64_t) noexcept


cdef enum:
    DIMENSIONS = 5

# Where a copy goes: sizes, then source strides, then target strides, outermost first.
cdef struct Walk:
    const int64_t *size
    const int64_t *source
    const int64_t *target


cdef inline Walk walk_of(const Arguments *args) noexcept nogil:
    cdef Walk walk
    walk.size = &args.sizes[0]
    walk.source = &args.sizes[DIMENSIONS]
    walk.target = &args.sizes[2 * DIMENSIONS]
    return walk


cdef inline void copy_row(
    int element, const char *source, int64_t source_stride, char *target, int64_t target_stride,
    int64_t count
) noexcept nogil:
    cdef int64_t i
    if source_stride == 1 and target_stride == 1:
        memcpy(target, source, count * element)
    elif element == 2:
        for i in range(count):
            (<uint16_t *>target)[i * target_stride] = (<const uint16_t *>source)[i * source_stride]
    else:
        for i in range(count):
            (<uint32_t *>target)[i * target_stride] = (<const uint32_t *>source)[i * source_stride]


cdef inline void widen_row(
    int format, const void *array, int64_t source, int64_t source_stride, float *target,
    int64_t target_stride, int64_t count
) noexcept nogil:
    cdef int64_t i
    if source_stride == 1 and target_stride == 1:
        widen_values(format, array, source, target, count)
    else:
        for i in range(count):
            target[i * target_stride] = load_value(format, array, source + i * source_stride)


cdef void walk_rows(
    const Arguments *args, bint widens, int64_t start, int64_t stop
) noexcept nogil:
    """Copy rows ``start`` to ``stop`` of those that the outer four dimensions count."""
    cdef Walk w = walk_of(args)
    cdef int format = storage_format(args.arithmetic)
    cdef int element = <int>args.sizes[17]
    cdef int64_t row, rest, source, target, d, index
    for row in range(start, stop):
        rest = row
        source = args.sizes[15]
        target = args.sizes[16]
        for d in range(DIMENSIONS - 2, -1, -1):
            index = rest % w.size[d]
            rest = rest // w.size[d]
            source += index * w.source[d]
            target += index * w.target[d]
        if widens:
            widen_row(format, args.arrays[0], source, w.source[4],
                      <float *>args.arrays[1] + target, w.target[4], w.size[4])
        else:
            copy_row(element, <const char *>args.arrays[0] + source * element, w.source[4],
                     <char *>args.arrays[1] + target * element, w.target[4], w.size[4])


cdef inline void walk_cores(const Arguments *args, bint widens, int num_threads) noexcept nogil:
    cdef int core
    cdef Block block
    cdef int64_t rows = args.sizes[0] * args.sizes[1] * args.sizes[2] * args.sizes[3]
    for core in prange(args.cores, num_threads=num_threads, use_threads_if=num_threads > 1,
                       schedule="static"):
        block = core_block(core, args.cores, rows)
        walk_rows(args, widens, block.start, block.stop)


cdef void copy(const Arguments *args, int num_threads) noexcept nogil:
    """Copy bits. Arrays: source, target. Sizes: 5 sizes, 5 source strides, 5 target strides,
    source offset, target offset, bytes of an element. Split over rows."""
    walk_cores(args, False, num_threads)


cdef void widen(const Arguments *args, int num_threads) noexcept nogil:
    """Widen stored values to floats, exactly. Arrays and sizes: as for `copy`."""
    walk_cores(args, True, num_threads)


cdef void find_nonfinite(const Arguments *args, int num_threads) noexcept nogil:
    """Set a flag to whether a tensor has an infinity or a NaN. Arrays: x, flag. Sizes: n."""
    cdef int64_t i
    cdef int format = storage_format(args.arithmetic)
    cdef int32_t found = 0
    for i in range(args.sizes[0]):
        found |= (float_bits(load_value(format, args.arrays[0], i)) & 0x7F800000u) == 0x7F800000u
    (<int32_t *>args.arrays[1])[0] = found


KERNELS = {
    "copy": kernel_capsule(copy),
    "widen": kernel_capsule(widen),
    "find_nonfinite": kernel_capsule(find_nonfinite),
}
