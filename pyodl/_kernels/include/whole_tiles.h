/* Tiles of whole registers, many in a call: sums go from registers to the output.
 *
 * A tile of fused multiply-adds may take no more than a few hundred cycles, beside which the way from
 * one tile to the next through memory is long.
 */
#ifndef PYODL_WHOLE_TILES_H
#define PYODL_WHOLE_TILES_H

#include "store.h"
#include "tile.h"

/* How a plan's tile may be stored: register by register; or, if the outputs of each register are its
 * first lanes, at once: every lane is one, and they are neighbours in the output; or its rows are, or
 * neither. */
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
    int32_t count; /* of the first segment */
} pyodl_register;

typedef struct {
    int32_t first_row;
    int32_t rows;
    int32_t first_register;
    int32_t shape;
    int32_t order;
    int32_t finish;
    int32_t spaced; /* whether rows lie equally far apart (tile.h) */
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
        unordered |= sums_unordered(step, sums, n, n + 1 < count ? n + 1 : n);
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

/* Stored rows of one register that are neighbours in the output. */
PYODL_INLINE void finish_transposed(int size, int rows, pyodl_stored stored, uint16_t *out,
                                    int64_t lane_stride) {
    int i = 0;
    for (; i + 8 <= rows; i += 8)
        store_transposed(8, size, out + i, lane_stride, stored + i);
    if (rows & 4)
        store_transposed(4, size, out + i, lane_stride, stored + i);
    i += rows & 4;
    if (rows & 2)
        store_transposed(2, size, out + i, lane_stride, stored + i);
    i += rows & 2;
    if (rows & 1)
        store_transposed(1, size, out + i, lane_stride, stored + i);
}

/* Stored rows of registers, whose lanes lie apart in the output. A function by itself, since code that
 * compilers have unrolled around a loop costs that loop its registers. */
static __attribute__((noinline)) void finish_apart(const pyodl_plan *p, const pyodl_cut *tile,
                                                   int format, int rows, int registers,
                                                   pyodl_stored stored) {
    const int32_t *out_rows = p->out_row + tile->first_row;
    const int together = PYODL_LANES % 8 == 0 && format != PYODL_FLOAT32 &&
                         tile->finish == FINISH_TRANSPOSED;
    for (int j = 0; j < registers; j++, stored += rows) {
        const pyodl_register *r = p->registers + tile->first_register + j;
        if (together)
            finish_transposed(r->count, rows, stored, (uint16_t *)p->out + out_rows[0] + r->out,
                              p->lane_stride);
        else if (p->lane_stride == 1)
            for (int i = 0; i < rows; i++)
                store_run(format, r->count, p->out, (int64_t)out_rows[i] + r->out, stored[i]);
        else
            for (int i = 0; i < rows; i++)
                scatter(format, r->count, p->out, (int64_t)out_rows[i] + r->out, p->lane_stride,
                        stored[i]);
    }
}

/* Compute and store tiles from `first` on, up to the first one that is of another shape, is not
 * stored at once or has a NaN; return its number. */
PYODL_INLINE int64_t whole_tiles(int step, int format, int rows, int registers, int together,
                                 const pyodl_plan *p, int64_t first, int64_t stop) {
    const int shape = p->tiles[first].shape, spaced = p->tiles[first].spaced;
    uint16_t stored[PYODL_SUMS][2 * PYODL_LANES];
    int64_t t = first;
    for (; t < stop; t++) {
        const pyodl_cut *tile = p->tiles + t;
        const int32_t *out_rows = p->out_row + tile->first_row;
        int32_t b_column[3], columns[3];
        running_sums sums;
        if (tile->shape != shape || tile->spaced != spaced || tile->finish == FINISH_APART)
            break;
        PYODL_UNROLL
        for (int j = 0; j < registers; j++) {
            b_column[j] = p->registers[tile->first_register + j].b_column;
            columns[j] = p->registers[tile->first_register + j].out;
        }
        PYODL_UNROLL
        for (int n = 0; n < rows * registers; n++)
            begin_sum_of_zero(step, &sums, n, 0.0f);
        accumulate(step, rows, registers, together, &p->sum, p->a_row + tile->first_row, b_column, 0,
                   p->sum.depth, 1, &sums);
        if (any_nan(step, rows * registers, &sums))
            break;
        if (tile->finish == FINISH_STRAIGHT) {
            finish_straight(step, format, rows, registers, &sums, p->out, out_rows, columns);
            continue;
        }
        PYODL_UNROLL
        for (int j = 0; j < registers; j++)
            PYODL_UNROLL
            for (int i = 0; i < rows; i++)
                put_sum(step, format, &sums, i * registers + j, stored[j * rows + i], 0);
        finish_apart(p, tile, format, rows, registers, stored);
    }
    return t;
}

/* What sums are computed and stored as, by a name for the functions that do. */
enum {
    BFUSED_STEP = STEP_BFLOAT_FMA,   BFUSED_FORMAT = PYODL_BFLOAT16,
    EXACT_STEP = STEP_EXACT_PRODUCT, EXACT_FORMAT = PYODL_FLOAT16,
    FUSED_STEP = STEP_HALF_FMA,      FUSED_FORMAT = PYODL_FLOAT16,
    UNFUSED_STEP = STEP_HALF_MULADD, UNFUSED_FORMAT = PYODL_FLOAT16,
    BOUNDED_STEP = STEP_BOUNDED_MULADD, BOUNDED_FORMAT = PYODL_FLOAT16,
    BFLOATS_STEP = STEP_FMA32,       BFLOATS_FORMAT = PYODL_BFLOAT16,
    FLOATS_STEP = STEP_FMA32,        FLOATS_FORMAT = PYODL_FLOAT32
};

typedef int64_t (*pyodl_whole)(const pyodl_plan *, int64_t, int64_t);

/* For rows as they come, and for rows that are spaced, if there is a difference. */
#define PYODL_WHOLE_FUNCTIONS(KIND, ROWS, REGISTERS, TOGETHER)                                   \
    static __attribute__((noinline)) int64_t KIND##_##ROWS##_##REGISTERS(                        \
        const pyodl_plan *p, int64_t first, int64_t stop) {                                      \
        return whole_tiles(KIND##_STEP, KIND##_FORMAT, ROWS, REGISTERS, 1, p, first, stop);      \
    }                                                                                            \
    static __attribute__((noinline)) int64_t KIND##_##ROWS##_##REGISTERS##_spaced(               \
        const pyodl_plan *p, int64_t first, int64_t stop) {                                      \
        return TOGETHER == 1 ? KIND##_##ROWS##_##REGISTERS(p, first, stop)                       \
                             : whole_tiles(KIND##_STEP, KIND##_FORMAT, ROWS, REGISTERS,          \
                                           TOGETHER, p, first, stop);                            \
    }
#define PYODL_WHOLE(KIND, ROWS, REGISTERS, TOGETHER)                                             \
    {KIND##_##ROWS##_##REGISTERS, KIND##_##ROWS##_##REGISTERS##_spaced},
#define PYODL_WHOLE_TABLE(KIND)                                                                  \
    PYODL_EACH_SHAPE(PYODL_WHOLE_FUNCTIONS, KIND)                                                \
    static const pyodl_whole KIND##_functions[PYODL_SHAPES][2] = {                               \
        PYODL_EACH_SHAPE(PYODL_WHOLE, KIND)};

PYODL_WHOLE_TABLE(EXACT)
PYODL_WHOLE_TABLE(BFLOATS)
PYODL_WHOLE_TABLE(FLOATS)
#if PYODL_NATIVE_HALVES
PYODL_WHOLE_TABLE(FUSED)
PYODL_WHOLE_TABLE(UNFUSED)
#endif

/* The functions of a step by shape and spacing; NULL if its tiles are stored apart. */
static inline const pyodl_whole (*whole_functions(int step, int format))[2] {
    switch (step) {
    case STEP_EXACT_PRODUCT: return EXACT_functions;
    case STEP_FMA32: return format == PYODL_BFLOAT16 ? BFLOATS_functions : FLOATS_functions;
#if PYODL_NATIVE_HALVES
    case STEP_HALF_FMA: return FUSED_functions;
    case STEP_HALF_MULADD: return UNFUSED_functions;
#endif
    default: return NULL;
    }
}

/* Compute and store tiles of one shape from `first` on; return the first one that is left, which
 * may be `first`. */
static inline int64_t compute_whole_tiles(const pyodl_plan *p, int step, int format,
                                          int64_t first, int64_t stop) {
    const pyodl_whole(*functions)[2] = whole_functions(step, format);
    const pyodl_cut *tile = p->tiles + first;
    return functions ? functions[tile->shape][tile->spaced](p, first, stop) : first;
}

#endif
