/* Two rows in turns: what the phases of a strided convolution's input gradient become. */
#ifndef PYODL_INTERLEAVE_H
#define PYODL_INTERLEAVE_H

#include "stage.h"

#if PYODL_LANES == 16
/* Two registers' 16 first values in turns; returns whether one of all is -0. */
PYODL_INLINE int interleave_registers(__m512i even, __m512i odd, __m512i *both) {
    static const uint16_t order[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i negative_zero = _mm512_set1_epi16((short)0x8000);
    *both = _mm512_permutex2var_epi16(even, _mm512_loadu_si512(order), odd);
    return (_mm512_cmpeq_epi16_mask(even, negative_zero) |
            _mm512_cmpeq_epi16_mask(odd, negative_zero)) != 0;
}

PYODL_INLINE __m512i sixteen_of(const uint16_t *row) {
    return row ? _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)row))
               : _mm512_setzero_si512();
}

/* 32 values in turns, the even ones of which are from `a`; returns whether one is -0. */
PYODL_INLINE int interleave_sixteens(const uint16_t *a, const uint16_t *b, uint16_t *out) {
    __m512i both;
    const int found = interleave_registers(sixteen_of(a), sixteen_of(b), &both);
    _mm512_storeu_si512(out, both);
    return found;
}

/* Fewer than 32. */
PYODL_INLINE int interleave_some(const uint16_t *a, const uint16_t *b, uint16_t *out,
                                 int64_t count) {
    const __mmask32 of_a = PYODL_SOME(__mmask32, (count + 1) / 2);
    const __mmask32 of_b = PYODL_SOME(__mmask32, count / 2);
    const __m512i even = a ? _mm512_maskz_loadu_epi16(of_a, a) : _mm512_setzero_si512();
    const __m512i odd = b ? _mm512_maskz_loadu_epi16(of_b, b) : _mm512_setzero_si512();
    __m512i both;
    const int found = interleave_registers(even, odd, &both);
    _mm512_mask_storeu_epi16(out, PYODL_SOME(__mmask32, count), both);
    return found;
}
#else
/* 16 values in turns, the even ones of which are from `a`; returns whether one is -0. */
PYODL_INLINE int interleave_eights(const uint16_t *a, const uint16_t *b, uint16_t *out) {
    pyodl_eight rows[2] = {{0}, {0}};
    uint64_t found[2];
    if (a)
        memcpy(&rows[0], a, sizeof rows[0]);
    if (b)
        memcpy(&rows[1], b, sizeof rows[1]);
    const pyodl_eight negative_zero = (pyodl_eight)(rows[0] == 0x8000u) |
                                      (pyodl_eight)(rows[1] == 0x8000u);
    memcpy(found, &negative_zero, sizeof found);
    transpose_two(rows);
    memcpy(out, rows, sizeof rows);
    return (found[0] | found[1]) != 0;
}
#endif

PYODL_INLINE void interleave_value(int format, const void *row, int64_t from, void *out,
                                   int64_t to) {
    if (format == PYODL_FLOAT32)
        ((uint32_t *)out)[to] = row ? ((const uint32_t *)row)[from] : 0;
    else
        ((uint16_t *)out)[to] = row ? ((const uint16_t *)row)[from] : 0;
}

/* Where values from i on come from. */
PYODL_INLINE const uint16_t *phase_at(const uint16_t *row, int64_t i) {
    return row ? row + i / 2 : NULL;
}

/* As many of `count` 16-bit values as there are in registers; return whether one is -0, and how many. */
PYODL_INLINE int interleave_most(const uint16_t *a, const uint16_t *b, uint16_t *out,
                                 int64_t count, int64_t *done) {
    int negative_zero = 0;
    int64_t i = 0;
#if PYODL_LANES == 16
    for (; i + 32 <= count; i += 32)
        negative_zero |= interleave_sixteens(phase_at(a, i), phase_at(b, i), out + i);
    if (i < count)
        negative_zero |= interleave_some(phase_at(a, i), phase_at(b, i), out + i, count - i);
    i = count;
#else
    for (; i + 16 <= count; i += 16)
        negative_zero |= interleave_eights(phase_at(a, i), phase_at(b, i), out + i);
#endif
    *done = i;
    return negative_zero;
}

/* `count` values, the even ones of which are from `a`; zeros where a row is NULL. Returns whether one
 * is -0. */
static inline int interleave_row(int format, const void *a, const void *b, void *out,
                                 int64_t count) {
    int negative_zero = 0;
    int64_t i = 0;
    if (format != PYODL_FLOAT32)
        negative_zero = interleave_most((const uint16_t *)a, (const uint16_t *)b, (uint16_t *)out,
                                        count, &i);
    for (; i < count; i++) {
        interleave_value(format, i % 2 ? b : a, i / 2, out, i);
        negative_zero |= is_negative_zero(format, out, i);
    }
    return negative_zero;
}

#endif
