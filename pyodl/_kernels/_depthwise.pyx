"""Depthwise convolution: channels are the lanes, in operands widened channels last.

``out[unit, lane] = sum over k of a[a_unit + a_k[k] + lane] * b[b_unit + b_k[k] + lane]``, where a
unit is an output pixel (or a weight) of one register of channels.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._tile cimport (
    MAX_LANES, MAX_PAIRS, PYODL_LANES, PYODL_PAIRS, SKIPPED_IN_A, SKIPPED_IN_B, Contraction,
    Rows, Segment, compute_pairs, in_doubt, may_reach_negative_zero, store_rows,
    sum_without_padding,
)
from pyodl._kernels._team cimport over_parts
from pyodl._kernels._types cimport Arguments, storage_format


# One register of outputs; only the first `lanes` of it exist.
cdef struct Unit:
    int32_t a
    int32_t b
    int32_t out
    int32_t lanes
    int32_t padded


cdef void run_units(
    const Arguments *args, const Contraction *c, const Unit *units, int64_t count
) noexcept nogil:
    """Compute and store up to `PYODL_PAIRS` units."""
    cdef const uint8_t *real = <const uint8_t *>args.arrays[5]
    cdef const int32_t *flag = <const int32_t *>args.arrays[7]
    cdef int step = <int>args.sizes[2]
    cdef int padding = <int>args.sizes[4]
    cdef int32_t a_unit[MAX_PAIRS]
    cdef int32_t b_unit[MAX_PAIRS]
    cdef float values[MAX_PAIRS * MAX_LANES]
    cdef int64_t u
    cdef bint everything = flag != NULL and flag[0] != 0
    cdef bint recheck = padding in (SKIPPED_IN_A, SKIPPED_IN_B) and (
        everything or may_reach_negative_zero(step))
    for u in range(PYODL_PAIRS):
        a_unit[u] = units[min(u, count - 1)].a
        b_unit[u] = units[min(u, count - 1)].b
    compute_pairs(c, step, a_unit, b_unit, values)
    if recheck:
        for u in range(count):
            if units[u].padded:
                look_again(c, step, real, padding == SKIPPED_IN_B, everything, &units[u],
                           values + u * PYODL_LANES)
    store_units(args, units, count, values)


cdef inline void look_again(
    const Contraction *c, int step, const uint8_t *real, int padded_b, bint everything,
    const Unit *unit, float *values
) noexcept nogil:
    """Compute again what multiplied padding may have spoilt."""
    cdef int64_t lane
    for lane in range(unit.lanes):
        if in_doubt(values[lane], everything):
            values[lane] = sum_without_padding(
                c, step, real, padded_b, unit.a + lane, unit.b + lane)


cdef inline void store_units(
    const Arguments *args, const Unit *units, int64_t count, const float *values
) noexcept nogil:
    """Store units, those together that have as many lanes."""
    cdef int32_t out[MAX_PAIRS]
    cdef Segment run
    cdef Rows rows
    cdef int64_t u, first = 0
    for u in range(count):
        out[u] = units[u].out
    run.lane = run.out = 0
    rows.row_size = PYODL_LANES
    rows.runs = &run
    rows.run_count = 1
    while first < count:
        run.count = units[first].lanes
        rows.values = values + first * PYODL_LANES
        rows.out_rows = out + first
        rows.rows = 1
        while first + rows.rows < count and units[first + rows.rows].lanes == run.count:
            rows.rows += 1
        store_rows(storage_format(args.arithmetic), args.arrays[6], args.sizes[3], &rows)
        first += rows.rows


cdef void contract_units(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef Contraction c
    cdef const Unit *units = <const Unit *>args.arrays[4]
    cdef int64_t first = start
    c.a = <const float *>args.arrays[0]
    c.b = <const float *>args.arrays[1]
    c.a_k = <const int32_t *>args.arrays[2]
    c.b_k = <const int32_t *>args.arrays[3]
    c.depth = args.sizes[0]
    while first < stop:
        run_units(args, &c, units + first, min(PYODL_PAIRS, stop - first))
        first += PYODL_PAIRS


cdef void contract_lanes(const Arguments *args, int num_threads) noexcept nogil:
    """Contract lane by lane.

    Arrays: a, b (float); a_k, b_k (int32); units (int32 records); real (uint8, of the padded
    operand, or NULL); out (storage); flag (int32: whether the operand that meets padding has
    infinities or NaNs, or NULL). Sizes: K, units, step, lane stride, padding.
    """
    over_parts(args, num_threads, args.sizes[1], num_threads, contract_units)


KERNELS = {"contract_lanes": kernel_capsule(contract_lanes)}
