/* A register of binary32 lanes, one lane per output element: in, out, and rounded.
 *
 * The orders of docs/numerics.md constrain additions along k only: lanes run across outputs and keep
 * every output's order for free. Lanes hold storage values (exact in binary32). The width follows
 * the instruction set that the file is compiled for; only the functions under an #if differ.
 */
#ifndef PYODL_LANES_H
#define PYODL_LANES_H

#include "arithmetic.h"

#if defined(__AVX512F__) && defined(__AVX512VL__)
#include <immintrin.h>
#define PYODL_LANES 16
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI2__)
#include <immintrin.h>
#define PYODL_LANES 8
#else
#define PYODL_LANES 4
#endif

/* Whether the processor's own instructions compute in binary16. */
#if defined(__AVX512FP16__) && PYODL_LANES == 16
#define PYODL_NATIVE_HALVES 1
#else
#define PYODL_NATIVE_HALVES 0
#endif

#define PYODL_TO_NEAREST (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

#if defined(__clang__)
#define PYODL_UNROLL _Pragma("clang loop unroll(full)")
#define PYODL_UNROLL_FOUR _Pragma("clang loop unroll_count(4)")
#elif defined(__SANITIZE_ADDRESS__) /* every access is checked, which takes minutes to compile unrolled */
#define PYODL_UNROLL
#define PYODL_UNROLL_FOUR
#else
#define PYODL_UNROLL _Pragma("GCC unroll 24")
#define PYODL_UNROLL_FOUR _Pragma("GCC unroll 4")
#endif

typedef float lanes __attribute__((vector_size(4 * PYODL_LANES)));
typedef int32_t lanes_int __attribute__((vector_size(4 * PYODL_LANES)));
typedef uint32_t lanes_bits __attribute__((vector_size(4 * PYODL_LANES)));
typedef uint16_t lanes_half __attribute__((vector_size(2 * PYODL_LANES)));
/* Twice as many halves, of the type that the processor computes in: compilers spill what is cast. */
#if PYODL_NATIVE_HALVES
typedef _Float16 half_lanes __attribute__((vector_size(4 * PYODL_LANES)));
#else
typedef uint16_t half_lanes __attribute__((vector_size(4 * PYODL_LANES)));
#endif

PYODL_INLINE lanes lanes_load(const float *source) {
    lanes value;
    memcpy(&value, source, sizeof value);
    return value;
}

PYODL_INLINE void lanes_store(float *target, lanes value) { memcpy(target, &value, sizeof value); }

PYODL_INLINE half_lanes half_lanes_load(const uint16_t *source) {
    half_lanes value;
    memcpy(&value, source, sizeof value);
    return value;
}

PYODL_INLINE void half_lanes_store(uint16_t *target, half_lanes value) {
    memcpy(target, &value, sizeof value);
}

PYODL_INLINE lanes lanes_of(float value) {
#if PYODL_LANES == 16
    return (lanes)_mm512_set1_ps(value);
#elif PYODL_LANES == 8
    return (lanes)_mm256_set1_ps(value);
#else
    return (lanes){value, value, value, value};
#endif
}

PYODL_INLINE lanes_bits lanes_select(lanes_int mask, lanes_bits yes, lanes_bits no) {
#if PYODL_LANES == 8
    return (lanes_bits)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)mask);
#else
    return ((lanes_bits)mask & yes) | (~(lanes_bits)mask & no);
#endif
}

/* ---- storage to lanes and back ---------------------------------------------------------- */

PYODL_INLINE lanes lanes_from_half(const uint16_t *source) {
#if PYODL_LANES == 16
    return (lanes)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)source));
#elif PYODL_LANES == 8
    return (lanes)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)source));
#else
    lanes value;
    PYODL_UNROLL
    for (int i = 0; i < PYODL_LANES; i++)
        value[i] = float_from_half(source[i]);
    return value;
#endif
}

PYODL_INLINE lanes lanes_from_bfloat(const uint16_t *source) {
    lanes_half bits;
    memcpy(&bits, source, sizeof bits);
    return (lanes)(__builtin_convertvector(bits, lanes_bits) << 16);
}

PYODL_INLINE lanes lanes_load_value(int format, const void *array, int64_t i) {
    switch (format) {
    case PYODL_FLOAT16: return lanes_from_half((const uint16_t *)array + i);
    case PYODL_BFLOAT16: return lanes_from_bfloat((const uint16_t *)array + i);
    default: return lanes_load((const float *)array + i);
    }
}

/* Lanes with the canonical NaN of binary32 for every NaN; rounding makes the canonical NaN of the
 * other formats of it. */
PYODL_INLINE lanes lanes_canonical(lanes value) {
    const lanes_bits nan = (lanes_bits){0} + PYODL_NAN_FLOAT32;
    return (lanes)lanes_select(value == value, (lanes_bits)value, nan);
}

/* Whether there is a NaN in either. */
PYODL_INLINE int lanes_unordered(lanes a, lanes b) {
#if PYODL_LANES == 16
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_UNORD_Q);
#elif PYODL_LANES == 8
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_UNORD_Q));
#else
    const lanes_int unordered = (a != a) | (b != b);
    return unordered[0] | unordered[1] | unordered[2] | unordered[3];
#endif
}

PYODL_INLINE void lanes_to_half(uint16_t *target, lanes value) {
#if PYODL_LANES == 16
    _mm256_storeu_si256(
        (__m256i *)target,
        _mm512_cvtps_ph((__m512)value, PYODL_TO_NEAREST));
#elif PYODL_LANES == 8
    _mm_storeu_si128(
        (__m128i *)target,
        _mm256_cvtps_ph((__m256)value, PYODL_TO_NEAREST));
#else
    for (int i = 0; i < PYODL_LANES; i++)
        target[i] = half_from_float(value[i]);
#endif
}

PYODL_INLINE lanes_bits lanes_rounded_bfloat_bits(lanes value) {
    const lanes_bits bits = (lanes_bits)value;
    return bits + 0x7FFFu + ((bits >> 16) & 1u);
}

PYODL_INLINE void lanes_to_bfloat(uint16_t *target, lanes value) {
    const lanes_bits bits = lanes_rounded_bfloat_bits(value) >> 16;
    const lanes_half stored = __builtin_convertvector(bits, lanes_half);
    memcpy(target, &stored, sizeof stored);
}

/* Round and store lanes whose NaNs are canonical. */
PYODL_INLINE void lanes_store_canonical(int format, void *array, int64_t i, lanes value) {
    switch (format) {
    case PYODL_FLOAT16: lanes_to_half((uint16_t *)array + i, value); break;
    case PYODL_BFLOAT16: lanes_to_bfloat((uint16_t *)array + i, value); break;
    default: lanes_store((float *)array + i, value);
    }
}

PYODL_INLINE void lanes_store_value(int format, void *array, int64_t i, lanes value) {
    lanes_store_canonical(format, array, i, lanes_canonical(value));
}

PYODL_INLINE int64_t at_most(int64_t count, int64_t most) { return count < most ? count : most; }

/* ---- registers, of which only the first `count` lanes count ----------------------------------- */

#if PYODL_LANES == 16
#define PYODL_SOME(TYPE, COUNT) ((TYPE)((1ull << (COUNT)) - 1))

PYODL_INLINE lanes load_some(int format, const void *array, int64_t i, int64_t count) {
    const __mmask16 mask = PYODL_SOME(__mmask16, count);
    if (format == PYODL_FLOAT32)
        return (lanes)_mm512_maskz_loadu_ps(mask, (const float *)array + i);
    const __m256i stored = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)array + i);
    if (format == PYODL_FLOAT16)
        return (lanes)_mm512_cvtph_ps(stored);
    return (lanes)((lanes_bits)_mm512_cvtepu16_epi32(stored) << 16);
}

PYODL_INLINE void store_some(float *target, lanes value, int64_t count) {
    _mm512_mask_storeu_ps(target, PYODL_SOME(__mmask16, count), (__m512)value);
}
#else
PYODL_INLINE lanes load_some(int format, const void *array, int64_t i, int64_t count) {
    float values[PYODL_LANES] = {0};
    if (count == PYODL_LANES)
        return lanes_load_value(format, array, i);
    for (int64_t n = 0; n < count; n++)
        values[n] = load_value(format, array, i + n);
    return lanes_load(values);
}

PYODL_INLINE void store_some(float *target, lanes value, int64_t count) {
    if (count == PYODL_LANES)
        lanes_store(target, value);
    else
        for (int64_t n = 0; n < count; n++)
            target[n] = value[n];
}
#endif

#if PYODL_NATIVE_HALVES
PYODL_INLINE half_lanes load_some_halves(const uint16_t *source, int64_t count) {
    return (half_lanes)_mm512_maskz_loadu_epi16(PYODL_SOME(__mmask32, count), source);
}

PYODL_INLINE void store_some_halves(uint16_t *target, half_lanes value, int64_t count) {
    _mm512_mask_storeu_epi16(target, PYODL_SOME(__mmask32, count), (__m512i)value);
}
#endif

/* ---- rows, transposed ------------------------------------------------------------------------- */

/* Rows of 16-bit values, transposed: so many rows of eight to eight neighbours of so many. */
typedef uint16_t pyodl_eight __attribute__((vector_size(16)));

PYODL_INLINE void transpose_two(pyodl_eight rows[2]) {
    const pyodl_eight a = rows[0], b = rows[1];
    rows[0] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    rows[1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

PYODL_INLINE void transpose_four(pyodl_eight rows[4]) {
    pyodl_eight even[2] = {rows[0], rows[2]}, odd[2] = {rows[1], rows[3]};
    transpose_two(even);
    transpose_two(odd);
    for (int i = 0; i < 2; i++) {
        rows[2 * i] = even[i];
        rows[2 * i + 1] = odd[i];
        transpose_two(rows + 2 * i);
    }
}

/* Three perfect shuffles of all 64. */
PYODL_INLINE void transpose_eight(pyodl_eight rows[8]) {
    PYODL_UNROLL
    for (int stage = 0; stage < 3; stage++) {
        pyodl_eight next[8];
        PYODL_UNROLL
        for (int i = 0; i < 4; i++) {
            next[2 * i] = __builtin_shufflevector(rows[i], rows[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            next[2 * i + 1] =
                __builtin_shufflevector(rows[i], rows[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        memcpy(rows, next, sizeof next);
    }
}

#if PYODL_LANES >= 8
/* The order of eight elements in which those that are marked come first. */
PYODL_INLINE __m256i marked_first(unsigned marks) {
    const uint64_t each = 0x0101010101010101u;
    const uint64_t kept = _pext_u64(0x0706050403020100u, _pdep_u64(marks, each) * 0xFFu);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)kept));
}
#endif

/* ---- rounding in place ------------------------------------------------------------------- */

/* To binary16, to nearest. With F16C the instruction names the mode, so the host's rounding mode
 * (PYODL_ROUNDS_DOWN) is of no account. A NaN stays a NaN: those in here have no low bits. */
PYODL_INLINE lanes lanes_rounded_half(lanes value) {
#if PYODL_LANES == 16
    return (lanes)_mm512_cvtph_ps(
        _mm512_cvtps_ph((__m512)value, PYODL_TO_NEAREST));
#elif PYODL_LANES == 8
    return (lanes)_mm256_cvtph_ps(
        _mm256_cvtps_ph((__m256)value, PYODL_TO_NEAREST));
#else
    const lanes_bits bits = (lanes_bits)value, sign = bits & 0x80000000u, magnitude = bits ^ sign;
    lanes_bits result = (magnitude + 0xFFFu + ((magnitude >> 13) & 1u)) & ~0x1FFFu;
    const lanes small = ((lanes)magnitude + 0.5f) - 0.5f; /* units of 2^-24 */
    const lanes_bits infinity = (lanes_bits){0} + 0x7F800000u;
    result = lanes_select((lanes_int)magnitude < 0x38800000, (lanes_bits)small, result);
    result = lanes_select((lanes_int)result >= 0x47800000, infinity, result);
    result = lanes_select((lanes_int)magnitude > 0x7F800000, magnitude, result);
    return (lanes)(result | sign);
#endif
}

#if PYODL_LANES >= 8
/* Sums of a binary16 accumulator that stay in memory, as halves: to round there and back takes three
 * instructions of the vector units instead of four, of which two have one unit only. The empty
 * assembly keeps compilers from joining the conversion and the store (slower), and from taking
 * the value from the register after all. */
typedef uint16_t half_slot __attribute__((vector_size(2 * PYODL_LANES)));

PYODL_INLINE void slot_store(half_slot *slot, lanes value) {
#if PYODL_LANES == 16
    half_slot half = (half_slot)_mm512_cvtps_ph((__m512)value, PYODL_TO_NEAREST);
#else
    half_slot half = (half_slot)_mm256_cvtps_ph((__m256)value, PYODL_TO_NEAREST);
#endif
#if defined(__AVX__) /* not where AVX-512 is emulated */
    __asm__("" : "+x"(half));
#endif
    *slot = half;
    __asm__("" : "+m"(*slot));
}

PYODL_INLINE lanes slot_load(const half_slot *slot) {
#if PYODL_LANES == 16
    return (lanes)_mm512_cvtph_ps((__m256i)*slot);
#else
    return (lanes)_mm256_cvtph_ps((__m128i)*slot);
#endif
}
#endif

PYODL_INLINE lanes lanes_rounded_bfloat(lanes value) {
    return (lanes)(lanes_rounded_bfloat_bits(value) & 0xFFFF0000u);
}

/* ---- rounding to odd ---------------------------------------------------------------------- */

#if PYODL_LANES == 8
/* AVX2 rounds as MXCSR says: the tiles that round to odd run with "toward minus infinity". */
#define PYODL_ROUNDS_DOWN 1
#else
#define PYODL_ROUNDS_DOWN 0
#endif

/* a * b + c of lanes, rounded to odd in binary32. The exact value lies between the sums rounded
 * down and up; where those differ, one of the two is odd. A zero takes its sign from the sum
 * rounded up, which is the sign that rounding to nearest gives. */
PYODL_INLINE lanes lanes_fma_to_odd(lanes a, lanes b, lanes c) {
#if PYODL_LANES == 16
    const __m512 down = _mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)c,
                                              _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const __mmask16 even = _mm512_testn_epi32_mask(_mm512_castps_si512(down), _mm512_set1_epi32(1));
    return (lanes)_mm512_mask_mov_ps(
        down, even,
        _mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)c,
                              _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC));
#elif PYODL_LANES == 8
    const __m256 down = _mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    __m256 up = (__m256)c; /* -(a * b) - c rounded down; in assembly, lest a compiler cancel signs */
    __asm__("vfnmsub231ps %2, %1, %0" : "+x"(up) : "x"(a), "x"(b));
    up = _mm256_xor_ps(up, _mm256_set1_ps(-0.0f));
    const __m256 odd = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(down), 31));
    return (lanes)_mm256_blendv_ps(up, down, odd);
#else
    lanes result;
    PYODL_UNROLL
    for (int i = 0; i < PYODL_LANES; i++)
        result[i] = fma_to_odd(a[i], b[i], c[i]);
    return result;
#endif
}

/* p + c rounded to odd for p a product of two halves and c a half: TwoSum in binary32, where no
 * such sum overflows. For code that runs in the host's ordinary rounding mode. */
PYODL_INLINE lanes lanes_half_sum_to_odd(lanes p, lanes c) {
    const lanes s = p + c, b = s - p;
    const lanes error = (p - (s - b)) + (c - b);
    const lanes_int inexact = (error > 0.0f) | (error < 0.0f);
    const lanes_int apart = ((lanes_int)error ^ (lanes_int)s) >> 31; /* -1: the sum is too large */
    const lanes_int truncated = (lanes_int)s + (inexact & apart);
    return (lanes)(truncated | (inexact & 1));
}

#endif
