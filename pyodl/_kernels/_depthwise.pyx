"""Depthwise convolution: channels are the lanes, in operands staged channels last.

``out[unit, lane] = sum over k of a[a_unit + a_k[k] + lane] * b[b_unit + b_k[k] + lane]``, where a
unit is an output pixel (or a weight) of one register of channels, and ``a_unit`` goes by channels.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._tile cimport (
    MAX_LANES, MAX_UNITS, NONFINITE, Contraction, Rows, Segment, Unit, compute_units,
    make_canonical, may_reach_negative_zero, rounding_begin, rounding_restore, step_lanes,
    store_rows, units_together, with_bounded_step,
)
from pyodl._kernels._team cimport share_out
from pyodl._kernels._types cimport Arguments, Team, storage_format


cdef inline bint any_padded(const Unit *units, int64_t count) noexcept nogil:
    cdef int64_t u
    for u in range(count):
        if units[u].padded:
            return True
    return False


cdef inline bint skips_padding(const Arguments *args) noexcept nogil:
    """Whether multiplying padding could tell."""
    return may_reach_negative_zero(<int>args.sizes[2]) or (
        args.arrays[7] != NULL and (<const int32_t *>args.arrays[7])[0] & NONFINITE)


cdef void run_units(
    const Arguments *args, const Contraction *c, const Unit *units, int64_t count
) noexcept nogil:
    """Compute and store up to `PYODL_UNITS` units of the same channels."""
    cdef float values[MAX_UNITS * MAX_LANES]
    cdef int lanes = step_lanes(<int>args.sizes[2])
    cdef int32_t out[MAX_UNITS]
    cdef Segment run
    cdef Rows rows
    cdef const uint8_t *real = NULL
    cdef int64_t u
    if skips_padding(args) and any_padded(units, count):
        real = <const uint8_t *>args.arrays[5]
    compute_units(c, <int>args.sizes[2], units, count, real, values)
    make_canonical(values, (8 if count <= 8 else 9) * lanes)
    for u in range(count):
        out[u] = units[u].out
    run.lane = run.out = 0
    run.count = units[0].lanes
    rows.values = values
    rows.lanes = rows.row_size = lanes
    rows.out_rows = out
    rows.rows = count
    rows.runs = &run
    rows.run_count = 1
    store_rows(storage_format(args.arithmetic), args.arrays[6], args.sizes[3], &rows)


cdef void contract_units(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef Contraction c
    cdef const Unit *units = <const Unit *>args.arrays[4]
    cdef int64_t count, first = start
    cdef unsigned mode
    c.a = args.arrays[0]
    c.b = args.arrays[1]
    c.a_k = <const int32_t *>args.arrays[2]
    c.b_k = <const int32_t *>args.arrays[3]
    c.depth = args.sizes[0]
    mode = rounding_begin(<int>args.sizes[2])
    while first < stop:
        count = units_together(units + first, stop - first)
        run_units(args, &c, units + first, count)
        first += count
    rounding_restore(mode)


cdef void contract_lanes(const Arguments *args, Team team) noexcept nogil:
    """Contract lane by lane; padding of b is skipped where multiplying it could tell.

    Arrays: a, b (float or halves, as for `contract`); a_k, b_k (int32); units (int32 records); real
    (uint8, of b, or NULL); out (storage); flag (int32: whether a has infinities or NaNs, or NULL).
    Sizes: K, units, step, lane stride, elements of a's buffer, of b's.
    """
    cdef Arguments own = with_bounded_step(args, args.sizes[4], args.sizes[5])
    share_out(&own, args.sizes[1], team, contract_units)


KERNELS = {"contract_lanes": kernel_capsule(contract_lanes)}
