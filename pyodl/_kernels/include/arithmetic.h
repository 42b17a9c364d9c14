/* The six arithmetics of docs/numerics.md, section 2, on single values.
 *
 * A value lives in a float and always is a value of the accumulator format. add, sub, mul, div and
 * root round once to that format; fma() is fused or not as the arithmetic's name says. load()
 * widens a stored element, store() rounds to the storage format: the only rounding there is where
 * the accumulator is binary32.
 */
#ifndef PYODL_ARITHMETIC_H
#define PYODL_ARITHMETIC_H

#include "formats.h"

enum pyodl_arithmetic { /* the order of pyodl.arithmetic.ARITHMETICS */
    PYODL_FP16_FP32ACC = 0,
    PYODL_FP16_FMA = 1,
    PYODL_FP16_MULADD = 2,
    PYODL_BF16_FP32ACC = 3,
    PYODL_BF16_FMA = 4,
    PYODL_FP32 = 5
};

PYODL_INLINE int storage_format(int arithmetic) {
    return arithmetic <= PYODL_FP16_MULADD ? PYODL_FLOAT16
         : arithmetic <= PYODL_BF16_FMA ? PYODL_BFLOAT16 : PYODL_FLOAT32;
}

PYODL_INLINE int accumulator_format(int arithmetic) {
    switch (arithmetic) {
    case PYODL_FP16_FMA:
    case PYODL_FP16_MULADD: return PYODL_FLOAT16;
    case PYODL_BF16_FMA: return PYODL_BFLOAT16;
    default: return PYODL_FLOAT32;
    }
}

PYODL_INLINE float load(int arithmetic, const void *array, int64_t i) {
    return load_value(storage_format(arithmetic), array, i);
}

PYODL_INLINE void store(int arithmetic, void *array, int64_t i, float value) {
    store_value(storage_format(arithmetic), array, i, value);
}

/* Round a binary32 value to the accumulator format. */
PYODL_INLINE float rounded(int arithmetic, float value) {
    return round_value(accumulator_format(arithmetic), value);
}

/* Round a binary32 value to the storage format. */
PYODL_INLINE float stored(int arithmetic, float value) {
    return round_value(storage_format(arithmetic), value);
}

/* binary32 carries more than twice the bits of the 16-bit formats plus two, so that rounding its
 * sum, product, quotient or root once more equals rounding the exact one (Figueroa, 1995). */
PYODL_INLINE float add(int arithmetic, float a, float b) { return rounded(arithmetic, a + b); }
PYODL_INLINE float sub(int arithmetic, float a, float b) { return rounded(arithmetic, a - b); }
PYODL_INLINE float mul(int arithmetic, float a, float b) { return rounded(arithmetic, a * b); }
PYODL_INLINE float quotient(int arithmetic, float a, float b) { return rounded(arithmetic, a / b); }
PYODL_INLINE float root(int arithmetic, float a) { return rounded(arithmetic, sqrtf(a)); }

/* c + a * b, the heart of every kernel. */
PYODL_INLINE float fma_step(int arithmetic, float a, float b, float c) {
    switch (arithmetic) {
    case PYODL_FP16_MULADD:
        return add(arithmetic, mul(arithmetic, a, b), c);
    case PYODL_FP16_FMA:
    case PYODL_BF16_FMA:
        return rounded(arithmetic, fma_to_odd(a, b, c));
    default:
        return fma_float(a, b, c);
    }
}

/* c + a * b where the firmware computes in float whatever the arithmetic: fused unless the
 * arithmetic's name says otherwise, never rounded to 16 bits. */
PYODL_INLINE float float_step(int arithmetic, float a, float b, float c) {
    return arithmetic == PYODL_FP16_MULADD ? a * b + c : fma_float(a, b, c);
}

#endif
