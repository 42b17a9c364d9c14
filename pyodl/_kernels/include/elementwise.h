/* Element-wise arithmetic on blocks of stored tensors, lanes first and single values for the rest. */
#ifndef PYODL_ELEMENTWISE_H
#define PYODL_ELEMENTWISE_H

#include "lanes.h"

/* out = x + y. Storing rounds once: the binary32 sum of two 16-bit values may be rounded again. */
PYODL_INLINE void add_block(int format, const void *x, const void *y, void *out, int64_t start,
                            int64_t stop) {
    int64_t i = start;
    for (; i + PYODL_LANES <= stop; i += PYODL_LANES)
        lanes_store_value(format, out, i,
                          lanes_load_value(format, x, i) + lanes_load_value(format, y, i));
    for (; i < stop; i++)
        store_value(format, out, i, load_value(format, x, i) + load_value(format, y, i));
}

/* out[start:stop] = x[start:stop] + a constant */
PYODL_INLINE void add_constant_block(int format, void *x, float constant, int64_t start,
                                     int64_t stop) {
    int64_t i = start;
    for (; i + PYODL_LANES <= stop; i += PYODL_LANES)
        lanes_store_value(format, x, i, lanes_load_value(format, x, i) + lanes_of(constant));
    for (; i < stop; i++)
        store_value(format, x, i, load_value(format, x, i) + constant);
}

/* out = y + factor * x, one step of the arithmetic, stored. */
PYODL_INLINE void scaled_add_block(int arithmetic, float factor, const void *x, const void *y,
                                   void *out, int64_t start, int64_t stop) {
    const int format = storage_format(arithmetic);
    int64_t i = start;
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

static inline void add_constant(int format, void *x, float constant, int64_t start, int64_t stop) {
    switch (format) {
    case PYODL_FLOAT16: add_constant_block(PYODL_FLOAT16, x, constant, start, stop); break;
    case PYODL_BFLOAT16: add_constant_block(PYODL_BFLOAT16, x, constant, start, stop); break;
    default: add_constant_block(PYODL_FLOAT32, x, constant, start, stop);
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
