/* Stored values to the operands of a contraction, exactly, by rows: to binary32, or halves as they are
 * where a step takes them (steps.h), or pixels read weights as they are stored. */
#ifndef PYODL_STAGE_H
#define PYODL_STAGE_H

#include "lanes.h"

/* What becomes of stored values: floats of one of the formats, by its number, or the same halves. */
enum pyodl_staging { STAGE_HALVES = 3 };

/* The same call for each of them, so that the choice is made outside of its loops. */
#define PYODL_EACH_STAGING(STAGING, CALL)                                                        \
    switch (STAGING) {                                                                           \
    case PYODL_FLOAT16: CALL(PYODL_FLOAT16); break;                                              \
    case PYODL_BFLOAT16: CALL(PYODL_BFLOAT16); break;                                            \
    case PYODL_FLOAT32: CALL(PYODL_FLOAT32); break;                                              \
    case STAGE_HALVES: CALL(STAGE_HALVES); break;                                                \
    }

#define PYODL_CHUNK 256 /* floats of a row that are widened before they are spread */

PYODL_INLINE void *staged_at(int staging, void *array, int64_t i) {
    return (char *)array + i * (staging == STAGE_HALVES ? 2 : 4);
}

PYODL_INLINE void stage_value(int staging, const void *x, int64_t from, void *out, int64_t to) {
    if (staging == STAGE_HALVES)
        ((uint16_t *)out)[to] = ((const uint16_t *)x)[from];
    else
        ((float *)out)[to] = load_value(staging, x, from);
}

/* ---- rows of neighbours ----------------------------------------------------------------------- */

/* A register or less. */
PYODL_INLINE void stage_some(int staging, const void *x, int64_t from, void *out, int64_t to,
                             int64_t count) {
#if PYODL_NATIVE_HALVES
    if (staging == STAGE_HALVES) {
        store_some_halves((uint16_t *)out + to,
                          load_some_halves((const uint16_t *)x + from, count), count);
        return;
    }
#else
    if (staging == STAGE_HALVES) {
        memcpy((uint16_t *)out + to, (const uint16_t *)x + from, (size_t)count * 2);
        return;
    }
#endif
    store_some((float *)out + to, load_some(staging, x, from, count), count);
}

PYODL_INLINE void stage_block(int staging, const void *x, int64_t from, void *out, int64_t to,
                              int64_t count) {
    const int64_t size = (staging == STAGE_HALVES ? 2 : 1) * PYODL_LANES;
    int64_t i = 0;
    PYODL_UNROLL_FOUR
    for (; i + size <= count; i += size)
        stage_some(staging, x, from + i, out, to + i, size);
    if (i < count)
        stage_some(staging, x, from + i, out, to + i, count - i);
}

PYODL_INLINE void stage_rows_block(int staging, const void *x, int64_t from, int64_t row_stride,
                                   void *out, int64_t out_row_stride, int64_t rows,
                                   int64_t count) {
    if (count <= (staging == STAGE_HALVES ? 2 : 1) * PYODL_LANES) { /* with one mask for all */
        PYODL_UNROLL_FOUR
        for (int64_t r = 0; r < rows; r++)
            stage_some(staging, x, from + r * row_stride, out, r * out_row_stride, count);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        stage_block(staging, x, from + r * row_stride, out, r * out_row_stride, count);
}

/* Rows of neighbours to rows of neighbours. */
static inline void stage_plane(int staging, const void *x, int64_t from, int64_t row_stride,
                               void *out, int64_t out_row_stride, int64_t rows, int64_t count) {
#define PYODL_CALL(STAGING)                                                                      \
    stage_rows_block(STAGING, x, from, row_stride, out, out_row_stride, rows, count)
    PYODL_EACH_STAGING(staging, PYODL_CALL)
#undef PYODL_CALL
}

/* Elements of two registers in turn: those with even numbers, those with odd ones. */
#define PYODL_EVENS_4 0, 2, 4, 6
#define PYODL_EVENS_8 PYODL_EVENS_4, 8, 10, 12, 14
#define PYODL_EVENS_16 PYODL_EVENS_8, 16, 18, 20, 22, 24, 26, 28, 30
#define PYODL_EVENS_32                                                                           \
    PYODL_EVENS_16, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62
#define PYODL_ODDS_4 1, 3, 5, 7
#define PYODL_ODDS_8 PYODL_ODDS_4, 9, 11, 13, 15
#define PYODL_ODDS_16 PYODL_ODDS_8, 17, 19, 21, 23, 25, 27, 29, 31
#define PYODL_ODDS_32                                                                            \
    PYODL_ODDS_16, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63
#if PYODL_LANES == 16
#define PYODL_EVENS PYODL_EVENS_16
#define PYODL_ODDS PYODL_ODDS_16
#elif PYODL_LANES == 8
#define PYODL_EVENS PYODL_EVENS_8
#define PYODL_ODDS PYODL_ODDS_8
#else
#define PYODL_EVENS PYODL_EVENS_4
#define PYODL_ODDS PYODL_ODDS_4
#endif

/* Deal out two registers or less: even elements to `even`, odd ones to `odd`, or nowhere if NULL. */
PYODL_INLINE void deal_some(int staging, const void *x, int64_t from, void *even, void *odd,
                            int64_t to, int64_t count) {
    const int64_t evens = (count + 1) / 2, odds = count / 2;
#if PYODL_NATIVE_HALVES
    if (staging == STAGE_HALVES) {
        const uint16_t *source = (const uint16_t *)x + from;
        const int64_t size = 2 * PYODL_LANES, in_low = at_most(count, size);
        const half_lanes low = load_some_halves(source, in_low);
        const half_lanes high = load_some_halves(source + size, count - in_low);
        store_some_halves((uint16_t *)even + to,
                          __builtin_shufflevector(low, high, PYODL_EVENS_32), evens);
        if (odd)
            store_some_halves((uint16_t *)odd + to,
                              __builtin_shufflevector(low, high, PYODL_ODDS_32), odds);
        return;
    }
#else
    if (staging == STAGE_HALVES) {
        for (int64_t i = 0; i < count; i++)
            if (i % 2 == 0 || odd)
                stage_value(STAGE_HALVES, x, from + i, i % 2 ? odd : even, to + i / 2);
        return;
    }
#endif
    const int64_t in_low = at_most(count, PYODL_LANES);
    const lanes low = load_some(staging, x, from, in_low);
    const lanes high = load_some(staging, x, from + PYODL_LANES, count - in_low);
    store_some((float *)even + to, __builtin_shufflevector(low, high, PYODL_EVENS), evens);
    if (odd)
        store_some((float *)odd + to, __builtin_shufflevector(low, high, PYODL_ODDS), odds);
}

PYODL_INLINE void deal_rows_block(int staging, const void *x, int64_t from, int64_t row_stride,
                                  void *even, void *odd, int64_t out_row_stride, int64_t rows,
                                  int64_t count) {
    const int64_t most = 2 * PYODL_LANES * (staging == STAGE_HALVES ? 2 : 1);
    if (count <= most) { /* with the same masks for all */
        PYODL_UNROLL_FOUR
        for (int64_t r = 0; r < rows; r++)
            deal_some(staging, x, from + r * row_stride, even, odd, r * out_row_stride, count);
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = from + r * row_stride, to = r * out_row_stride;
        for (int64_t i = 0; i < count; i += most)
            deal_some(staging, x, row + i, even, odd, to + i / 2, at_most(count - i, most));
    }
}

/* Rows of neighbours dealt out. */
static inline void deal_plane(int staging, const void *x, int64_t from, int64_t row_stride,
                              void *even, void *odd, int64_t out_row_stride, int64_t rows,
                              int64_t count) {
#define PYODL_CALL(STAGING)                                                                      \
    deal_rows_block(STAGING, x, from, row_stride, even, odd, out_row_stride, rows, count)
    PYODL_EACH_STAGING(staging, PYODL_CALL)
#undef PYODL_CALL
}

/* ---- rows of any strides ----------------------------------------------------------------------- */

/* One row. Close strides are widened whole and picked from. */
static inline void stage_row(int staging, const void *x, int64_t from, int64_t stride, void *out,
                             int64_t out_stride, int64_t count) {
    float chunk[PYODL_CHUNK];
    if (staging == STAGE_HALVES) {
        for (int64_t i = 0; i < count; i++)
            stage_value(STAGE_HALVES, x, from + i * stride, out, i * out_stride);
    } else if (stride >= 1 && stride <= 8) {
        const int64_t most = (PYODL_CHUNK - 1) / stride + 1;
        for (int64_t done = 0; done < count; done += most) {
            const int64_t now = at_most(count - done, most);
            stage_plane(staging, x, from + done * stride, 0, chunk, 0, 1, (now - 1) * stride + 1);
            for (int64_t i = 0; i < now; i++)
                ((float *)out)[(done + i) * out_stride] = chunk[i * stride];
        }
    } else {
        for (int64_t i = 0; i < count; i++)
            stage_value(staging, x, from + i * stride, out, i * out_stride);
    }
}

/* ---- transposed -------------------------------------------------------------------------------- */

PYODL_INLINE void stage_eight(int staging, pyodl_eight values, void *out) {
    if (staging == STAGE_HALVES) {
        memcpy(out, &values, sizeof values);
        return;
    }
#if PYODL_LANES >= 8
    if (staging == PYODL_FLOAT16) {
        _mm256_storeu_ps((float *)out, _mm256_cvtph_ps((__m128i)values));
        return;
    }
#endif
    uint16_t stored[8];
    memcpy(stored, &values, sizeof stored);
    for (int i = 0; i < 8; i++)
        stage_value(staging, stored, i, out, i);
}

/* Where element (r, c) of a transposed matrix goes: every `inner` rows lie row_stride apart, and
 * such groups group_stride; columns are neighbours. */
typedef struct {
    void *out;
    int64_t inner;
    int64_t row_stride;
    int64_t group_stride;
} pyodl_target;

/* A row of the matrix on its way down. */
typedef struct {
    int64_t at;
    int64_t left; /* rows of its group from here on */
} pyodl_target_row;

PYODL_INLINE pyodl_target_row target_row(const pyodl_target *t, int64_t r) {
    const int64_t above = r % t->inner;
    return (pyodl_target_row){r / t->inner * t->group_stride + above * t->row_stride,
                              t->inner - above};
}

/* Return where the row begins, and go on to the next. */
PYODL_INLINE int64_t step_row(const pyodl_target *t, pyodl_target_row *row) {
    const int64_t at = row->at;
    row->at += t->row_stride;
    if (--row->left == 0) {
        row->at += t->group_stride - t->inner * t->row_stride;
        row->left = t->inner;
    }
    return at;
}

/* Eight rows from `r` on of all columns but for the last few, eight by eight. */
PYODL_INLINE void stage_eights(int staging, const uint16_t *x, int64_t column_stride,
                               const pyodl_target *t, pyodl_target_row *at, int64_t r,
                               int64_t columns) {
    int64_t row[8];
    for (int i = 0; i < 8; i++)
        row[i] = step_row(t, at);
    for (int64_t c = 0; c + 8 <= columns; c += 8) {
        pyodl_eight block[8];
        PYODL_UNROLL
        for (int j = 0; j < 8; j++)
            memcpy(&block[j], x + (c + j) * column_stride + r, sizeof block[j]);
        transpose_eight(block);
        PYODL_UNROLL
        for (int i = 0; i < 8; i++)
            stage_eight(staging, block[i], staged_at(staging, t->out, row[i] + c));
    }
}

PYODL_INLINE void stage_rest(int staging, const void *x, int64_t column_stride,
                             const pyodl_target *t, int64_t start, int64_t stop, int64_t column,
                             int64_t columns) {
    pyodl_target_row at = target_row(t, start);
    for (int64_t r = start; r < stop && column < columns; r++) {
        const int64_t row = step_row(t, &at);
        for (int64_t c = column; c < columns; c++)
            stage_value(staging, x, c * column_stride + r, t->out, row + c);
    }
}

/* Rows by eights, the last of which may do some again; then the columns that are left over. */
PYODL_INLINE void stage_columns(int staging, const void *x, int64_t column_stride,
                                const pyodl_target *t, int64_t start, int64_t stop,
                                int64_t columns) {
    int64_t done = 0;
    if (staging != PYODL_FLOAT32 && stop - start >= 8) {
        pyodl_target_row at = target_row(t, start);
        for (int64_t r = start; r < stop; r += 8) {
            if (r + 8 > stop) {
                r = stop - 8;
                at = target_row(t, r);
            }
            stage_eights(staging, (const uint16_t *)x, column_stride, t, &at, r, columns);
        }
        done = columns & ~(int64_t)7;
    }
    stage_rest(staging, x, column_stride, t, start, stop, done, columns);
}

/* Matrix rows [start, stop) that are neighbours in the source, with columns that are neighbours in
 * the target. */
static inline void stage_transposed(int staging, const void *x, int64_t from, int64_t column_stride,
                                    void *out, int64_t inner, int64_t row_stride,
                                    int64_t group_stride, int64_t start, int64_t stop,
                                    int64_t columns) {
    const pyodl_target target = {out, inner, row_stride, group_stride};
    const void *source = (const char *)x + from * (staging == PYODL_FLOAT32 ? 4 : 2);
#define PYODL_CALL(STAGING)                                                                      \
    stage_columns(STAGING, source, column_stride, &target, start, stop, columns)
    PYODL_EACH_STAGING(staging, PYODL_CALL)
#undef PYODL_CALL
}

/* Whether there is an infinity or a NaN: an exponent of all ones. */
static inline int32_t has_nonfinite(int format, const void *x, int64_t count) {
    const uint16_t exponent = format == PYODL_FLOAT16 ? 0x7C00u : 0x7F80u;
    uint32_t wide = 0;
    uint16_t found = 0; /* as wide as what is compared, for as many lanes */
    if (format == PYODL_FLOAT32)
        for (int64_t i = 0; i < count; i++)
            wide |= (((const uint32_t *)x)[i] & 0x7F800000u) == 0x7F800000u;
    else
        for (int64_t i = 0; i < count; i++)
            found |= (((const uint16_t *)x)[i] & exponent) == exponent;
    return (int32_t)(wide | found);
}

#endif
