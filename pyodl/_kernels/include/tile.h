/* Register tiles of a contraction: a few rows times a few registers of columns, all of K.
 *
 * Element (row, column) is the sum over k of a[a_row[row] + a_k[k]] * b[b_column + b_k[k]]: offsets
 * instead of a packed matrix, so that a convolution reads its padded image in place. Columns are
 * lanes; within a tile every output has its own accumulator and takes k in order.
 */
#ifndef PYODL_TILE_H
#define PYODL_TILE_H

#include "steps.h"

/* Shapes of a tile, X(STEP, rows, registers of columns, rows together): as many accumulators as the
 * register file holds, one that leaves fewer rows over, and those for a single row. There are not
 * registers enough for an address a row, so some rows together may lie equally far apart (`spaced`):
 * those of a matrix by fours, the taps of a kernel of 3 by threes. */
#if PYODL_LANES == 16
#define PYODL_EACH_SHAPE(X, STEP)                                                                \
    X(STEP, 16, 1, 4) X(STEP, 12, 2, 4) X(STEP, 8, 3, 4) X(STEP, 8, 2, 4)                        \
    X(STEP, 18, 1, 3) X(STEP, 9, 2, 3) X(STEP, 1, 1, 1) X(STEP, 1, 3, 1)
#define PYODL_SHAPES 8 /* that a plan's tiles have: the first ones */
#else
#define PYODL_EACH_SHAPE(X, STEP)                                                                \
    X(STEP, 8, 1, 1) X(STEP, 6, 2, 1) X(STEP, 4, 3, 1) X(STEP, 4, 2, 1)
#define PYODL_SHAPES 4
#endif
#define PYODL_ROWS 18 /* of a tile, at most */
#define PYODL_MAX_TILE (PYODL_SUMS * 2 * PYODL_LANES)

typedef struct {
    int rows;
    int registers;
    int together;
} pyodl_shape;

/* Low and wide where terms are listed (terms.h): the fewer rows, the fewer terms count. The widest
 * are last. */
#define PYODL_EACH_LISTED_SHAPE(X, STEP)                                                         \
    X(STEP, 16, 1) X(STEP, 8, 2) X(STEP, 9, 2) X(STEP, 6, 3)                                     \
    X(STEP, 4, 4) X(STEP, 3, 4) X(STEP, 3, 6) X(STEP, 2, 8)
/* Sums in memory (steps.h), or bounded, need enough of them to hide the latency of a step; fewer for what
 * is left over, and one row for one. Their tiles are cut anew, from strips of a plan's tiles. Lowest
 * first among those of as many registers. */
#define PYODL_EACH_STRIP_SHAPE(X, STEP)                                                          \
    X(STEP, 1, 1, 1) X(STEP, 8, 1, 1) X(STEP, 12, 1, 1) X(STEP, 16, 1, 1)                        \
    X(STEP, 1, 2, 1) X(STEP, 4, 2, 1) X(STEP, 6, 2, 1) X(STEP, 8, 2, 1)                          \
    X(STEP, 1, 3, 1) X(STEP, 4, 3, 1) X(STEP, 6, 3, 1) X(STEP, 8, 3, 1)

#define PYODL_LISTED_SHAPE(STEP, ROWS, REGISTERS) {ROWS, REGISTERS, 1},
#define PYODL_SHAPE(STEP, ROWS, REGISTERS, TOGETHER) {ROWS, REGISTERS, TOGETHER},

#if PYODL_LANES >= 8
#define PYODL_STRIP_SHAPES PYODL_SHAPES         /* before those that strips are cut into */
#define PYODL_LISTED_SHAPES (PYODL_SHAPES + 12) /* before those of tiles with listed terms */
#else
#define PYODL_STRIP_SHAPES 0
#define PYODL_LISTED_SHAPES PYODL_SHAPES
#endif
static const pyodl_shape pyodl_shapes[] = {
    PYODL_EACH_SHAPE(PYODL_SHAPE, )
#if PYODL_LANES >= 8
    PYODL_EACH_STRIP_SHAPE(PYODL_SHAPE, )
#endif
    PYODL_EACH_LISTED_SHAPE(PYODL_LISTED_SHAPE, )
};
#define PYODL_ALL_SHAPES ((int)(sizeof pyodl_shapes / sizeof *pyodl_shapes))

enum pyodl_order { /* docs/numerics.md, section 3 */
    ORDER_SEQUENTIAL = 0,
    ORDER_PRODUCT = 1,      /* K = 1, no accumulator: a product of -0 stays */
    ORDER_LANES_SPLIT = 2,  /* even k, odd k; the last product of an odd K apart */
    ORDER_LANES_INTO_0 = 3  /* even k, odd k; the last product of an odd K into lane 0 */
};

typedef struct {
    const void *a; /* operands as the step takes them (steps.h) */
    const int32_t *a_k;
    const void *b;
    const int32_t *b_k;
    int64_t depth; /* K */
} pyodl_contraction;

/* Where the rows of a tile begin in a: every row, or every first of those that lie together. */
typedef struct {
    const void *first[PYODL_ROWS];
    int64_t spacing; /* bytes between those together */
} pyodl_rows_of_a;

/* Add one k to sums. */
PYODL_INLINE void accumulate_one(int step, int rows, int registers, int together,
                                 const pyodl_rows_of_a *a, const void *const b[], int64_t in_a,
                                 int64_t in_b, running_sums *sums) {
    operand right[3];
    PYODL_UNROLL
    for (int j = 0; j < registers; j++)
        right[j] = operand_load(step, b[j], in_b);
    PYODL_UNROLL
    for (int i = 0; i < rows; i++) {
        const char *first = (const char *)operand_at(step, a->first[i / together], in_a);
        const operand left = operand_of(step, first + i % together * a->spacing);
        PYODL_UNROLL
        for (int j = 0; j < registers; j++)
            add_to_sum(step, left, right[j], sums, i * registers + j);
    }
}

/* Add k = first, first + stride, ... below stop to sums. Where a step is one instruction, those
 * that lead to the next k take their share of the time. */
PYODL_INLINE void accumulate(int step, int rows, int registers, int together,
                             const pyodl_contraction *c, const int32_t *a_row,
                             const int32_t *b_column, int64_t first, int64_t stop, int64_t stride,
                             running_sums *sums) {
    pyodl_rows_of_a a;
    const void *b[3];
    PYODL_UNROLL
    for (int i = 0; i < rows; i += together)
        a.first[i / together] = operand_at(step, c->a, a_row[i]);
    a.spacing = together > 1 ? (int64_t)(a_row[1] - a_row[0]) * step_operand_size(step) : 0;
    PYODL_UNROLL
    for (int j = 0; j < registers; j++) {
        b[j] = operand_at(step, c->b, b_column[j]);
        __asm__("" : "+r"(b[j])); /* lest a compiler add the offsets up anew for every k */
    }
    if (step_is_quick(step)) {
        PYODL_UNROLL_FOUR
        for (int64_t k = first; k < stop; k += stride)
            accumulate_one(step, rows, registers, together, &a, b, c->a_k[k], c->b_k[k], sums);
    } else {
        for (int64_t k = first; k < stop; k += stride)
            accumulate_one(step, rows, registers, together, &a, b, c->a_k[k], c->b_k[k], sums);
    }
}

/* Sum k = first, first + stride, ... below stop, into tile[row][register][lane]. Sums start from
 * `start`, or from what is in the tile if there is none. */
PYODL_INLINE void tile_sum(int step, int rows, int registers, const pyodl_contraction *c,
                           const int32_t *a_row, const int32_t *b_column, int64_t first,
                           int64_t stop, int64_t stride, const float *start, float *tile) {
    running_sums sums;
    PYODL_UNROLL
    for (int n = 0; n < rows * registers; n++)
        if (start)
            begin_sum_of_zero(step, &sums, n, *start);
        else
            begin_sum(step, &sums, n, tile + n * step_lanes(step));
    accumulate(step, rows, registers, 1, c, a_row, b_column, first, stop, stride, &sums);
    PYODL_UNROLL
    for (int n = 0; n < rows * registers; n++)
        end_sum(step, &sums, n, tile + n * step_lanes(step));
}

/* The lowest shape for what is left of a strip, or the highest; where strips have no shapes of
 * their own, the first. */
PYODL_INLINE int shape_of_strip(int registers, int64_t rows) {
    int shape = PYODL_STRIP_SHAPES;
    while (pyodl_shapes[shape].registers != registers)
        shape++;
    while (pyodl_shapes[shape].rows < rows && shape + 1 < PYODL_LISTED_SHAPES &&
           pyodl_shapes[shape + 1].registers == registers)
        shape++;
    return shape;
}

/* The host's rounding mode for the tiles of a step; changing it costs as much as many steps, so
 * that tiles share a change. What rounds in between asks for the ordinary mode again. */
PYODL_INLINE unsigned rounding_begin(int step) {
#if PYODL_ROUNDS_DOWN
    const unsigned saved = _mm_getcsr();
    if (step_rounds_to_odd(step)) {
        _mm_setcsr((saved & ~0x6000u) | 0x2000u);
        __asm__ volatile("" ::: "memory");
    }
    return saved;
#else
    (void)step;
    return 0;
#endif
}

PYODL_INLINE unsigned rounding_ordinary(void) {
#if PYODL_ROUNDS_DOWN
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(saved & ~0x6000u);
    __asm__ volatile("" ::: "memory");
    return saved;
#else
    return 0;
#endif
}

PYODL_INLINE void rounding_restore(unsigned saved) {
#if PYODL_ROUNDS_DOWN
    __asm__ volatile("" ::: "memory");
    _mm_setcsr(saved);
#else
    (void)saved;
#endif
}

/* One function per step and shape, never inlined: the sums go through memory, so that no compiler
 * can move a rounding across a change of the host's rounding mode. */
#define PYODL_TILE_FUNCTION(STEP, ROWS, REGISTERS, TOGETHER)                                     \
    static __attribute__((noinline, unused)) void tile_##STEP##_##ROWS##_##REGISTERS(            \
        const pyodl_contraction *c, const int32_t *a_row, const int32_t *b_column,               \
        int64_t first, int64_t stop, int64_t stride, const float *start, float *tile) {          \
        tile_sum(STEP, ROWS, REGISTERS, c, a_row, b_column, first, stop, stride, start, tile);   \
    }
#define PYODL_TILE_FUNCTIONS(STEP) PYODL_EACH_SHAPE(PYODL_TILE_FUNCTION, STEP)
#define PYODL_TILE(STEP, ROWS, REGISTERS, TOGETHER) tile_##STEP##_##ROWS##_##REGISTERS,
#define PYODL_TILES(STEP) {PYODL_EACH_SHAPE(PYODL_TILE, STEP)}

#if PYODL_LANES >= 8
#define PYODL_STRIP_FUNCTIONS(STEP) PYODL_EACH_STRIP_SHAPE(PYODL_TILE_FUNCTION, STEP)
#define PYODL_STRIP_TILES(STEP)                                                                  \
    {[PYODL_STRIP_SHAPES] = PYODL_EACH_STRIP_SHAPE(PYODL_TILE, STEP)}
#else
#define PYODL_STRIP_FUNCTIONS(STEP) PYODL_TILE_FUNCTIONS(STEP)
#define PYODL_STRIP_TILES(STEP) PYODL_TILES(STEP)
#endif
#if PYODL_NATIVE_HALVES
#define PYODL_HALF_FUNCTIONS(STEP) PYODL_TILE_FUNCTIONS(STEP)
#define PYODL_HALF_TILES(STEP) PYODL_TILES(STEP)
#else
#define PYODL_HALF_FUNCTIONS(STEP) PYODL_STRIP_FUNCTIONS(STEP)
#define PYODL_HALF_TILES(STEP) PYODL_STRIP_TILES(STEP)
#endif

PYODL_TILE_FUNCTIONS(STEP_EXACT_PRODUCT)
PYODL_TILE_FUNCTIONS(STEP_FMA32)
PYODL_HALF_FUNCTIONS(STEP_HALF_FMA)
PYODL_HALF_FUNCTIONS(STEP_HALF_MULADD)
PYODL_TILE_FUNCTIONS(STEP_BFLOAT_FMA)
PYODL_STRIP_FUNCTIONS(STEP_HALF_VIA32)
PYODL_TILE_FUNCTIONS(STEP_BFLOAT_VIA32)
#if PYODL_HAS_BOUNDED
PYODL_STRIP_FUNCTIONS(STEP_BOUNDED_MULADD)
#endif

typedef void (*pyodl_tile)(const pyodl_contraction *, const int32_t *, const int32_t *, int64_t,
                           int64_t, int64_t, const float *, float *);

static const pyodl_tile pyodl_tiles[PYODL_STEPS][PYODL_LISTED_SHAPES] = {
    [STEP_EXACT_PRODUCT] = PYODL_TILES(STEP_EXACT_PRODUCT),
    [STEP_FMA32] = PYODL_TILES(STEP_FMA32),
    [STEP_HALF_FMA] = PYODL_HALF_TILES(STEP_HALF_FMA),
    [STEP_HALF_MULADD] = PYODL_HALF_TILES(STEP_HALF_MULADD),
    [STEP_BFLOAT_FMA] = PYODL_TILES(STEP_BFLOAT_FMA),
    [STEP_HALF_VIA32] = PYODL_STRIP_TILES(STEP_HALF_VIA32),
    [STEP_BFLOAT_VIA32] = PYODL_TILES(STEP_BFLOAT_VIA32),
#if PYODL_HAS_BOUNDED
    [STEP_BOUNDED_MULADD] = PYODL_STRIP_TILES(STEP_BOUNDED_MULADD),
#endif
};

/* Lane 0 plus lane 1 and the last product of an odd K, each addition rounded to the accumulator
 * format; sums[0] is lane 0 and takes the result. */
static __attribute__((noinline, unused)) void tile_join_lanes(int order, int step, int64_t depth,
                                                              int64_t size, float *lane0,
                                                              const float *lane1,
                                                              const float *last) {
    const int format = step_format(step);
    for (int64_t i = 0; i < size; i++) {
        float sum = round_value(format, lane0[i] + lane1[i]);
        if (order == ORDER_LANES_SPLIT) {
            const float apart = depth % 2 ? round_value(format, 0.0f + last[i]) : 0.0f;
            sum = round_value(format, apart + sum);
        }
        lane0[i] = sum;
    }
}

/* Compute one tile of a shape, in the step's rounding mode. Rows beyond the matrix repeat earlier
 * ones; the caller drops them. `resumes`: the first accumulator starts from what is in the tile,
 * the stored sums of an earlier part of K. */
static inline void compute_tile(const pyodl_contraction *c, int step, int order, int shape,
                                const int32_t *a_row, const int32_t *b_column, int resumes,
                                float *tile) {
    static const float zero = 0.0f, nothing = -0.0f; /* -0 + x is x: no accumulator */
    const float *const start = resumes ? NULL : order == ORDER_PRODUCT ? &nothing : &zero;
    const pyodl_tile sum = pyodl_tiles[step][shape];
    const int64_t even = c->depth & ~(int64_t)1;
    float lane1[PYODL_MAX_TILE], last[PYODL_MAX_TILE];
    if (order == ORDER_SEQUENTIAL || order == ORDER_PRODUCT) {
        sum(c, a_row, b_column, 0, c->depth, 1, start, tile);
    } else {
        const int64_t stop = order == ORDER_LANES_INTO_0 ? c->depth : even;
        sum(c, a_row, b_column, 0, stop, 2, start, tile);
        sum(c, a_row, b_column, 1, even, 2, &zero, lane1);
        if (order == ORDER_LANES_SPLIT && c->depth % 2)
            sum(c, a_row, b_column, even, c->depth, 1, &zero, last);
    }
    if (order == ORDER_LANES_SPLIT || order == ORDER_LANES_INTO_0) {
        const unsigned mode = rounding_ordinary();
        const int64_t registers = pyodl_shapes[shape].rows * pyodl_shapes[shape].registers;
        tile_join_lanes(order, step, c->depth, registers * step_lanes(step), tile, lane1, last);
        rounding_restore(mode);
    }
}

/* ---- lanes that do not mix: depthwise -------------------------------------------------------- */

/* A register of outputs; only the first `lanes` of it exist. Units of the same channels have the same
 * operand a: the weights of a pixel, the gradients of a tap. */
typedef struct {
    int32_t a;
    int32_t b;
    int32_t out;
    int32_t lanes;
    int32_t padded;
} pyodl_unit;

#define PYODL_UNITS 9 /* computed together at most: the taps of a 3x3 kernel */

/* tile[unit][lane] = sum over k of a[a_k[k] + lane] * b[unit's offset + b_k[k] + lane], for `size`
 * units of the same channels; those from `count` on repeat the last.
 *
 * Where `real` is given, it marks the elements of b that are not padding; a unit meets padding with
 * all of its lanes, and such a k leaves its sums as they are. */
PYODL_INLINE void units_sum(int step, int size, const pyodl_contraction *c, const pyodl_unit *units,
                            int64_t count, const uint8_t *real, float *tile) {
    running_sums sums;
    int64_t offset[PYODL_UNITS];
    const void *const a = operand_at(step, c->a, units[0].a);
    const void *b[PYODL_UNITS];
    PYODL_UNROLL
    for (int u = 0; u < size; u++) {
        offset[u] = units[u < count ? u : count - 1].b;
        b[u] = operand_at(step, c->b, offset[u]);
        begin_sum_of_zero(step, &sums, u, 0.0f);
    }
    for (int64_t k = 0; k < c->depth; k++) {
        const operand left = operand_load(step, a, c->a_k[k]);
        const int64_t in_b = c->b_k[k];
        PYODL_UNROLL
        for (int u = 0; u < size; u++)
            if (!real || real[offset[u] + in_b])
                add_to_sum(step, left, operand_load(step, b[u], in_b), &sums, u);
    }
    PYODL_UNROLL
    for (int u = 0; u < size; u++)
        end_sum(step, &sums, u, tile + u * step_lanes(step));
}

#define PYODL_UNITS_FUNCTION(STEP)                                                               \
    static __attribute__((noinline, unused)) void units_##STEP(                                  \
        const pyodl_contraction *c, const pyodl_unit *units, int64_t count, const uint8_t *real, \
        float *tile) {                                                                           \
        if (count > 8 && real)                                                                   \
            units_sum(STEP, 9, c, units, count, real, tile);                                     \
        else if (count > 8)                                                                      \
            units_sum(STEP, 9, c, units, count, NULL, tile);                                     \
        else if (real)                                                                           \
            units_sum(STEP, 8, c, units, count, real, tile);                                     \
        else                                                                                     \
            units_sum(STEP, 8, c, units, count, NULL, tile);                                     \
    }
PYODL_UNITS_FUNCTION(STEP_EXACT_PRODUCT)
PYODL_UNITS_FUNCTION(STEP_FMA32)
PYODL_UNITS_FUNCTION(STEP_HALF_FMA)
PYODL_UNITS_FUNCTION(STEP_HALF_MULADD)
PYODL_UNITS_FUNCTION(STEP_BFLOAT_FMA)
#if PYODL_HAS_BOUNDED
PYODL_UNITS_FUNCTION(STEP_BOUNDED_MULADD)
#endif

/* Compute up to `PYODL_UNITS` units of the same channels, in the step's rounding mode. */
static inline void compute_units(const pyodl_contraction *c, int step, const pyodl_unit *units,
                                 int64_t count, const uint8_t *real, float *tile) {
    static void (*const functions[PYODL_STEPS])(const pyodl_contraction *, const pyodl_unit *,
                                                int64_t, const uint8_t *, float *) = {
        [STEP_EXACT_PRODUCT] = units_STEP_EXACT_PRODUCT,
        [STEP_FMA32] = units_STEP_FMA32,
        [STEP_HALF_FMA] = units_STEP_HALF_FMA,
        [STEP_HALF_MULADD] = units_STEP_HALF_MULADD,
        [STEP_BFLOAT_FMA] = units_STEP_BFLOAT_FMA,
#if PYODL_HAS_BOUNDED
        [STEP_BOUNDED_MULADD] = units_STEP_BOUNDED_MULADD,
#endif
    };
    functions[step](c, units, count, real, tile);
}

/* How many of `rest` units are to be computed together: those of the same channels, by eights if
 * there are more of them than there are taps. */
PYODL_INLINE int64_t units_together(const pyodl_unit *units, int64_t rest) {
    int64_t count = 1;
    while (count < rest && count <= PYODL_UNITS && units[count].a == units[0].a)
        count++;
    return count > PYODL_UNITS ? 8 : count;
}

/* Raise a bit of a flag that other threads may be raising. */
PYODL_INLINE void raise_flag(int32_t *flag, int32_t bit) {
    __atomic_fetch_or(flag, bit, __ATOMIC_RELAXED);
}

PYODL_INLINE int32_t flag_at(const int32_t *flag) {
    return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

/* One output again from `sum`, slowly, leaving out the k whose operand is padding: `real` marks the
 * elements of the padded operand that exist. Exact zeros leave a sum of +0 as it is, and are
 * frequent. */
static __attribute__((noinline, unused)) float sum_without_padding(
    const pyodl_contraction *c, int step, const uint8_t *real, int padded_b, int64_t a_row,
    int64_t b_column, float sum) {
    const unsigned mode = rounding_ordinary();
    for (int64_t k = 0; k < c->depth; k++) {
        const int64_t in_a = a_row + c->a_k[k], in_b = b_column + c->b_k[k];
        const float a = operand_value(step, c->a, in_a), b = operand_value(step, c->b, in_b);
        const int is_zero = (a == 0.0f || b == 0.0f) && a * b == 0.0f; /* not 0 * infinity */
        if (real[padded_b ? in_b : in_a] && !(is_zero && float_bits(sum) == 0))
            sum = value_step(step, a, b, sum);
    }
    rounding_restore(mode);
    return sum;
}

#endif
