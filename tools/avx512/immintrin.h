/* The intrinsics that the 16-lane kernels use, in plain C after Intel's descriptions: a header to
 * put in front of the compiler's own, so that those kernels run where there is no AVX-512. */
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
typedef uint32_t __mmask32;

#define _MM_FROUND_TO_NEAREST_INT 0
#define _MM_FROUND_TO_NEG_INF 1
#define _MM_FROUND_TO_POS_INF 2
#define _MM_FROUND_NO_EXC 8

#define EMULATED static inline __attribute__((always_inline, unused))

/* Loops over the lanes of a register, by their type. */
#define EMULATED_LANES(TYPE, REGISTER) (int)(sizeof(REGISTER) / sizeof(TYPE))
#define EMULATED_EACH(TYPE, REGISTER) for (int i = 0; i < EMULATED_LANES(TYPE, REGISTER); i++)

/* ---- all lanes alike, casts, whole registers ----------------------------------------------- */

#define EMULATED_SET(NAME, REGISTER, TYPE)                                                       \
    EMULATED REGISTER NAME(TYPE value) {                                                         \
        TYPE all[sizeof(REGISTER) / sizeof(TYPE)];                                               \
        REGISTER result;                                                                         \
        EMULATED_EACH(TYPE, REGISTER) all[i] = value;                                            \
        memcpy(&result, all, sizeof result);                                                     \
        return result;                                                                           \
    }
EMULATED_SET(_mm512_set1_ps, __m512, float)
EMULATED_SET(_mm512_set1_epi32, __m512i, int32_t)
EMULATED_SET(_mm512_set1_epi16, __m512i, int16_t)
EMULATED_SET(_mm256_set1_epi32, __m256i, int32_t)

EMULATED __m512 _mm512_setzero_ps(void) { return (__m512){0}; }
EMULATED __m512i _mm512_setzero_si512(void) { return (__m512i){0}; }
EMULATED __m256 _mm256_setzero_ps(void) { return (__m256){0}; }

EMULATED __m256i _mm256_setr_epi32(int a, int b, int c, int d, int e, int f, int g, int h) {
    const int32_t values[8] = {a, b, c, d, e, f, g, h};
    __m256i result;
    memcpy(&result, values, sizeof result);
    return result;
}

EMULATED __m128i _mm_cvtsi64_si128(long long value) { return (__m128i){value, 0}; }

EMULATED __m512i _mm512_castps_si512(__m512 a) { return (__m512i)a; }

EMULATED __m256i _mm512_extracti64x4_epi64(__m512i a, int half) {
    __m256i result;
    memcpy(&result, (const char *)&a + 32 * half, sizeof result);
    return result;
}

EMULATED __m512i _mm512_zextsi256_si512(__m256i a) {
    __m512i result = {0};
    memcpy(&result, &a, sizeof a);
    return result;
}

EMULATED __m256i _mm512_cvtepi32_epi16(__m512i a) {
    __m256i result;
    for (int i = 0; i < 16; i++)
        result[i] = (int16_t)a[i];
    return result;
}

/* The larger magnitude with its own sign; `which` is not looked at, but for those who read it. */
EMULATED __m512 _mm512_range_ps(__m512 a, __m512 b, int which) {
    __m512 result;
    (void)which;
    for (int i = 0; i < 16; i++)
        result[i] = fabsf(a[i]) >= fabsf(b[i]) ? a[i] : b[i];
    return result;
}

#define _mm512_castsi512_si256(a) _mm512_extracti64x4_epi64(a, 0)

#define EMULATED_LOAD(NAME, REGISTER, TYPE)                                                      \
    EMULATED REGISTER NAME(const TYPE *from) {                                                   \
        REGISTER value;                                                                          \
        memcpy(&value, from, sizeof value);                                                      \
        return value;                                                                            \
    }
#define EMULATED_STORE(NAME, REGISTER, TYPE)                                                     \
    EMULATED void NAME(TYPE *to, REGISTER value) { memcpy(to, &value, sizeof value); }
EMULATED_LOAD(_mm512_loadu_si512, __m512i, void)
EMULATED_LOAD(_mm256_loadu_si256, __m256i, __m256i)
EMULATED_LOAD(_mm256_loadu_ps, __m256, float)
EMULATED_STORE(_mm512_storeu_si512, __m512i, void)
EMULATED_STORE(_mm256_storeu_si256, __m256i, __m256i)
EMULATED_STORE(_mm256_storeu_ps, __m256, float)

/* ---- masks: what is masked out is neither read nor written --------------------------------- */

#define EMULATED_MASKED(TYPE, LOAD, STORE, REGISTER, MASK)                                       \
    EMULATED REGISTER LOAD(MASK mask, const void *from) {                                        \
        TYPE lanes[sizeof(REGISTER) / sizeof(TYPE)] = {0};                                       \
        REGISTER value;                                                                          \
        EMULATED_EACH(TYPE, REGISTER)                                                            \
        if (mask >> i & 1)                                                                       \
            memcpy(&lanes[i], (const TYPE *)from + i, sizeof(TYPE));                             \
        memcpy(&value, lanes, sizeof value);                                                     \
        return value;                                                                            \
    }                                                                                            \
    EMULATED void STORE(void *to, MASK mask, REGISTER value) {                                   \
        EMULATED_EACH(TYPE, REGISTER)                                                            \
        if (mask >> i & 1)                                                                       \
            memcpy((TYPE *)to + i, (const TYPE *)&value + i, sizeof(TYPE));                      \
    }
EMULATED_MASKED(float, _mm512_maskz_loadu_ps, _mm512_mask_storeu_ps, __m512, __mmask16)
EMULATED_MASKED(int32_t, _mm512_maskz_loadu_epi32, _mm512_mask_storeu_epi32, __m512i, __mmask16)
EMULATED_MASKED(int16_t, _mm512_maskz_loadu_epi16, _mm512_mask_storeu_epi16, __m512i, __mmask32)
EMULATED_MASKED(int16_t, _mm256_maskz_loadu_epi16, _mm256_mask_storeu_epi16, __m256i, __mmask16)

EMULATED __m512 _mm512_mask_mov_ps(__m512 source, __mmask16 mask, __m512 a) {
    EMULATED_EACH(float, __m512)
    if (mask >> i & 1)
        source[i] = a[i];
    return source;
}

EMULATED __m512i _mm512_mask_set1_epi16(__m512i source, __mmask32 mask, short value) {
    int16_t lanes[32];
    memcpy(lanes, &source, sizeof lanes);
    EMULATED_EACH(int16_t, __m512i)
    if (mask >> i & 1)
        lanes[i] = value;
    memcpy(&source, lanes, sizeof source);
    return source;
}

EMULATED __m512i _mm512_maskz_compress_epi32(__mmask16 mask, __m512i a) {
    int32_t lanes[16] = {0};
    __m512i result;
    int kept = 0;
    EMULATED_EACH(int32_t, __m512i)
    if (mask >> i & 1)
        lanes[kept++] = a[i];
    memcpy(&result, lanes, sizeof result);
    return result;
}

/* ---- comparisons --------------------------------------------------------------------------- */

#define _CMP_UNORD_Q 3 /* the two predicates that the kernels use */
#define _CMP_NEQ_UQ 4

EMULATED int emulated_compare(float a, float b, int predicate) {
    return predicate == _CMP_UNORD_Q ? isnan(a) || isnan(b) : !(a == b);
}

EMULATED __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int predicate) {
    unsigned mask = 0;
    EMULATED_EACH(float, __m512) mask |= (unsigned)emulated_compare(a[i], b[i], predicate) << i;
    return (__mmask16)mask;
}

EMULATED __m256 _mm256_cmp_ps(__m256 a, __m256 b, int predicate) {
    int32_t lanes[8];
    __m256 result;
    EMULATED_EACH(float, __m256) lanes[i] = -emulated_compare(a[i], b[i], predicate);
    memcpy(&result, lanes, sizeof result);
    return result;
}

EMULATED int _mm256_movemask_ps(__m256 a) {
    unsigned mask = 0;
    EMULATED_EACH(float, __m256) mask |= (unsigned)(signbit(a[i]) != 0) << i;
    return (int)mask;
}

EMULATED __m256i _mm256_cmpeq_epi32(__m256i a, __m256i b) {
    int32_t left[8], right[8];
    memcpy(left, &a, sizeof left);
    memcpy(right, &b, sizeof right);
    EMULATED_EACH(int32_t, __m256i) left[i] = -(left[i] == right[i]);
    memcpy(&a, left, sizeof a);
    return a;
}

EMULATED int _mm256_movemask_epi8(__m256i a) {
    int8_t lanes[32];
    unsigned mask = 0;
    memcpy(lanes, &a, sizeof lanes);
    EMULATED_EACH(int8_t, __m256i) mask |= (unsigned)(lanes[i] < 0) << i;
    return (int)mask;
}

EMULATED __mmask32 _mm512_cmpeq_epi16_mask(__m512i a, __m512i b) {
    int16_t left[32], right[32];
    __mmask32 mask = 0;
    memcpy(left, &a, sizeof left);
    memcpy(right, &b, sizeof right);
    EMULATED_EACH(int16_t, __m512i) mask |= (__mmask32)(left[i] == right[i]) << i;
    return mask;
}

EMULATED __mmask16 _mm512_testn_epi32_mask(__m512i a, __m512i b) {
    unsigned mask = 0;
    EMULATED_EACH(int32_t, __m512i) mask |= (unsigned)!(a[i] & b[i]) << i;
    return (__mmask16)mask;
}

/* ---- integers, and lanes in another order -------------------------------------------------- */

EMULATED __m256i _mm256_add_epi32(__m256i a, __m256i b) {
    uint32_t left[8], right[8];
    memcpy(left, &a, sizeof left);
    memcpy(right, &b, sizeof right);
    EMULATED_EACH(uint32_t, __m256i) left[i] += right[i];
    memcpy(&a, left, sizeof a);
    return a;
}

EMULATED __m512i _mm512_add_epi16(__m512i a, __m512i b) {
    uint16_t left[32], right[32];
    memcpy(left, &a, sizeof left);
    memcpy(right, &b, sizeof right);
    EMULATED_EACH(uint16_t, __m512i) left[i] = (uint16_t)(left[i] + right[i]);
    memcpy(&a, left, sizeof a);
    return a;
}

EMULATED __m512i _mm512_cvtepu16_epi32(__m256i a) {
    __m512i result;
    EMULATED_EACH(int32_t, __m512i) result[i] = (uint16_t)a[i];
    return result;
}

EMULATED __m256i _mm256_cvtepu8_epi32(__m128i a) {
    uint8_t bytes[16];
    int32_t lanes[8];
    __m256i result;
    memcpy(bytes, &a, sizeof bytes);
    EMULATED_EACH(int32_t, __m256i) lanes[i] = bytes[i];
    memcpy(&result, lanes, sizeof result);
    return result;
}

EMULATED __m256i _mm256_permutevar8x32_epi32(__m256i a, __m256i order) {
    int32_t from[8], places[8], lanes[8];
    memcpy(from, &a, sizeof from);
    memcpy(places, &order, sizeof places);
    EMULATED_EACH(int32_t, __m256i) lanes[i] = from[places[i] & 7];
    memcpy(&a, lanes, sizeof a);
    return a;
}

EMULATED __m512i _mm512_permutex2var_epi16(__m512i a, __m512i order, __m512i b) {
    uint16_t from[64], places[32], lanes[32];
    memcpy(from, &a, sizeof a);
    memcpy(from + 32, &b, sizeof b);
    memcpy(places, &order, sizeof places);
    EMULATED_EACH(uint16_t, __m512i) lanes[i] = from[places[i] & 63];
    memcpy(&a, lanes, sizeof a);
    return a;
}

/* Bits of `source` where the mask has ones, closed up; and spread again. */
EMULATED uint64_t _pext_u64(uint64_t source, uint64_t mask) {
    uint64_t result = 0;
    for (int n = 0; mask; mask &= mask - 1, n++)
        result |= (source >> __builtin_ctzll(mask) & 1) << n;
    return result;
}

EMULATED uint64_t _pdep_u64(uint64_t source, uint64_t mask) {
    uint64_t result = 0;
    for (int n = 0; mask; mask &= mask - 1, n++)
        result |= (source >> n & 1) << __builtin_ctzll(mask);
    return result;
}

/* ---- binary32, fused ----------------------------------------------------------------------- */

/* fmaf honours the host's rounding mode; volatile keeps the compiler from computing ahead. */
static __attribute__((noinline, unused)) __m512 emulated_fma(__m512 a, __m512 b, __m512 c,
                                                             int rounding) {
    const int mode = (rounding & 3) == _MM_FROUND_TO_NEG_INF   ? FE_DOWNWARD
                     : (rounding & 3) == _MM_FROUND_TO_POS_INF ? FE_UPWARD
                                                               : FE_TONEAREST;
    const int saved = fegetround();
    __m512 result;
    if (mode != saved)
        fesetround(mode);
    for (int i = 0; i < 16; i++) {
        volatile float x = a[i], y = b[i], z = c[i];
        volatile float sum = fmaf(x, y, z);
        result[i] = sum;
    }
    if (mode != saved)
        fesetround(saved);
    return result;
}

#define _mm512_fmadd_round_ps(a, b, c, rounding) emulated_fma(a, b, c, rounding)
#define _mm512_fmadd_ps(a, b, c) emulated_fma(a, b, c, _MM_FROUND_TO_NEAREST_INT)

/* ---- binary16 ------------------------------------------------------------------------------ */

/* A NaN keeps the head of its payload, and becomes quiet. */
EMULATED float emulated_widen(uint16_t half) {
    const uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7FFFu;
    uint32_t bits = sign | ((magnitude << 13) + (112u << 23));
    float result;
    if (magnitude > 0x7C00u)
        bits = sign | 0x7FC00000u | magnitude << 13;
    else if (magnitude == 0x7C00u)
        bits = sign | 0x7F800000u;
    memcpy(&result, &bits, sizeof result);
    if (magnitude < 0x0400u)
        result = sign ? -0x1p-24f * (float)magnitude : 0x1p-24f * (float)magnitude;
    return result;
}

/* To nearest, ties to even; carries walk into the exponent by themselves. */
EMULATED uint16_t emulated_narrow(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const unsigned sign = (unsigned)(bits >> 48) & 0x8000u;
    const int exponent = (int)(bits >> 52 & 0x7FF) - 1023;
    const uint64_t fraction = (bits & ((1ull << 52) - 1)) | 1ull << 52;
    const int shift = exponent >= -14 ? 42 : 42 - 14 - exponent;
    if (isnan(value))
        return (uint16_t)(sign | 0x7E00u | (unsigned)(bits >> 42 & 0x3FF));
    if (exponent >= 16)
        return (uint16_t)(sign | 0x7C00u);
    if (shift > 53) /* less than half of the least */
        return (uint16_t)sign;
    const uint64_t half = 1ull << (shift - 1), rest = fraction & (2 * half - 1);
    uint64_t units = fraction >> shift;
    units += rest > half || (rest == half && (units & 1));
    if (exponent > -14)
        units += (uint64_t)(exponent + 14) << 10;
    return (uint16_t)(sign | units);
}

EMULATED __m512 _mm512_cvtph_ps(__m256i half) {
    __m512 result;
    EMULATED_EACH(float, __m512) result[i] = emulated_widen((uint16_t)half[i]);
    return result;
}

EMULATED __m256i emulated_narrow_all(__m512 value) {
    __m256i result;
    EMULATED_EACH(float, __m512) result[i] = (int16_t)emulated_narrow(value[i]);
    return result;
}

#define _mm512_cvtps_ph(value, rounding) emulated_narrow_all(value) /* always to nearest */

EMULATED __m256 _mm256_cvtph_ps(__m128i half) {
    uint16_t bits[8];
    __m256 result;
    memcpy(bits, &half, sizeof bits);
    EMULATED_EACH(float, __m256) result[i] = emulated_widen(bits[i]);
    return result;
}

#if defined(__AVX512FP16__)
/* Arithmetic on halves by their bits, since compilers compute with _Float16 as they like. In
 * binary64 products of halves are exact. So is their sum with a half, unless more than 53 bits lie
 * between head and tail: then the half stands, or the product is too large for one. */
typedef _Float16 __m512h __attribute__((vector_size(64)));

#define EMULATED_HALVES(NAME, PARAMETERS, EXPRESSION)                                            \
    static __attribute__((noinline, unused)) __m512h NAME PARAMETERS {                           \
        uint16_t x[32], y[32], z[32];                                                            \
        __m512h result;                                                                          \
        memcpy(x, &a, sizeof x);                                                                 \
        memcpy(y, &b, sizeof y);                                                                 \
        memcpy(z, &c, sizeof z);                                                                 \
        EMULATED_EACH(uint16_t, __m512h) {                                                       \
            const double p = emulated_widen(x[i]), q = emulated_widen(y[i]);                     \
            const double r = emulated_widen(z[i]);                                               \
            (void)r;                                                                             \
            x[i] = emulated_narrow(EXPRESSION);                                                  \
        }                                                                                        \
        memcpy(&result, x, sizeof result);                                                       \
        return result;                                                                           \
    }
EMULATED_HALVES(_mm512_fmadd_ph, (__m512h a, __m512h b, __m512h c), p * q + r)
EMULATED_HALVES(emulated_mul_ph, (__m512h a, __m512h b, __m512h c), p * q)
EMULATED_HALVES(emulated_add_ph, (__m512h a, __m512h b, __m512h c), p + q)
#define _mm512_mul_ph(a, b) emulated_mul_ph(a, b, (__m512h){0})
#define _mm512_add_ph(a, b) emulated_add_ph(a, b, (__m512h){0})

EMULATED __mmask32 _mm512_cmp_ph_mask(__m512h a, __m512h b, int predicate) {
    uint16_t left[32], right[32];
    __mmask32 mask = 0;
    memcpy(left, &a, sizeof left);
    memcpy(right, &b, sizeof right);
    EMULATED_EACH(uint16_t, __m512h)
    mask |= (__mmask32)emulated_compare(emulated_widen(left[i]), emulated_widen(right[i]),
                                        predicate)
            << i;
    return mask;
}
#endif

#endif
