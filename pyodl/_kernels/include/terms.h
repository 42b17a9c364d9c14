/* The terms of a tile that count: those whose operand a is not zero.
 *
 * A ReLU leaves about half of its outputs zero, and so does its gradient. A zero product changes no
 * sum but one of -0, and where every step rounds to 16 bits it costs as much as any other. So the
 * k that count are listed first, for each half of a tile's rows.
 */
#ifndef PYODL_TERMS_H
#define PYODL_TERMS_H

#include "tile.h"

#define PYODL_LISTED_TERMS 512 /* of K at a time */

/* Whether terms are listed for a step: not where to look at them takes as long as to add them. */
PYODL_INLINE int step_lists_terms(int step) {
    return !step_is_native(step) && (step == STEP_HALF_FMA || step == STEP_HALF_MULADD ||
                                     step == STEP_BOUNDED_MULADD);
}

/* The shape of listed tiles for so many registers and rows: the widest that is filled, and of those
 * one that divides the rows, as the taps of a 3x3 kernel; such rows have their zeros in common. */
PYODL_INLINE int listed_shape(int64_t registers, int64_t rows) {
    int found = PYODL_LISTED_SHAPES, widest = 0;
    for (int shape = PYODL_LISTED_SHAPES; shape < PYODL_ALL_SHAPES; shape++) {
        const int width = pyodl_shapes[shape].registers;
        if (width > registers || width < widest)
            continue;
        if (width > widest || rows % pyodl_shapes[shape].rows == 0)
            found = shape;
        widest = width;
    }
    return found;
}

typedef struct {
    int64_t count;
    int32_t a_k[PYODL_LISTED_TERMS + 8]; /* room for what is written beyond the count */
    int32_t b_k[PYODL_LISTED_TERMS + 8];
} pyodl_list;

/* Which of two lists a row's terms are in: its half's, or the only one where rows are odd. */
PYODL_INLINE int list_of_row(int rows, int row) { return rows % 2 == 0 && row >= rows / 2; }

#if PYODL_LANES >= 8
/* Which of eight floats are not zero, a bit each. */
PYODL_INLINE unsigned nonzero_bits(const float *values) {
    return (unsigned)_mm256_movemask_ps(
        _mm256_cmp_ps(_mm256_loadu_ps(values), _mm256_setzero_ps(), _CMP_NEQ_UQ));
}

PYODL_INLINE int are_neighbours(int rows, const int32_t *offsets) {
    int neighbours = 1;
    PYODL_UNROLL
    for (int i = 1; i < rows; i++)
        neighbours &= offsets[i] == offsets[0] + i;
    return neighbours;
}

/* Bytes of bits to bits: whether any is set. */
PYODL_INLINE unsigned any_of_bytes(uint64_t bytes) {
    const uint64_t low = 0x7F7F7F7F7F7F7F7Fu;
    return (unsigned)_pext_u64(((bytes & low) + low) | bytes, ~low);
}

/* Which of eight k count for some row of each list. Looks along k or along rows, as either are
 * neighbours in a; along few rows it reads beyond them, at the end of a into its slack. */
PYODL_INLINE void mark_terms(int rows, const float *a, const int32_t *a_row, int rows_are,
                             const int32_t *a_k, unsigned marks[2]) {
    const __m256i run = _mm256_add_epi32(_mm256_set1_epi32(a_k[0]),
                                         _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256i offsets = _mm256_loadu_si256((const __m256i *)a_k);
    marks[0] = marks[1] = 0;
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi32(offsets, run)) == -1) {
        PYODL_UNROLL
        for (int i = 0; i < rows; i++)
            marks[list_of_row(rows, i)] |= nonzero_bits(a + a_row[i] + (int64_t)a_k[0]);
    } else if (rows_are && rows % 2 == 0) {
        const int half = rows / 2;
        const uint64_t mask = ((1u << half) - 1) * 0x0101010101010101u;
        uint64_t bytes[2] = {0, 0}; /* one for a k, of a bit for a row */
        PYODL_UNROLL
        for (int j = 0; j < 8; j++) {
            const float *at = a + a_row[0] + (int64_t)a_k[j];
            bytes[0] |= (uint64_t)nonzero_bits(at) << 8 * j;
            if (half == 8)
                bytes[1] |= (uint64_t)nonzero_bits(at + 8) << 8 * j;
        }
        if (half < 8)
            bytes[1] = bytes[0] >> half;
        marks[0] = any_of_bytes(bytes[0] & mask);
        marks[1] = any_of_bytes(bytes[1] & mask);
    } else {
        for (int j = 0; j < 8; j++)
            PYODL_UNROLL
            for (int i = 0; i < rows; i++)
                marks[list_of_row(rows, i)] |=
                    (unsigned)(a[a_row[i] + (int64_t)a_k[j]] != 0.0f) << j;
    }
}

/* Append those of eight k that are marked. */
PYODL_INLINE void append_terms(pyodl_list *list, const int32_t *a_k, const int32_t *b_k,
                               unsigned marks) {
    const __m256i order = marked_first(marks);
    const __m256i in_a = _mm256_loadu_si256((const __m256i *)a_k);
    const __m256i in_b = _mm256_loadu_si256((const __m256i *)b_k);
    _mm256_storeu_si256((__m256i *)(list->a_k + list->count),
                        _mm256_permutevar8x32_epi32(in_a, order));
    _mm256_storeu_si256((__m256i *)(list->b_k + list->count),
                        _mm256_permutevar8x32_epi32(in_b, order));
    list->count += __builtin_popcount(marks);
}

/* List those of the first k, by eights, that count for some row of each list; return how many k. */
PYODL_INLINE int64_t list_eights(int rows, const float *a, const int32_t *a_row, const int32_t *a_k,
                                 const int32_t *b_k, int64_t count, pyodl_list lists[2]) {
    const int rows_are = are_neighbours(rows, a_row);
    int64_t k = 0;
    for (; k + 8 <= count; k += 8) {
        unsigned marks[2];
        mark_terms(rows, a, a_row, rows_are, a_k + k, marks);
        append_terms(&lists[0], a_k + k, b_k + k, marks[0]);
        if (rows % 2 == 0)
            append_terms(&lists[1], a_k + k, b_k + k, marks[1]);
    }
    return k;
}
#else
PYODL_INLINE int64_t list_eights(int rows, const float *a, const int32_t *a_row, const int32_t *a_k,
                                 const int32_t *b_k, int64_t count, pyodl_list lists[2]) {
    (void)rows, (void)a, (void)a_row, (void)a_k, (void)b_k, (void)count, (void)lists;
    return 0;
}
#endif

/* List those of `count` k that count for some row of each list. */
PYODL_INLINE void list_terms(int rows, const float *a, const int32_t *a_row, const int32_t *a_k,
                             const int32_t *b_k, int64_t count, pyodl_list lists[2]) {
    lists[0].count = lists[1].count = 0;
    for (int64_t k = list_eights(rows, a, a_row, a_k, b_k, count, lists); k < count; k++) {
        int64_t marked[2] = {0, 0};
        for (int i = 0; i < rows; i++)
            marked[list_of_row(rows, i)] |= a[a_row[i] + (int64_t)a_k[k]] != 0.0f;
        for (int l = 0; l < 2; l++) {
            lists[l].a_k[lists[l].count] = a_k[k];
            lists[l].b_k[lists[l].count] = b_k[k];
            lists[l].count += marked[l];
        }
    }
}

PYODL_INLINE void list_all(const int32_t *a_k, const int32_t *b_k, int64_t count,
                           pyodl_list lists[2]) {
    for (int l = 0; l < 2; l++) {
        memcpy(lists[l].a_k, a_k, (size_t)count * sizeof *a_k);
        memcpy(lists[l].b_k, b_k, (size_t)count * sizeof *b_k);
        lists[l].count = count;
    }
}

static __attribute__((noinline)) void list_for_rows(int rows, const float *a, const int32_t *a_row,
                                                    const int32_t *a_k, const int32_t *b_k,
                                                    int64_t count, pyodl_list lists[2]) {
    switch (rows) {
    case 2: list_terms(2, a, a_row, a_k, b_k, count, lists); break;
    case 3: list_terms(3, a, a_row, a_k, b_k, count, lists); break;
    case 4: list_terms(4, a, a_row, a_k, b_k, count, lists); break;
    case 6: list_terms(6, a, a_row, a_k, b_k, count, lists); break;
    case 8: list_terms(8, a, a_row, a_k, b_k, count, lists); break;
    case 9: list_terms(9, a, a_row, a_k, b_k, count, lists); break;
    case 16: list_terms(16, a, a_row, a_k, b_k, count, lists); break;
    default: list_terms(rows, a, a_row, a_k, b_k, count, lists);
    }
}

/* ---- sums of listed terms -------------------------------------------------------------------- */

/* Add term t of a list to the sums of its rows. */
PYODL_INLINE void add_term(int step, int first, int stop, int registers, const void *const *a,
                           const void *const *b, const pyodl_list *list, int64_t t,
                           running_sums *sums) {
    const int64_t in_a = list->a_k[t], in_b = list->b_k[t];
    PYODL_UNROLL
    for (int i = first; i < stop; i++) {
        const operand left = operand_of(step, operand_at(step, a[i], in_a));
        PYODL_UNROLL
        for (int j = 0; j < registers; j++)
            add_to_sum(step, left, operand_load(step, b[j], in_b), sums, i * registers + j);
    }
}

/* Sum a tile, as tile_sum does: both halves of its rows side by side as far as both have terms. */
PYODL_INLINE void listed_sum(int step, int rows, int registers, const pyodl_contraction *c,
                             const int32_t *a_row, const int32_t *b_column,
                             const pyodl_list lists[2], const float *start, float *tile) {
    const int half = rows % 2 ? rows : rows / 2;
    const void *a[16], *b[8];
    running_sums sums;
    int64_t t = 0;
    PYODL_UNROLL
    for (int i = 0; i < rows; i++)
        a[i] = operand_at(step, c->a, a_row[i]);
    PYODL_UNROLL
    for (int j = 0; j < registers; j++)
        b[j] = operand_at(step, c->b, b_column[j]);
    PYODL_UNROLL
    for (int n = 0; n < rows * registers; n++)
        if (start)
            begin_sum_of_zero(step, &sums, n, *start);
        else
            begin_sum(step, &sums, n, tile + n * step_lanes(step));
    if (half < rows)
        for (; t < lists[0].count && t < lists[1].count; t++) {
            add_term(step, 0, half, registers, a, b, &lists[0], t, &sums);
            add_term(step, half, rows, registers, a, b, &lists[1], t, &sums);
        }
    for (int64_t rest = t; rest < lists[0].count; rest++)
        add_term(step, 0, half, registers, a, b, &lists[0], rest, &sums);
    if (half < rows)
        for (int64_t rest = t; rest < lists[1].count; rest++)
            add_term(step, half, rows, registers, a, b, &lists[1], rest, &sums);
    PYODL_UNROLL
    for (int n = 0; n < rows * registers; n++)
        end_sum(step, &sums, n, tile + n * step_lanes(step));
}

/* One function per step and shape, as in tile.h. */
#define PYODL_LISTED_FUNCTION(STEP, ROWS, REGISTERS)                                             \
    static __attribute__((noinline)) void listed_##STEP##_##ROWS##_##REGISTERS(                  \
        const pyodl_contraction *c, const int32_t *a_row, const int32_t *b_column,               \
        const pyodl_list lists[2], const float *start, float *tile) {                            \
        listed_sum(STEP, ROWS, REGISTERS, c, a_row, b_column, lists, start, tile);               \
    }
PYODL_EACH_LISTED_SHAPE(PYODL_LISTED_FUNCTION, STEP_HALF_FMA)
PYODL_EACH_LISTED_SHAPE(PYODL_LISTED_FUNCTION, STEP_HALF_MULADD)
#if PYODL_HAS_BOUNDED
PYODL_EACH_LISTED_SHAPE(PYODL_LISTED_FUNCTION, STEP_BOUNDED_MULADD)
#endif
#define PYODL_LISTED_NAME(STEP, ROWS, REGISTERS) listed_##STEP##_##ROWS##_##REGISTERS,

/* What others make room for: store_straight takes some widths. */
#define PYODL_LISTED_FITS(STEP, ROWS, REGISTERS)                                                 \
    _Static_assert(ROWS <= 16 && ROWS * REGISTERS <= PYODL_SUMS &&                               \
                       REGISTERS <= 8 && (REGISTERS < 5 || REGISTERS % 2 == 0),                  \
                   "a listed shape that does not fit");
PYODL_EACH_LISTED_SHAPE(PYODL_LISTED_FITS, )

/* Compute one tile from the terms that count, or from all of them, in the step's rounding mode and
 * in order of k. */
static inline void compute_listed_tile(const pyodl_contraction *c, int step, int shape,
                                       const int32_t *a_row, const int32_t *b_column, int all,
                                       float *tile) {
    static void (*const functions[PYODL_STEPS][PYODL_ALL_SHAPES - PYODL_LISTED_SHAPES])(
        const pyodl_contraction *, const int32_t *, const int32_t *, const pyodl_list *,
        const float *, float *) = {
        [STEP_HALF_FMA] = {PYODL_EACH_LISTED_SHAPE(PYODL_LISTED_NAME, STEP_HALF_FMA)},
        [STEP_HALF_MULADD] = {PYODL_EACH_LISTED_SHAPE(PYODL_LISTED_NAME, STEP_HALF_MULADD)},
#if PYODL_HAS_BOUNDED
        [STEP_BOUNDED_MULADD] = {PYODL_EACH_LISTED_SHAPE(PYODL_LISTED_NAME, STEP_BOUNDED_MULADD)},
#endif
    };
    const float zero = 0.0f;
    pyodl_list lists[2];
    for (int64_t k = 0; k < c->depth; k += PYODL_LISTED_TERMS) {
        const int64_t rest = c->depth - k;
        const int64_t count = rest < PYODL_LISTED_TERMS ? rest : PYODL_LISTED_TERMS;
        if (all)
            list_all(c->a_k + k, c->b_k + k, count, lists);
        else
            list_for_rows(pyodl_shapes[shape].rows, (const float *)c->a, a_row, c->a_k + k,
                          c->b_k + k, count, lists);
        functions[step][shape - PYODL_LISTED_SHAPES](
            c, a_row, b_column, lists, k ? NULL : &zero, tile);
    }
}

/* ---- what operands are like --------------------------------------------------------------------- */

/* Whether a quarter of so many floats or more are zeros, padding included, by samples of
 * neighbours: lists have their price. */
static inline int many_zeros(const float *values, int64_t count) {
    const int64_t samples = count < 1024 ? 1 : 32, size = count < 1024 ? count : 32;
    int32_t zeros = 0;
    for (uint64_t s = 0; s < (uint64_t)samples; s++) { /* at no pitch that rows might share */
        const float *sample = values + s * 2654435761u % (uint64_t)(count - size + 1);
        for (int64_t i = 0; i < size; i++)
            zeros += sample[i] == 0.0f;
    }
    return 4 * zeros >= samples * size;
}

/* The largest magnitude; a NaN is larger than any. */
static inline float largest_magnitude(const float *values, int64_t count) {
    int32_t largest = 0; /* signed, which more processors compare by registers */
    for (int64_t i = 0; i < count; i++) {
        const int32_t magnitude = (int32_t)(float_bits(values[i]) & 0x7FFFFFFFu);
        largest = magnitude > largest ? magnitude : largest;
    }
    return float_from_bits((uint32_t)largest);
}

/* Whether there is no infinity or NaN, whose product with a zero is one. */
static inline int all_finite(const float *values, int64_t count) {
    return largest_magnitude(values, count) < INFINITY;
}

/* Whether a sum is -0, which a zero product may have made +0. */
static inline int any_negative_zero(const float *values, int64_t count) {
    uint32_t found = 0;
    for (int64_t i = 0; i < count; i++)
        found |= float_bits(values[i]) == 0x80000000u;
    return (int)found;
}

#endif
