"""Element-wise arithmetic between layers: sums, bias, the SGD update."""

from libc.stdint cimport int64_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._team cimport (
    reach_elements, reach_everything, reach_items, share_out, stored_size,
)
from pyodl._kernels._types cimport Arguments, Reach, Team, storage_format


cdef extern from "include/elementwise.h" nogil:
    void add_values(int, const void *, const void *, void *, int64_t, int64_t) noexcept
    void add_row_bias(int, const void *, void *, int64_t, int64_t, int64_t) noexcept
    void scaled_add(
        int, float, const void *, const void *, void *, int64_t, int64_t) noexcept


cdef void add_tensors_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    add_values(storage_format(args.arithmetic), args.arrays[0], args.arrays[1],
               args.arrays[2], start, stop)


cdef void add_tensors(const Arguments *args, Team team) noexcept nogil:
    """out = x + y. Arrays: x, y, out. Sizes: n. Split over elements."""
    share_out(args, args.sizes[0], team, add_tensors_part)


cdef void add_bias_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t row, columns = args.sizes[1]
    cdef int format = storage_format(args.arithmetic)
    cdef int64_t element = stored_size(args)
    cdef char *y
    if not args.sizes[2]:
        add_row_bias(format, args.arrays[0], args.arrays[1], columns, start, stop)
        return
    for row in range(start, stop):
        y = <char *>args.arrays[1] + row * columns * element
        add_values(format, y, args.arrays[0], y, 0, columns)


cdef void add_bias(const Arguments *args, Team team) noexcept nogil:
    """y += bias, on the stored y. Arrays: bias, y. Sizes: rows, columns, bias along columns.

    Split over rows. The bias has one value a row, or, along columns, one a column.
    """
    share_out(args, args.sizes[0], team, add_bias_part)


cdef Reach add_bias_reach(const Arguments *args, Team team, int array) noexcept nogil:
    cdef bint one_each = array == 0 and not args.sizes[2]
    if array == 0 and args.sizes[2]:
        return reach_everything(args, team, array)
    return reach_items(team, args.sizes[0], (1 if one_each else args.sizes[1]) * stored_size(args))


cdef void sgd_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef void *w = args.arrays[0]
    cdef void *g = args.arrays[1]
    if args.scalars[1] != 0.0:
        scaled_add(args.arithmetic, args.scalars[1], w, g, g, start, stop)
    scaled_add(args.arithmetic, -args.scalars[0], g, w, w, start, stop)


cdef void sgd(const Arguments *args, Team team) noexcept nogil:
    """w = w - lr * g, in place, after g = g + decay * w where decay is not zero.

    Arrays: w, g. Sizes: n. Scalars: lr, decay. Split over elements.
    """
    share_out(args, args.sizes[0], team, sgd_part)


KERNELS = {
    "add": kernel_capsule(add_tensors, reach_elements),
    "add_bias": kernel_capsule(add_bias, add_bias_reach),
    "sgd": kernel_capsule(sgd, reach_elements),
}
