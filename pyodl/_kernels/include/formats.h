/* Storage formats as bits: binary16, bfloat16 and binary32 to binary32 values and back.
 *
 * Every value of the three formats is exact in binary32, so kernels compute on floats that hold
 * storage values, and only the functions here round. Rounding is to nearest, ties to even;
 * subnormals are kept; a NaN result is the RISC-V canonical one (docs/numerics.md, section 1).
 */
#ifndef PYODL_FORMATS_H
#define PYODL_FORMATS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define PYODL_INLINE static inline __attribute__((always_inline, unused))

enum pyodl_format { PYODL_FLOAT16 = 0, PYODL_BFLOAT16 = 1, PYODL_FLOAT32 = 2 };

#define PYODL_NAN_FLOAT16 0x7E00u
#define PYODL_NAN_BFLOAT16 0x7FC0u
#define PYODL_NAN_FLOAT32 0x7FC00000u

PYODL_INLINE float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

PYODL_INLINE uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

PYODL_INLINE double double_from_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

PYODL_INLINE uint64_t double_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Integer steps only, but for one exact subtraction: no host subnormal is ever touched. */
PYODL_INLINE float float_from_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t magnitude = (uint32_t)(half & 0x7FFFu) << 13;
    uint32_t bits;
    if (magnitude >= 0x0F800000u)       /* infinity or NaN: the exponent becomes all ones */
        bits = magnitude + 0x70000000u;
    else if (magnitude >= 0x00800000u)  /* normal: rebias the exponent by 127 - 15 */
        bits = magnitude + 0x38000000u;
    else                                /* subnormal: let the subtraction normalise; rounding down, */
        bits = float_bits(float_from_bits(magnitude + 0x38800000u) - float_from_bits(0x38800000u)) &
               0x7FFFFFFFu;             /* as some kernels do, it makes -0 of +0 */
    return float_from_bits(bits | sign);
}

PYODL_INLINE uint16_t half_from_float(float value) {
    const uint32_t bits = float_bits(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return PYODL_NAN_FLOAT16;
    if (magnitude >= 0x477FF000u) /* 65520 and up: nearer to 2^16 than to 65504, or tied */
        return (uint16_t)(sign | 0x7C00u);
    if (magnitude < 0x38800000u)  /* below 2^-14: adding 0.5 leaves units of 2^-24 */
        magnitude = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3F000000u;
    else
        magnitude = (magnitude + 0xC8000FFFu + ((magnitude >> 13) & 1u)) >> 13;
    return (uint16_t)(sign | magnitude);
}

PYODL_INLINE float float_from_bfloat(uint16_t bits) {
    return float_from_bits((uint32_t)bits << 16);
}

PYODL_INLINE uint16_t bfloat_from_float(float value) {
    const uint32_t bits = float_bits(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return PYODL_NAN_BFLOAT16;
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

PYODL_INLINE float canonical_float(float value) {
    return value == value ? value : float_from_bits(PYODL_NAN_FLOAT32);
}

/* Round-to-odd: truncate, then set the last bit if anything was cut off. A later rounding to
 * nearest in a format at least two bits narrower gives what one rounding of the exact value gives
 * (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008). */

/* p + c, rounded to odd in binary64; the error of the rounded sum comes from TwoSum (Knuth). */
PYODL_INLINE double sum_to_odd(double p, double c) {
    const double s = p + c;
    const double b = s - p;
    const double error = (p - (s - b)) + (c - b);
    uint64_t bits = double_bits(s);
    if ((error > 0.0 || error < 0.0) && !(bits & 1u))
        bits += (error > 0.0) == (s > 0.0) ? 1u : (uint64_t)-1;
    return double_from_bits(bits);
}

/* A binary64 value rounded to odd in binary32, binary32 subnormals and overflow included. */
PYODL_INLINE float narrow_to_odd(double value) {
    const float nearest = (float)value;
    uint32_t bits = float_bits(nearest);
    const double back = (double)nearest;
    if ((back > value || back < value) && !(bits & 1u))
        bits += fabs(back) > fabs(value) ? (uint32_t)-1 : 1u;
    return float_from_bits(bits);
}

/* a * b + c of binary32 values, rounded to odd in binary32: the product is exact in binary64. */
PYODL_INLINE float fma_to_odd(float a, float b, float c) {
    return narrow_to_odd(sum_to_odd((double)a * (double)b, (double)c));
}

/* a * b + c of binary32 values with one rounding, on any host. */
PYODL_INLINE float fma_float(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return (float)sum_to_odd((double)a * (double)b, (double)c);
#endif
}

PYODL_INLINE float load_value(int format, const void *array, int64_t i) {
    switch (format) {
    case PYODL_FLOAT16: return float_from_half(((const uint16_t *)array)[i]);
    case PYODL_BFLOAT16: return float_from_bfloat(((const uint16_t *)array)[i]);
    default: return ((const float *)array)[i];
    }
}

PYODL_INLINE int is_negative_zero(int format, const void *array, int64_t i) {
    return format == PYODL_FLOAT32 ? ((const uint32_t *)array)[i] == 0x80000000u
                                   : ((const uint16_t *)array)[i] == 0x8000u;
}

PYODL_INLINE void store_value(int format, void *array, int64_t i, float value) {
    switch (format) {
    case PYODL_FLOAT16: ((uint16_t *)array)[i] = half_from_float(value); break;
    case PYODL_BFLOAT16: ((uint16_t *)array)[i] = bfloat_from_float(value); break;
    default: ((float *)array)[i] = canonical_float(value);
    }
}

PYODL_INLINE float round_value(int format, float value) {
    switch (format) {
    case PYODL_FLOAT16: return float_from_half(half_from_float(value));
    case PYODL_BFLOAT16: return float_from_bfloat(bfloat_from_float(value));
    default: return value;
    }
}

#endif
