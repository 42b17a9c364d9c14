"""Element-wise arithmetic between layers: sums, bias, the SGD update."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._team cimport Block, core_block
from pyodl._kernels._types cimport (
    Arguments, PYODL_FLOAT32, load_value, storage_format,
)


cdef extern from "include/elementwise.h" nogil:
    void add_values(int, const void *, const void *, void *, int64_t, int64_t) noexcept
    void add_constant(int, void *, float, int64_t, int64_t) noexcept
    void scaled_add(
        int, float, const void *, const void *, void *, int64_t, int64_t) noexcept


cdef void add_tensors(const Arguments *args, int num_threads) noexcept nogil:
    """out = x + y. Arrays: x, y, out. Sizes: n. Split over elements."""
    cdef int core
    cdef Block block
    for core in prange(args.cores, num_threads=num_threads, use_threads_if=num_threads > 1,
                       schedule="static"):
        block = core_block(core, args.cores, args.sizes[0])
        add_values(storage_format(args.arithmetic), args.arrays[0], args.arrays[1],
                   args.arrays[2], block.start, block.stop)


cdef void add_bias(const Arguments *args, int num_threads) noexcept nogil:
    """y += bias, on the stored y. Arrays: bias, y. Sizes: rows, columns, bias along columns.

    Split over rows. The bias has one value a row, or, along columns, one a column.
    """
    cdef int core
    cdef int64_t row, columns = args.sizes[1]
    cdef int format = storage_format(args.arithmetic)
    cdef int64_t element = 4 if format == PYODL_FLOAT32 else 2
    cdef char *y
    cdef Block block
    for core in prange(args.cores, num_threads=num_threads, use_threads_if=num_threads > 1,
                       schedule="static"):
        block = core_block(core, args.cores, args.sizes[0])
        for row in range(block.start, block.stop):
            y = <char *>args.arrays[1] + row * columns * element
            if args.sizes[2]:
                add_values(format, y, args.arrays[0], y, 0, columns)
            else:
                add_constant(format, y, load_value(format, args.arrays[0], row), 0, columns)


cdef void sgd(const Arguments *args, int num_threads) noexcept nogil:
    """w = w - lr * g, in place, after g = g + decay * w where decay is not zero.

    Arrays: w, g. Sizes: n. Scalars: lr, decay. Split over elements.
    """
    cdef int core
    cdef Block block
    cdef void *w = args.arrays[0]
    cdef void *g = args.arrays[1]
    for core in prange(args.cores, num_threads=num_threads, use_threads_if=num_threads > 1,
                       schedule="static"):
        block = core_block(core, args.cores, args.sizes[0])
        if args.scalars[1] != 0.0:
            scaled_add(args.arithmetic, args.scalars[1], w, g, g, block.start, block.stop)
        scaled_add(args.arithmetic, -args.scalars[0], g, w, w, block.start, block.stop)


KERNELS = {
    "add": kernel_capsule(add_tensors),
    "add_bias": kernel_capsule(add_bias),
    "sgd": kernel_capsule(sgd),
}
