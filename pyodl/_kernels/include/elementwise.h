/* Element-wise arithmetic on blocks of stored tensors, lanes first and single values for the rest. */
#ifndef PYODL_ELEMENTWISE_H
#define PYODL_ELEMENTWISE_H

#include "steps.h"

#if PYODL_NATIVE_HALVES
/* out = x + y, or x + bias, of halves: binary32 would round their sum a second time, harmlessly. */
PYODL_INLINE void add_halves(const uint16_t *x, const uint16_t *y, half_lanes bias, uint16_t *out,
                             int64_t count) {
    const int64_t size = 2 * PYODL_LANES;
    for (int64_t i = 0; i < count; i += size) {
        const int64_t now = at_most(count - i, size);
        const half_lanes a = load_some_halves(x + i, now);
        const half_lanes sum = half_lanes_sum(a, y ? load_some_halves(y + i, now) : bias);
        store_some_halves(out + i, half_lanes_canonical(sum), now);
    }
}

/* y += bias. The last whole register of a row is loaded before others are stored, and covers what a
 * mask would: a load waits for a masked store before it, even for lanes that are masked. */
PYODL_INLINE void add_bias_to_halves(uint16_t *y, half_lanes bias, int64_t count) {
    const int64_t size = 2 * PYODL_LANES;
    if (count < size) {
        add_halves(y, NULL, bias, y, count);
        return;
    }
    const half_lanes last = half_lanes_load(y + count - size);
    PYODL_UNROLL_FOUR
    for (int64_t i = 0; i + size < count; i += size)
        half_lanes_store(y + i, half_lanes_canonical(half_lanes_sum(half_lanes_load(y + i), bias)));
    half_lanes_store(y + count - size, half_lanes_canonical(half_lanes_sum(last, bias)));
}
#endif

/* out = x + y. Storing rounds once: the binary32 sum of two 16-bit values may be rounded again. */
PYODL_INLINE void add_block(int format, const void *x, const void *y, void *out, int64_t start,
                            int64_t stop) {
    int64_t i = start;
#if PYODL_NATIVE_HALVES
    if (format == PYODL_FLOAT16) {
        add_halves((const uint16_t *)x + start, (const uint16_t *)y + start, half_lanes_of(0),
                   (uint16_t *)out + start, stop - start);
        return;
    }
#endif
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
#if PYODL_NATIVE_HALVES
    if (format == PYODL_FLOAT16) {
        for (int64_t row = first; row < last; row++)
            add_bias_to_halves((uint16_t *)y + row * columns,
                               half_lanes_of(((const uint16_t *)bias)[row]), columns);
        return;
    }
#endif
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
