"""Register tiles and what looks at them afterwards, for the kernels that contract."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from pyodl._kernels._types cimport Arguments, float_bits


cdef extern from "include/tile.h" nogil:
    int PYODL_LANES
    int PYODL_UNITS
    int PYODL_SHAPES
    int PYODL_STEPS
    ctypedef struct Shape "pyodl_shape":
        int rows
        int registers
        int together
    const Shape *pyodl_shapes
    int ORDER_SEQUENTIAL
    ctypedef struct Contraction "pyodl_contraction":
        const void *a
        const int32_t *a_k
        const void *b
        const int32_t *b_k
        int64_t depth
    unsigned rounding_begin(int) noexcept
    void rounding_restore(unsigned) noexcept
    bint step_cuts_strips(int) noexcept
    bint step_is_native(int) noexcept
    bint may_reach_negative_zero "step_may_reach_negative_zero"(int) noexcept
    bint step_pays_by_pixels(int) noexcept
    bint sums_are_bounded(float, float, int64_t) noexcept
    int bounded_step(int) noexcept
    int step_of_exact_products(int) noexcept
    int step_lanes(int) noexcept
    int shape_of_strip(int, int64_t) noexcept
    void raise_flag(int32_t *, int32_t) noexcept
    int32_t flag_at(const int32_t *) noexcept
    void compute_tile(
        const Contraction *, int, int, int, const int32_t *, const int32_t *, bint,
        float *) noexcept
    ctypedef struct Unit "pyodl_unit":
        int32_t b
        int32_t out
        int32_t lanes
        int32_t padded
    void compute_units(
        const Contraction *, int, const Unit *, int64_t, const uint8_t *, float *) noexcept
    int64_t units_together(const Unit *, int64_t) noexcept
    float sum_without_padding(
        const Contraction *, int, const uint8_t *, int, int64_t, int64_t, float) noexcept


cdef extern from "include/store.h" nogil:
    ctypedef struct Segment "pyodl_segment":
        int32_t lane
        int32_t count
        int32_t out
    ctypedef struct Rows "pyodl_rows":
        const float *values
        int64_t lanes
        int64_t row_size
        const int32_t *out_rows
        int64_t rows
        const Segment *runs
        int64_t run_count
    void make_canonical(float *, int64_t) noexcept
    void store_straight(
        int, void *, const float *, const int32_t *, int64_t, const int32_t *, int) noexcept
    void store_rows(int, void *, int64_t, const Rows *) noexcept


cdef extern from "include/whole_tiles.h" nogil:
    ctypedef struct Register "pyodl_register":
        int32_t b_column
        int32_t out
        int32_t first_segment
        int32_t segments
        int32_t padded
        int32_t count
    ctypedef struct Tile "pyodl_cut":
        int32_t first_row
        int32_t rows
        int32_t first_register
        int32_t shape
        int32_t order
        int32_t finish
        int32_t spaced
    ctypedef struct Plan "pyodl_plan":
        Contraction sum
        const int32_t *a_row
        const int32_t *out_row
        const Register *registers
        const Tile *tiles
        void *out
        int64_t lane_stride
    int64_t compute_whole_tiles(const Plan *, int, int, int64_t, int64_t) noexcept


cdef extern from "include/terms.h" nogil:
    bint step_lists_terms(int) noexcept
    int listed_shape(int64_t, int64_t) noexcept
    void compute_listed_tile(
        const Contraction *, int, int, const int32_t *, const int32_t *, bint,
        float *) noexcept
    bint many_zeros(const float *, int64_t) noexcept
    bint any_negative_zero(const float *, int64_t) noexcept
    bint all_finite(const float *, int64_t) noexcept
    float largest_magnitude(const float *, int64_t) noexcept


cdef inline Arguments with_bounded_step(
    const Arguments *args, int64_t a_size, int64_t b_size
) noexcept nogil:
    """Return a contraction's arguments with the step to take for what is in both operands.

    K is its first size, the step its third. One product may begin with -0 instead of +0, which a
    bounded step must not.
    """
    cdef Arguments own = args[0]
    cdef int bounded = bounded_step(<int>args.sizes[2])
    if bounded != args.sizes[2] and args.sizes[0] > 1 and sums_are_bounded(
        largest_magnitude(<const float *>args.arrays[0], a_size),
        largest_magnitude(<const float *>args.arrays[1], b_size), args.sizes[0]
    ):
        own.sizes[2] = bounded
    return own


cdef enum:
    MAX_ROWS = 18
    MAX_REGISTERS = 8
    MAX_LANES = 32
    MAX_UNITS = 9

# What a contraction skips, and what it has to look at again because of it.
cdef enum Padding:
    MULTIPLIED = 0  # padding is a zero like any other
    SKIPPED_IN_A = 1
    SKIPPED_IN_B = 2
    LEFT_OUT = 3  # the offsets leave zeros out that the device multiplies: report a doubt


# The bits of a contraction's flag.
cdef enum Doubt:
    NONFINITE = 1  # of infinities or NaNs, or because pixels will not do, everything is in doubt
    NEGATIVE_ZERO = 2  # a result is -0, which zeros left out may have made +0


cdef inline bint in_doubt(float value, bint everything) noexcept nogil:
    """Whether multiplied padding may have spoilt a sum: the sign of a zero, or ``everything``."""
    return everything or float_bits(value) == 0
