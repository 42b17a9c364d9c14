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

PYODL_INLINE int any_nan(int step, int count, const running_sums *sums) {
    int unordered = 0;
    PYODL_UNROLL
    for (int n = 0; n < count; n += 2)
        unordered |= sums_unordered(step, sums, n);
    return unordered;
}

PYODL_INLINE void finish_straight(int step, int format, int rows, int registers,
                                  const running_sums *sums, void *out, const int32_t *out_rows,
                                  const int32_t *columns) {
    PYODL_UNROLL
    for (int i = 0; i < rows; i++)
        PYODL_UNROLL
        for (int j = 0; j < registers; j++)
            put_sum(step, format, sums, i * registers + j, out, (int64_t)out_rows[i] + columns[j]);
}

PYODL_INLINE void finish_transposed(int step, int format, int rows, int registers,
                                    const running_sums *sums, uint16_t *out, int64_t lane_stride,
                                    const int32_t *columns) {
    const int size = step_lanes(step);
    PYODL_UNROLL
    for (int j = 0; j < registers; j++) {
        uint16_t stored[16][2 * PYODL_LANES];
        PYODL_UNROLL
        for (int i = 0; i < rows; i++)
            put_sum(step, format, sums, i * registers + j, stored[i], 0);
        PYODL_UNROLL
        for (int i = 0; i + 8 <= rows; i += 8)
            store_transposed(8, size, out + columns[j] + i, lane_stride, stored + i);
        if (rows & 4)
            store_transposed(4, size, out + columns[j] + (rows & 8), lane_stride,
                             stored + (rows & 8));
        if (rows & 2)
            store_transposed(2, size, out + columns[j] + (rows & 12), lane_stride,
                             stored + (rows & 12));
    }
}

PYODL_INLINE void finish_scattered(int step, int format, int rows, int registers,
                                   const running_sums *sums, void *out, int64_t lane_stride,
                                   const int32_t *out_rows, const int32_t *columns) {
    PYODL_UNROLL
    for (int i = 0; i < rows; i++)
        PYODL_UNROLL
        for (int j = 0; j < registers; j++) {
            uint32_t stored[PYODL_LANES];
            put_sum(step, format, sums, i * registers + j, stored, 0);
            scatter(format, step_lanes(step), out, (int64_t)out_rows[i] + columns[j], lane_stride,
                    stored);
        }
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
            begin_sum_of_zero(step, &sums, n, 0.0f);
        accumulate(step, rows, registers, &p->sum, p->a_row + tile->first_row, b_column, 0,
                   p->sum.depth, 1, &sums);
        if (any_nan(step, rows * registers, &sums))
            break;
        if (tile->finish == FINISH_STRAIGHT)
            finish_straight(step, format, rows, registers, &sums, p->out, out_rows, columns);
        else if (transposes && tile->finish == FINISH_TRANSPOSED)
            finish_transposed(step, format, rows, registers, &sums,
                              (uint16_t *)p->out + out_rows[0], p->lane_stride, columns);
        else
            finish_scattered(step, format, rows, registers, &sums, p->out, p->lane_stride,
                             out_rows, columns);
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
#if PYODL_NATIVE_HALVES
PYODL_WHOLE_FUNCTIONS(STEP_HALF_FMA, PYODL_FLOAT16)
PYODL_WHOLE_FUNCTIONS(STEP_HALF_MULADD, PYODL_FLOAT16)
#endif

typedef int64_t (*pyodl_whole)(const pyodl_plan *, int64_t, int64_t);

/* Compute and store tiles of one shape from `first` on; return the first one that is left, which
 * may be `first`. */
static inline int64_t compute_whole_tiles(const pyodl_plan *p, int step, int format,
                                          int64_t first, int64_t stop) {
    static const pyodl_whole exact[] = PYODL_WHOLE_TILES(STEP_EXACT_PRODUCT, PYODL_FLOAT16),
                             bfloats[] = PYODL_WHOLE_TILES(STEP_FMA32, PYODL_BFLOAT16),
                             floats[] = PYODL_WHOLE_TILES(STEP_FMA32, PYODL_FLOAT32);
    const pyodl_whole *functions = NULL;
#if PYODL_NATIVE_HALVES
    static const pyodl_whole fused[] = PYODL_WHOLE_TILES(STEP_HALF_FMA, PYODL_FLOAT16),
                             unfused[] = PYODL_WHOLE_TILES(STEP_HALF_MULADD, PYODL_FLOAT16);
    if (step_is_native(step))
        functions = step == STEP_HALF_FMA ? fused : unfused;
#endif
    if (step == STEP_EXACT_PRODUCT)
        functions = exact;
    else if (step == STEP_FMA32)
        functions = format == PYODL_BFLOAT16 ? bfloats : floats;
    return functions ? functions[p->tiles[first].shape](p, first, stop) : first;
}

#endif
