"""Depthwise convolution: channels are the lanes, in operands widened channels last.

``out[unit, lane] = sum over k of a[a_unit + a_k[k] + lane] * b[b_unit + b_k[k] + lane]``, where a
unit is an output pixel (or a weight) of one register of channels.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._tile cimport (
    MAX_LANES, MAX_PAIRS, PYODL_LANES, PYODL_PAIRS, Contraction, Rows, Segment, compute_pairs,
    make_canonical, may_reach_negative_zero, rounding_begin, rounding_restore, store_rows,
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
    cdef int32_t a_unit[MAX_PAIRS]
    cdef int32_t b_unit[MAX_PAIRS]
    cdef float values[MAX_PAIRS * MAX_LANES]
    cdef bint padded = False
    cdef bint skips = may_reach_negative_zero(<int>args.sizes[2]) or (
        args.arrays[7] != NULL and (<const int32_t *>args.arrays[7])[0] != 0)
    cdef int64_t u
    for u in range(PYODL_PAIRS):
        a_unit[u] = units[min(u, count - 1)].a
        b_unit[u] = units[min(u, count - 1)].b
        padded = padded or units[min(u, count - 1)].padded
    compute_pairs(c, <int>args.sizes[2], a_unit, b_unit,
                  <const uint8_t *>args.arrays[5] if padded and skips else NULL, values)
    make_canonical(values, PYODL_PAIRS * PYODL_LANES)
    store_units(args, units, count, values)


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
    cdef unsigned mode
    c.a = <const float *>args.arrays[0]
    c.b = <const float *>args.arrays[1]
    c.a_k = <const int32_t *>args.arrays[2]
    c.b_k = <const int32_t *>args.arrays[3]
    c.depth = args.sizes[0]
    mode = rounding_begin(<int>args.sizes[2])
    while first < stop:
        run_units(args, &c, units + first, min(PYODL_PAIRS, stop - first))
        first += PYODL_PAIRS
    rounding_restore(mode)


cdef void contract_lanes(const Arguments *args, int num_threads) noexcept nogil:
    """Contract lane by lane; padding of b is skipped where multiplying it could tell.

    Arrays: a, b (float); a_k, b_k (int32); units (int32 records); real (uint8, of b, or NULL); out
    (storage); flag (int32: whether a has infinities or NaNs, or NULL). Sizes: K, units, step, lane
    stride.
    """
    over_parts(args, num_threads, args.sizes[1], num_threads, contract_units)


KERNELS = {"contract_lanes": kernel_capsule(contract_lanes)}
