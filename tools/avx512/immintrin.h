/* The intrinsics that the 16-lane kernels use, in plain C after Intel's descriptions: a header to put
 * in front of the compiler's own, so that those kernels can be run where there is no AVX-512. */
#ifndef PYODL_EMULATED_IMMINTRIN_H
#define PYODL_EMULATED_IMMINTRIN_H

#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float __m512 __attribute__((vector_size(64)));
typedef int32_t __m512i __attribute__((vector_size(64)));
typedef float __m256 __attribute__((vector_size(32)));
typedef int16_t __m256i __attribute__((vector_size(32)));
typedef long long __m128i __attribute__((vector_size(16)));
typedef uint16_t __mmask16;

#define _MM_FROUND_TO_NEAREST_INT 0
#define _MM_FROUND_TO_NEG_INF 1
#define _MM_FROUND_TO_POS_INF 2
#define _MM_FROUND_NO_EXC 8

#define EMULATED static inline __attribute__((always_inline, unused))

EMULATED __m512 _mm512_set1_ps(float value) {
    __m512 result;
    for (int i = 0; i < 16; i++)
        result[i] = value;
    return result;
}

EMULATED __m512i _mm512_set1_epi32(int value) {
    __m512i result;
    for (int i = 0; i < 16; i++)
        result[i] = value;
    return result;
}

EMULATED __m512i _mm512_castps_si512(__m512 a) { return (__m512i)a; }

EMULATED __mmask16 _mm512_testn_epi32_mask(__m512i a, __m512i b) {
    __mmask16 mask = 0;
    for (int i = 0; i < 16; i++)
        if (!(a[i] & b[i]))
            mask |= (__mmask16)(1u << i);
    return mask;
}

#define _CMP_UNORD_Q 3

EMULATED __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int predicate) {
    __mmask16 mask = 0;
    for (int i = 0; i < 16; i++) /* the one predicate that the kernels use */
        if (predicate == _CMP_UNORD_Q && (isnan(a[i]) || isnan(b[i])))
            mask |= (__mmask16)(1u << i);
    return mask;
}

EMULATED __m512 _mm512_mask_mov_ps(__m512 source, __mmask16 mask, __m512 a) {
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            source[i] = a[i];
    return source;
}

/* fmaf honours the host's rounding mode; volatile keeps the compiler from computing ahead. */
static __attribute__((noinline, unused)) __m512 emulated_fma(__m512 a, __m512 b, __m512 c,
                                                             int rounding) {
    const int mode = (rounding & 3) == _MM_FROUND_TO_NEG_INF   ? FE_DOWNWARD
                     : (rounding & 3) == _MM_FROUND_TO_POS_INF ? FE_UPWARD
                                                               : FE_TONEAREST;
    const int saved = fegetround();
    __m512 result;
    fesetround(mode);
    for (int i = 0; i < 16; i++) {
        volatile float x = a[i], y = b[i], z = c[i];
        volatile float sum = fmaf(x, y, z);
        result[i] = sum;
    }
    fesetround(saved);
    return result;
}

#define _mm512_fmadd_round_ps(a, b, c, rounding) emulated_fma(a, b, c, rounding)
#define _mm512_fmadd_ps(a, b, c) emulated_fma(a, b, c, _MM_FROUND_TO_NEAREST_INT)

EMULATED float emulated_widen(uint16_t half) {
    const float magnitude = (half & 0x7C00) == 0x7C00
                                ? (half & 0x03FF ? NAN : INFINITY)
                            : half & 0x7C00
                                ? ldexpf((float)(0x0400 | (half & 0x03FF)), (half >> 10 & 31) - 25)
                                : ldexpf((float)(half & 0x03FF), -24);
    return half & 0x8000 ? -magnitude : magnitude;
}

/* To nearest, ties to even: the quotient by the unit in the last place, made an integer. */
EMULATED uint16_t emulated_narrow(float value) {
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    const double magnitude = fabs((double)value);
    int exponent;
    if (isnan(value))
        return sign | 0x7E00;
    if (magnitude >= 65520.0) /* half way to 2^16 */
        return sign | 0x7C00;
    frexp(magnitude, &exponent);
    const int unit = exponent - 11 < -24 || magnitude == 0 ? -24 : exponent - 11;
    const int units = (int)nearbyint(ldexp(magnitude, -unit));
    /* Carries walk into the exponent by themselves; a subnormal has none. */
    return sign | (uint16_t)(unit == -24 ? units : units + ((unit + 24) << 10));
}

EMULATED __m512 _mm512_cvtph_ps(__m256i half) {
    __m512 result;
    for (int i = 0; i < 16; i++)
        result[i] = emulated_widen((uint16_t)half[i]);
    return result;
}

EMULATED __m256i emulated_narrow_all(__m512 value) {
    __m256i result;
    for (int i = 0; i < 16; i++)
        result[i] = (int16_t)emulated_narrow(value[i]);
    return result;
}

#define _mm512_cvtps_ph(value, rounding) emulated_narrow_all(value) /* always to nearest */

EMULATED __m256 _mm256_cvtph_ps(__m128i half) {
    uint16_t bits[8];
    __m256 result;
    memcpy(bits, &half, sizeof bits);
    for (int i = 0; i < 8; i++)
        result[i] = emulated_widen(bits[i]);
    return result;
}

EMULATED void _mm256_storeu_ps(float *to, __m256 value) { memcpy(to, &value, sizeof value); }

EMULATED __m256i _mm256_loadu_si256(const __m256i *from) {
    __m256i value;
    memcpy(&value, from, sizeof value);
    return value;
}

EMULATED void _mm256_storeu_si256(__m256i *to, __m256i value) { memcpy(to, &value, sizeof value); }

#endif
