/* What becomes of sums: their NaNs canonical, rounded to the storage format and stored, a register at a
 * time and run by run. */
#ifndef PYODL_STORE_H
#define PYODL_STORE_H

#include "lanes.h"

/* A run of lanes whose outputs are neighbours, lane_stride elements apart. */
typedef struct {
    int32_t lane;
    int32_t count;
    int32_t out;
} pyodl_segment;

/* The rows of one register of a step: row i's values lie from i * row_size on, and its outputs from
 * out_rows[i] on. */
typedef struct {
    const float *values;
    int64_t lanes; /* one or two of PYODL_LANES */
    int64_t row_size;
    const int32_t *out_rows;
    int64_t rows;
    const pyodl_segment *runs;
    int64_t run_count;
} pyodl_rows;

/* Rows of whole registers whose lanes are neighbours in the output: register j of row i goes to
 * out_rows[i] + columns[j]. */
PYODL_INLINE void store_straight_rows(int format, int registers, char *out, const float *values,
                                      const int32_t *out_rows, int64_t rows,
                                      const int32_t *columns) {
    const int64_t size = format == PYODL_FLOAT32 ? 4 : 2;
    char *to[8];
    PYODL_UNROLL
    for (int j = 0; j < registers; j++)
        to[j] = out + columns[j] * size;
    for (int64_t i = 0; i < rows; i++, values += registers * PYODL_LANES) {
        const int64_t row = out_rows[i] * size;
        PYODL_UNROLL
        for (int j = 0; j < registers; j++)
            lanes_store_canonical(format, to[j] + row, 0, lanes_load(values + j * PYODL_LANES));
    }
}

#define PYODL_STRAIGHT(FORMAT, REGISTERS)                                                        \
    case 16 * FORMAT + REGISTERS:                                                                \
        store_straight_rows(FORMAT, REGISTERS, (char *)out, values, out_rows, rows, columns);    \
        break;
#define PYODL_STRAIGHT_CASES(FORMAT)                                                             \
    PYODL_STRAIGHT(FORMAT, 1) PYODL_STRAIGHT(FORMAT, 2) PYODL_STRAIGHT(FORMAT, 3)                \
    PYODL_STRAIGHT(FORMAT, 4) PYODL_STRAIGHT(FORMAT, 6) PYODL_STRAIGHT(FORMAT, 8)
static inline void store_straight(int format, void *out, const float *values,
                                  const int32_t *out_rows, int64_t rows, const int32_t *columns,
                                  int registers) {
    switch (16 * format + registers) {
        PYODL_STRAIGHT_CASES(PYODL_FLOAT16)
        PYODL_STRAIGHT_CASES(PYODL_BFLOAT16)
        PYODL_STRAIGHT_CASES(PYODL_FLOAT32)
    }
}
#undef PYODL_STRAIGHT_CASES
#undef PYODL_STRAIGHT

/* One row to neighbours. */
PYODL_INLINE void store_row(int format, void *out, int64_t to, const pyodl_rows *r, int64_t row) {
    const float *values = r->values + row * r->row_size;
    lanes_store_canonical(format, out, to, lanes_load(values));
    if (format != PYODL_FLOAT32 && r->lanes > PYODL_LANES)
        lanes_store_canonical(format, out, to + PYODL_LANES, lanes_load(values + PYODL_LANES));
}

/* One row in any number of runs. */
PYODL_INLINE void store_runs(int format, void *out, int64_t lane_stride, const pyodl_rows *r,
                             int64_t row) {
    uint32_t stored[PYODL_LANES];
    store_row(format, stored, 0, r, row);
    for (int64_t s = 0; s < r->run_count; s++) {
        const pyodl_segment *run = r->runs + s;
        int64_t to = (int64_t)r->out_rows[row] + run->out;
        for (int32_t i = run->lane; i < run->lane + run->count; i++, to += lane_stride) {
            if (format == PYODL_FLOAT32)
                ((uint32_t *)out)[to] = stored[i];
            else
                ((uint16_t *)out)[to] = ((const uint16_t *)stored)[i];
        }
    }
}

/* Registers of stored values. */
typedef const uint16_t (*pyodl_stored)[2 * PYODL_LANES];

/* The first `size` lanes of a register of stored values to neighbours. */
PYODL_INLINE void store_run(int format, int size, void *out, int64_t to, const void *stored) {
#if PYODL_LANES == 16
    const __m512i values = _mm512_loadu_si512(stored);
    if (format == PYODL_FLOAT32)
        _mm512_mask_storeu_epi32((uint32_t *)out + to, PYODL_SOME(__mmask16, size), values);
    else
        _mm512_mask_storeu_epi16((uint16_t *)out + to, PYODL_SOME(__mmask32, size), values);
#else
    const int64_t bytes = format == PYODL_FLOAT32 ? 4 : 2;
    memcpy((char *)out + to * bytes, stored, (size_t)(size * bytes));
#endif
}

/* The first `size` lanes of a register of stored values, one by one. */
PYODL_INLINE void scatter(int format, int size, void *out, int64_t to, int64_t lane_stride,
                          const void *stored) {
    for (int i = 0; i < size; i++, to += lane_stride)
        if (format == PYODL_FLOAT32)
            ((uint32_t *)out)[to] = ((const uint32_t *)stored)[i];
        else
            ((uint16_t *)out)[to] = ((const uint16_t *)stored)[i];
}

/* The first `size` lanes of 8, 4, 2 or 1 rows of 16-bit values, transposed to neighbours. */
PYODL_INLINE void store_transposed(int count, int size, uint16_t *out, int64_t lane_stride,
                                   pyodl_stored stored) {
    const int together = 8 / count; /* lanes in a register of transposed values */
    for (int first = 0; first < size; first += 8) {
        const int lanes_left = size - first < 8 ? size - first : 8;
        pyodl_eight block[8];
        PYODL_UNROLL
        for (int i = 0; i < count; i++)
            memcpy(&block[i], stored[i] + first, sizeof block[i]);
        if (count == 8)
            transpose_eight(block);
        else if (count == 4)
            transpose_four(block);
        else if (count == 2)
            transpose_two(block);
        for (int lane = 0; lane < lanes_left; lane++)
            memcpy(out + (first + lane) * lane_stride,
                   (const uint16_t *)&block[lane / together] + lane % together * count,
                   (size_t)count * sizeof *out);
    }
}

/* How many rows from `row` on follow one another in the output: 8, 4, 2 or 1. */
PYODL_INLINE int neighbours(const pyodl_rows *r, int64_t row) {
    const int32_t *const out = r->out_rows + row;
    int count = 1;
    while (count < 8 && row + count < r->rows && out[count] == out[0] + count)
        count++;
    return count >= 8 ? 8 : count >= 4 ? 4 : count >= 2 ? 2 : 1;
}

#define PYODL_STORE_CASE(COUNT)                                                                  \
    case COUNT: store_transposed(COUNT, (int)r->lanes, to, lane_stride, stored); break
PYODL_INLINE void store_neighbours(int format, uint16_t *out, int64_t lane_stride,
                                   const pyodl_rows *r) {
    uint16_t stored[8][2 * PYODL_LANES];
    int together;
    for (int64_t row = 0; row < r->rows; row += together) {
        uint16_t *to = out + r->out_rows[row] + r->runs->out;
        together = neighbours(r, row);
        for (int i = 0; i < together; i++)
            store_row(format, stored[i], 0, r, row + i);
        switch (together) {
            PYODL_STORE_CASE(1);
            PYODL_STORE_CASE(2);
            PYODL_STORE_CASE(4);
            PYODL_STORE_CASE(8);
        }
    }
}
#undef PYODL_STORE_CASE

/* Give values, whole registers, the canonical NaN for every NaN. */
PYODL_INLINE void make_canonical(float *values, int64_t size) {
    int unordered = 0;
    for (int64_t i = 0; i < size; i += 2 * PYODL_LANES) {
        const int64_t other = i + PYODL_LANES < size ? i + PYODL_LANES : i;
        unordered |= lanes_unordered(lanes_load(values + i), lanes_load(values + other));
    }
    if (unordered)
        for (int64_t i = 0; i < size; i += PYODL_LANES)
            lanes_store(values + i, lanes_canonical(lanes_load(values + i)));
}

PYODL_INLINE void store_register_rows(int format, void *out, int64_t lane_stride,
                                      const pyodl_rows *r) {
    const int whole = r->run_count == 1 && r->runs->count == r->lanes;
    if (whole && lane_stride == 1)
        for (int64_t row = 0; row < r->rows; row++)
            store_row(format, out, (int64_t)r->out_rows[row] + r->runs->out, r, row);
    else if (whole && PYODL_LANES % 8 == 0 && format != PYODL_FLOAT32)
        store_neighbours(format, (uint16_t *)out, lane_stride, r);
    else
        for (int64_t row = 0; row < r->rows; row++)
            store_runs(format, out, lane_stride, r, row);
}

/* Store all rows of one register, whose NaNs are canonical. */
static inline void store_rows(int format, void *out, int64_t lane_stride, const pyodl_rows *r) {
    switch (format) {
    case PYODL_FLOAT16: store_register_rows(PYODL_FLOAT16, out, lane_stride, r); break;
    case PYODL_BFLOAT16: store_register_rows(PYODL_BFLOAT16, out, lane_stride, r); break;
    default: store_register_rows(PYODL_FLOAT32, out, lane_stride, r);
    }
}

#endif
