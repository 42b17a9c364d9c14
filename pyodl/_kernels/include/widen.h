/* Storage values to binary32, exactly, by rows: what operands of a contraction are made of. */
#ifndef PYODL_WIDEN_H
#define PYODL_WIDEN_H

#include "lanes.h"

#define PYODL_CHUNK 256 /* floats of a row that are widened before they are spread */

/* Neighbours to neighbours. */
PYODL_INLINE void widen_block(int format, const void *x, int64_t first, float *out, int64_t count) {
    int64_t i = 0;
    for (; i + PYODL_LANES <= count; i += PYODL_LANES)
        lanes_store(out + i, lanes_load_value(format, x, first + i));
    for (; i < count; i++)
        out[i] = load_value(format, x, first + i);
}

static inline void widen_values(int format, const void *x, int64_t first, float *out,
                                int64_t count) {
    switch (format) {
    case PYODL_FLOAT16: widen_block(PYODL_FLOAT16, x, first, out, count); break;
    case PYODL_BFLOAT16: widen_block(PYODL_BFLOAT16, x, first, out, count); break;
    default: memcpy(out, (const float *)x + first, (size_t)count * sizeof *out);
    }
}

/* Rows of neighbours to rows of neighbours. */
PYODL_INLINE void widen_rows_block(int format, const void *x, int64_t first, int64_t row_stride,
                                   float *out, int64_t out_row_stride, int64_t rows,
                                   int64_t count) {
    for (int64_t r = 0; r < rows; r++)
        widen_block(format, x, first + r * row_stride, out + r * out_row_stride, count);
}

static inline void widen_plane(int format, const void *x, int64_t first, int64_t row_stride,
                               float *out, int64_t out_row_stride, int64_t rows, int64_t count) {
    switch (format) {
    case PYODL_FLOAT16:
        widen_rows_block(PYODL_FLOAT16, x, first, row_stride, out, out_row_stride, rows, count);
        break;
    case PYODL_BFLOAT16:
        widen_rows_block(PYODL_BFLOAT16, x, first, row_stride, out, out_row_stride, rows, count);
        break;
    default:
        widen_rows_block(PYODL_FLOAT32, x, first, row_stride, out, out_row_stride, rows, count);
    }
}

/* Elements of two registers in turn: those with even numbers, those with odd ones. */
#if PYODL_LANES == 16
#define PYODL_EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define PYODL_ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif PYODL_LANES == 8
#define PYODL_EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define PYODL_ODDS 1, 3, 5, 7, 9, 11, 13, 15
#else
#define PYODL_EVENS 0, 2, 4, 6
#define PYODL_ODDS 1, 3, 5, 7
#endif

/* Rows of neighbours dealt out: even elements to `even`, odd ones to `odd`, or nowhere if NULL. */
PYODL_INLINE void deal_rows_block(int format, const void *x, int64_t first, int64_t row_stride,
                                  float *even, float *odd, int64_t out_row_stride, int64_t rows,
                                  int64_t count) {
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = first + r * row_stride, to = r * out_row_stride;
        int64_t i = 0;
        for (; i + 2 * PYODL_LANES <= count; i += 2 * PYODL_LANES) {
            const lanes low = lanes_load_value(format, x, row + i);
            const lanes high = lanes_load_value(format, x, row + i + PYODL_LANES);
            lanes_store(even + to + i / 2, __builtin_shufflevector(low, high, PYODL_EVENS));
            if (odd)
                lanes_store(odd + to + i / 2, __builtin_shufflevector(low, high, PYODL_ODDS));
        }
        for (; i < count; i++)
            if (i % 2 == 0)
                even[to + i / 2] = load_value(format, x, row + i);
            else if (odd)
                odd[to + i / 2] = load_value(format, x, row + i);
    }
}

static inline void deal_plane(int format, const void *x, int64_t first, int64_t row_stride,
                              float *even, float *odd, int64_t out_row_stride, int64_t rows,
                              int64_t count) {
    switch (format) {
    case PYODL_FLOAT16:
        deal_rows_block(PYODL_FLOAT16, x, first, row_stride, even, odd, out_row_stride, rows, count);
        break;
    case PYODL_BFLOAT16:
        deal_rows_block(PYODL_BFLOAT16, x, first, row_stride, even, odd, out_row_stride, rows,
                        count);
        break;
    default:
        deal_rows_block(PYODL_FLOAT32, x, first, row_stride, even, odd, out_row_stride, rows, count);
    }
}

/* One row of any strides. Close strides are widened whole and picked from. */
static inline void widen_row(int format, const void *x, int64_t first, int64_t stride, float *out,
                             int64_t out_stride, int64_t count) {
    float chunk[PYODL_CHUNK];
    if (stride >= 1 && stride <= 8) {
        const int64_t most = (PYODL_CHUNK - 1) / stride + 1;
        for (int64_t done = 0; done < count; done += most) {
            const int64_t now = count - done < most ? count - done : most;
            widen_values(format, x, first + done * stride, chunk, (now - 1) * stride + 1);
            for (int64_t i = 0; i < now; i++)
                out[(done + i) * out_stride] = chunk[i * stride];
        }
    } else {
        for (int64_t i = 0; i < count; i++)
            out[i * out_stride] = load_value(format, x, first + i * stride);
    }
}

PYODL_INLINE void widen_eight(int format, pyodl_eight values, float *out) {
#if PYODL_LANES >= 8
    if (format == PYODL_FLOAT16) {
        _mm256_storeu_ps(out, _mm256_cvtph_ps((__m128i)values));
        return;
    }
#endif
    uint16_t stored[8];
    memcpy(stored, &values, sizeof stored);
    widen_block(format, stored, 0, out, 8);
}

/* Where element (r, c) of a transposed matrix goes: every `inner` rows lie row_stride apart, and
 * such groups group_stride; columns are neighbours. */
typedef struct {
    float *out;
    int64_t inner;
    int64_t row_stride;
    int64_t group_stride;
} pyodl_target;

PYODL_INLINE float *target_row(const pyodl_target *t, int64_t r) {
    return t->out + r / t->inner * t->group_stride + r % t->inner * t->row_stride;
}

/* Rows [start, stop) of columns [column, column + 8), eight by eight; returns the first row left. */
PYODL_INLINE int64_t widen_eights(int format, const uint16_t *x, int64_t column_stride,
                                  const pyodl_target *t, int64_t start, int64_t stop,
                                  int64_t column) {
    int64_t r = start;
    for (; r + 8 <= stop; r += 8) {
        pyodl_eight block[8];
        PYODL_UNROLL
        for (int j = 0; j < 8; j++)
            memcpy(&block[j], x + (column + j) * column_stride + r, sizeof block[j]);
        transpose_eight(block);
        if (r % t->inner + 8 <= t->inner) {
            float *row = target_row(t, r) + column;
            PYODL_UNROLL
            for (int i = 0; i < 8; i++)
                widen_eight(format, block[i], row + i * t->row_stride);
        } else {
            for (int i = 0; i < 8; i++)
                widen_eight(format, block[i], target_row(t, r + i) + column);
        }
    }
    return r;
}

/* Matrix rows [start, stop) that are neighbours in the source, with columns that are neighbours in
 * the target. */
static inline void widen_transposed(int format, const void *x, int64_t first, int64_t column_stride,
                                    float *out, int64_t inner, int64_t row_stride,
                                    int64_t group_stride, int64_t start, int64_t stop,
                                    int64_t columns) {
    const pyodl_target target = {out, inner, row_stride, group_stride};
    int64_t c = 0;
    if (format != PYODL_FLOAT32)
        for (; c + 8 <= columns; c += 8) {
            const uint16_t *from = (const uint16_t *)x + first;
            const int64_t done =
                format == PYODL_FLOAT16
                    ? widen_eights(PYODL_FLOAT16, from, column_stride, &target, start, stop, c)
                    : widen_eights(PYODL_BFLOAT16, from, column_stride, &target, start, stop, c);
            for (int64_t r = done; r < stop; r++)
                for (int64_t j = c; j < c + 8; j++)
                    target_row(&target, r)[j] = load_value(format, x, first + j * column_stride + r);
        }
    for (int64_t r = start; r < stop; r++)
        for (int64_t j = c; j < columns; j++)
            target_row(&target, r)[j] = load_value(format, x, first + j * column_stride + r);
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
