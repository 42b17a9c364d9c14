/* Element-wise arithmetic on blocks of stored tensors, lanes first and single values for the rest. */
#ifndef PYODL_ELEMENTWISE_H
#define PYODL_ELEMENTWISE_H

#include "steps.h"

/* out = x + y. Storing rounds once: the binary32 sum of two 16-bit values may be rounded again. */
PYODL_INLINE void add_block(int format, const void *x, const void *y, void *out, int64_t start,
                            int64_t stop) {
    int64_t i = start;
    PYODL_UNROLL_FOUR
    for (; i + PYODL_LANES <= stop; i += PYODL_LANES)
        lanes_store_value(format, out, i,
                          lanes_load_value(format, x, i) + lanes_load_value(format, y, i));
    for (; i < stop; i++)
        store_value(format, out, i, load_value(format, x, i) + load_value(format, y, i));
}

/* y[row] += bias[row] for rows of `columns` values, which lie one after the other. Lanes that run over
 * the end of a row, and only one end at a time, take the next row's bias. */
PYODL_INLINE void add_row_bias_block(int format, const void *bias, void *y, int64_t columns,
                                     int64_t first, int64_t last) {
    const int64_t stop = last * columns;
    int64_t i = first * columns, row = first, end = i + columns;
    lanes now = lanes_of(load_value(format, bias, row));
    lanes_int lane;
    for (int n = 0; n < PYODL_LANES; n++)
        lane[n] = n;
    while (columns >= PYODL_LANES && i + PYODL_LANES <= stop) {
        PYODL_UNROLL_FOUR
        for (; i + PYODL_LANES <= end; i += PYODL_LANES)
            lanes_store_value(format, y, i, lanes_load_value(format, y, i) + now);
        if (i + PYODL_LANES <= stop) {
            const lanes next = lanes_of(load_value(format, bias, ++row));
            const lanes both = (lanes)lanes_select(lane >= (int32_t)(end - i), (lanes_bits)next,
                                                   (lanes_bits)now);
            lanes_store_value(format, y, i, lanes_load_value(format, y, i) + both);
            i += PYODL_LANES;
            end += columns;
            now = next;
        }
    }
    for (; i < stop; i++)
        store_value(format, y, i,
                    load_value(format, y, i) + load_value(format, bias, i / columns));
}

/* out = y + factor * x, one step of the arithmetic, stored. */
PYODL_INLINE void scaled_add_block(int arithmetic, float factor, const void *x, const void *y,
                                   void *out, int64_t start, int64_t stop) {
    const int format = storage_format(arithmetic), step = step_of(arithmetic);
    int64_t i = start;
    if (step_is_native(step)) {
        const half_lanes scale = half_lanes_of(half_from_float(factor));
        PYODL_UNROLL_FOUR
        for (; i + step_lanes(step) <= stop; i += step_lanes(step)) {
            const half_lanes a = half_lanes_load((const uint16_t *)x + i);
            const half_lanes c = half_lanes_load((const uint16_t *)y + i);
            half_lanes_store((uint16_t *)out + i,
                             half_lanes_canonical(half_lanes_step(step, scale, a, c)));
        }
    }
    PYODL_UNROLL_FOUR
    for (; i + PYODL_LANES <= stop; i += PYODL_LANES)
        lanes_store_value(format, out, i,
                          lanes_fma_step(arithmetic, lanes_of(factor),
                                         lanes_load_value(format, x, i),
                                         lanes_load_value(format, y, i)));
    for (; i < stop; i++)
        store_value(format, out, i,
                    fma_step(arithmetic, factor, load_value(format, x, i),
                             load_value(format, y, i)));
}

/* The same loops for each format and arithmetic, so that the choice is made outside of them. */
static inline void add_values(int format, const void *x, const void *y, void *out, int64_t start,
                              int64_t stop) {
    switch (format) {
    case PYODL_FLOAT16: add_block(PYODL_FLOAT16, x, y, out, start, stop); break;
    case PYODL_BFLOAT16: add_block(PYODL_BFLOAT16, x, y, out, start, stop); break;
    default: add_block(PYODL_FLOAT32, x, y, out, start, stop);
    }
}

static inline void add_row_bias(int format, const void *bias, void *y, int64_t columns,
                                int64_t first, int64_t last) {
    switch (format) {
    case PYODL_FLOAT16: add_row_bias_block(PYODL_FLOAT16, bias, y, columns, first, last); break;
    case PYODL_BFLOAT16: add_row_bias_block(PYODL_BFLOAT16, bias, y, columns, first, last); break;
    default: add_row_bias_block(PYODL_FLOAT32, bias, y, columns, first, last);
    }
}

#define PYODL_CASE(ARITHMETIC)                                                                   \
    case ARITHMETIC: scaled_add_block(ARITHMETIC, factor, x, y, out, start, stop); break
static inline void scaled_add(int arithmetic, float factor, const void *x, const void *y, void *out,
                              int64_t start, int64_t stop) {
    switch (arithmetic) {
        PYODL_CASE(PYODL_FP16_FP32ACC);
        PYODL_CASE(PYODL_FP16_FMA);
        PYODL_CASE(PYODL_FP16_MULADD);
        PYODL_CASE(PYODL_BF16_FP32ACC);
        PYODL_CASE(PYODL_BF16_FMA);
        PYODL_CASE(PYODL_FP32);
    }
}
#undef PYODL_CASE

#endif
