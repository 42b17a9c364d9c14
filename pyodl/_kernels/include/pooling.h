/* Average pooling on lanes: forward, lanes are outputs; backward, neighbours along a row. */
#ifndef PYODL_POOLING_H
#define PYODL_POOLING_H

#include "lanes.h"

/* a + b in the accumulator's format. The binary32 sum of two 16-bit values may be rounded again. */
PYODL_INLINE lanes lanes_add_step(int arithmetic, lanes a, lanes b) {
    switch (accumulator_format(arithmetic)) {
    case PYODL_FLOAT16: return lanes_rounded_half(a + b);
    case PYODL_BFLOAT16: return lanes_rounded_bfloat(a + b);
    default: return a + b;
    }
}

/* Eight elements of every lane's row, from `at` on, added in their order. */
PYODL_INLINE lanes add_eights(int arithmetic, const uint16_t *x, const int64_t *starts, int64_t at,
                              lanes total) {
    uint16_t turned[8][PYODL_LANES];
    for (int first = 0; first + 8 <= PYODL_LANES; first += 8) {
        pyodl_eight block[8];
        PYODL_UNROLL
        for (int i = 0; i < 8; i++)
            memcpy(&block[i], x + starts[first + i] + at, sizeof block[i]);
        transpose_eight(block);
        PYODL_UNROLL
        for (int i = 0; i < 8; i++)
            memcpy(turned[i] + first, &block[i], sizeof block[i]);
    }
    PYODL_UNROLL
    for (int i = 0; i < 8; i++)
        total = lanes_add_step(arithmetic, total,
                               lanes_load_value(storage_format(arithmetic), turned[i], 0));
    return total;
}

/* One element of every lane's row. */
PYODL_INLINE lanes add_one(int arithmetic, const void *x, const int64_t *starts, int64_t at,
                           lanes total) {
    const int format = storage_format(arithmetic);
    uint32_t wide[PYODL_LANES];
    uint16_t narrow[PYODL_LANES];
    for (int i = 0; i < PYODL_LANES; i++)
        if (format == PYODL_FLOAT32)
            wide[i] = ((const uint32_t *)x)[starts[i] + at];
        else
            narrow[i] = ((const uint16_t *)x)[starts[i] + at];
    return lanes_add_step(
        arithmetic, total,
        lanes_load_value(format, format == PYODL_FLOAT32 ? (void *)wide : (void *)narrow, 0));
}

/* Sums of as many windows as there are lanes: `rows` runs of `run` neighbours each, pitch apart. */
PYODL_INLINE void sum_windows_of(int arithmetic, const void *x, const int64_t *starts, int64_t rows,
                                 int64_t pitch, int64_t run, float *sums) {
    const int by_eights = PYODL_LANES % 8 == 0 && storage_format(arithmetic) != PYODL_FLOAT32;
    lanes total = lanes_of(0.0f);
    for (int64_t row = 0; row < rows; row++) {
        int64_t i = 0;
        if (by_eights)
            for (; i + 8 <= run; i += 8)
                total = add_eights(arithmetic, (const uint16_t *)x, starts, row * pitch + i, total);
        for (; i < run; i++)
            total = add_one(arithmetic, x, starts, row * pitch + i, total);
    }
    lanes_store(sums, total);
}

/* values[:count] += share, a step each. */
PYODL_INLINE void add_share_of(int arithmetic, float *values, float share, int64_t count) {
    int64_t i = 0;
    for (; i + PYODL_LANES <= count; i += PYODL_LANES)
        lanes_store(values + i,
                    lanes_add_step(arithmetic, lanes_load(values + i), lanes_of(share)));
    for (; i < count; i++)
        values[i] = add(arithmetic, values[i], share);
}

PYODL_INLINE void store_values_of(int format, void *out, int64_t start, const float *values,
                                  int64_t count) {
    int64_t i = 0;
    for (; i + PYODL_LANES <= count; i += PYODL_LANES)
        lanes_store_value(format, out, start + i, lanes_load(values + i));
    for (; i < count; i++)
        store_value(format, out, start + i, values[i]);
}

/* The same for each arithmetic, so that the choice is made outside of the loops. */
#define PYODL_EACH(CALL)                                                                         \
    switch (arithmetic) {                                                                        \
    case PYODL_FP16_FP32ACC: CALL(PYODL_FP16_FP32ACC); break;                                    \
    case PYODL_FP16_FMA:                                                                         \
    case PYODL_FP16_MULADD: CALL(PYODL_FP16_FMA); break; /* sums alone, no products */           \
    case PYODL_BF16_FP32ACC: CALL(PYODL_BF16_FP32ACC); break;                                    \
    case PYODL_BF16_FMA: CALL(PYODL_BF16_FMA); break;                                            \
    default: CALL(PYODL_FP32);                                                                   \
    }

static inline void sum_windows(int arithmetic, const void *x, const int64_t *starts, int64_t rows,
                               int64_t pitch, int64_t run, float *sums) {
#define PYODL_CALL(A) sum_windows_of(A, x, starts, rows, pitch, run, sums)
    PYODL_EACH(PYODL_CALL)
#undef PYODL_CALL
}

static inline void add_share(int arithmetic, float *values, float share, int64_t count) {
#define PYODL_CALL(A) add_share_of(A, values, share, count)
    PYODL_EACH(PYODL_CALL)
#undef PYODL_CALL
}

static inline void store_values(int arithmetic, void *out, int64_t start, const float *values,
                                int64_t count) {
#define PYODL_CALL(A) store_values_of(storage_format(A), out, start, values, count)
    PYODL_EACH(PYODL_CALL)
#undef PYODL_CALL
}

#undef PYODL_EACH
#endif
