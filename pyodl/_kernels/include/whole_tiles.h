/* Tiles of whole registers, many in a call: sums go from registers to the output.
 *
 * A tile of fused multiply-adds may take no more than a few hundred cycles, beside which the way from
 * one tile to the next through memory is long.
 */
#ifndef PYODL_WHOLE_TILES_H
#define PYODL_WHOLE_TILES_H

#include "store.h"
#include "tile.h"

/* How a plan's tile may be stored: register by register; or, if every lane of it is an output, at
 * once: its lanes are neighbours in the output, or its rows are, or neither. */
enum pyodl_finish {
    FINISH_APART = 0,
    FINISH_STRAIGHT = 1,
    FINISH_TRANSPOSED = 2,
    FINISH_SCATTERED = 3
};

/* A register of columns; its segments are those of its lanes that are outputs, the first of which
 * goes to `out`. `padded`: whether a lane of it meets padding for some k. */
typedef struct {
    int32_t b_column;
    int32_t out;
    int32_t first_segment;
    int32_t segments;
    int32_t padded;
} pyodl_register;

typedef struct {
    int32_t first_row;
    int32_t rows;
    int32_t first_register;
    int32_t shape;
    int32_t order;
    int32_t finish;
} pyodl_cut;

typedef struct {
    pyodl_contraction sum;
    const int32_t *a_row;
    const int32_t *out_row;
    const pyodl_register *registers;
    const pyodl_cut *tiles;
    void *out;
    int64_t lane_stride; /* of the output */
} pyodl_plan;

PYODL_INLINE int any_nan(int count, const lanes *sums) {
    int unordered = 0;
    PYODL_UNROLL
    for (int n = 0; n < count; n += 2)
        unordered |= lanes_unordered(sums[n], sums[n + 1]);
    return unordered;
}

PYODL_INLINE void finish_straight(int format, int rows, int registers, const lanes *sums,
                                  void *out, const int32_t *out_rows, const int32_t *columns) {
    PYODL_UNROLL
    for (int i = 0; i < rows; i++)
        PYODL_UNROLL
        for (int j = 0; j < registers; j++)
            lanes_store_canonical(format, out, (int64_t)out_rows[i] + columns[j],
                                  sums[i * registers + j]);
}

PYODL_INLINE void finish_transposed(int format, int rows, int registers, const lanes *sums,
                                    uint16_t *out, int64_t lane_stride, const int32_t *columns) {
    PYODL_UNROLL
    for (int j = 0; j < registers; j++) {
        lanes rows_of_one[16];
        PYODL_UNROLL
        for (int i = 0; i < rows; i++)
            rows_of_one[i] = sums[i * registers + j];
        PYODL_UNROLL
        for (int i = 0; i + 8 <= rows; i += 8)
            store_transposed(format, 8, out + columns[j] + i, lane_stride, rows_of_one + i);
        if (rows & 4)
            store_transposed(format, 4, out + columns[j] + (rows & 8), lane_stride,
                             rows_of_one + (rows & 8));
        if (rows & 2)
            store_transposed(format, 2, out + columns[j] + (rows & 12), lane_stride,
                             rows_of_one + (rows & 12));
    }
}

PYODL_INLINE void finish_scattered(int format, int rows, int registers, const lanes *sums,
                                   void *out, int64_t lane_stride, const int32_t *out_rows,
                                   const int32_t *columns) {
    PYODL_UNROLL
    for (int i = 0; i < rows; i++)
        PYODL_UNROLL
        for (int j = 0; j < registers; j++)
            store_scattered(format, out, (int64_t)out_rows[i] + columns[j], lane_stride,
                            sums[i * registers + j]);
}

/* Compute and store tiles from `first` on, up to the first one that is of another shape, is not
 * stored at once or has a NaN; return its number. */
PYODL_INLINE int64_t whole_tiles(int step, int format, int shape, int rows, int registers,
                                 const pyodl_plan *p, int64_t first, int64_t stop) {
    const int transposes = PYODL_LANES % 8 == 0 && format != PYODL_FLOAT32;
    int64_t t = first;
    for (; t < stop; t++) {
        const pyodl_cut *tile = p->tiles + t;
        const int32_t *out_rows = p->out_row + tile->first_row;
        int32_t b_column[3], columns[3];
        running_sums sums;
        if (tile->shape != shape || tile->finish == FINISH_APART)
            break;
        PYODL_UNROLL
        for (int j = 0; j < registers; j++) {
            b_column[j] = p->registers[tile->first_register + j].b_column;
            columns[j] = p->registers[tile->first_register + j].out;
        }
        PYODL_UNROLL
        for (int n = 0; n < rows * registers; n++)
            begin_sum(step, &sums, n, lanes_of(0.0f));
        accumulate(step, rows, registers, &p->sum, p->a_row + tile->first_row, b_column, 0,
                   p->sum.depth, 1, &sums);
        if (any_nan(rows * registers, sums.values))
            break;
        if (tile->finish == FINISH_STRAIGHT)
            finish_straight(format, rows, registers, sums.values, p->out, out_rows, columns);
        else if (transposes && tile->finish == FINISH_TRANSPOSED)
            finish_transposed(format, rows, registers, sums.values,
                              (uint16_t *)p->out + out_rows[0], p->lane_stride, columns);
        else
            finish_scattered(format, rows, registers, sums.values, p->out, p->lane_stride, out_rows,
                             columns);
    }
    return t;
}

#define PYODL_WHOLE_FUNCTION(STEP, FORMAT, SHAPE, ROWS, REGISTERS)                               \
    static __attribute__((noinline)) int64_t whole_##STEP##_##FORMAT##_##SHAPE(                  \
        const pyodl_plan *p, int64_t first, int64_t stop) {                                      \
        return whole_tiles(STEP, FORMAT, SHAPE, ROWS, REGISTERS, p, first, stop);                \
    }
#define PYODL_WHOLE_FUNCTIONS(STEP, FORMAT)                                                      \
    PYODL_WHOLE_FUNCTION(STEP, FORMAT, 0, PYODL_ROWS_1, 1)                                       \
    PYODL_WHOLE_FUNCTION(STEP, FORMAT, 1, PYODL_ROWS_2, 2)                                       \
    PYODL_WHOLE_FUNCTION(STEP, FORMAT, 2, PYODL_ROWS_3, 3)                                       \
    PYODL_WHOLE_FUNCTION(STEP, FORMAT, 3, PYODL_ROWS_2_LOW, 2)
#define PYODL_WHOLE_TILES(STEP, FORMAT)                                                          \
    {whole_##STEP##_##FORMAT##_0, whole_##STEP##_##FORMAT##_1, whole_##STEP##_##FORMAT##_2,      \
     whole_##STEP##_##FORMAT##_3}

PYODL_WHOLE_FUNCTIONS(STEP_EXACT_PRODUCT, PYODL_FLOAT16)
PYODL_WHOLE_FUNCTIONS(STEP_FMA32, PYODL_BFLOAT16)
PYODL_WHOLE_FUNCTIONS(STEP_FMA32, PYODL_FLOAT32)

/* Compute and store tiles of one shape from `first` on; return the first one that is left, which
 * may be `first`. */
static inline int64_t compute_whole_tiles(const pyodl_plan *p, int step, int format,
                                          int64_t first, int64_t stop) {
    static int64_t (*const functions[3][PYODL_SHAPES])(const pyodl_plan *, int64_t, int64_t) = {
        [PYODL_FLOAT16] = PYODL_WHOLE_TILES(STEP_EXACT_PRODUCT, PYODL_FLOAT16),
        [PYODL_BFLOAT16] = PYODL_WHOLE_TILES(STEP_FMA32, PYODL_BFLOAT16),
        [PYODL_FLOAT32] = PYODL_WHOLE_TILES(STEP_FMA32, PYODL_FLOAT32)};
    if (step != STEP_EXACT_PRODUCT && step != STEP_FMA32)
        return first;
    return functions[format][p->tiles[first].shape](p, first, stop);
}

#endif
