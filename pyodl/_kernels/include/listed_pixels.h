/* Lists of the pixels of an image that are not zero, which a ReLU leaves half of. */
#ifndef PYODL_LISTED_PIXELS_H
#define PYODL_LISTED_PIXELS_H

#include "steps.h"

#define PYODL_LISTED_PIXELS 1024 /* at a time */
#define PYODL_TAPS 9              /* of a 3x3 kernel */

/* Pixels that are not zero: their places, and their values in slots of 32 bits. */
typedef struct {
    int64_t count; /* those who fill it keep their own, lest it goes through memory */
    int64_t in_first_row, before_last_row; /* of them, where rows are told apart */
    int32_t place[PYODL_LISTED_PIXELS + PYODL_LANES]; /* room for what is written beyond the count */
    float value[PYODL_LISTED_PIXELS + PYODL_LANES];
} pyodl_pixel_list;

/* Append the lanes that are not zero; return how many are listed then. */
PYODL_INLINE int64_t list_lanes(int step, lanes value, lanes_int places, pyodl_pixel_list *list,
                                int64_t listed) {
#if PYODL_LANES == 16
    const __mmask16 kept =
        _mm512_cmp_ps_mask((__m512)value, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    __m512i slots = _mm512_castps_si512((__m512)value);
    if (step_is_native(step))
        slots = _mm512_cvtepu16_epi32(_mm512_cvtps_ph((__m512)value, PYODL_TO_NEAREST));
    _mm512_storeu_si512(list->place + listed, _mm512_maskz_compress_epi32(kept, (__m512i)places));
    _mm512_storeu_si512(list->value + listed, _mm512_maskz_compress_epi32(kept, slots));
    return listed + __builtin_popcount(kept);
#elif PYODL_LANES == 8
    const unsigned kept = (unsigned)_mm256_movemask_ps(
        _mm256_cmp_ps((__m256)value, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    const __m256i order = marked_first(kept);
    (void)step;
    _mm256_storeu_si256((__m256i *)(list->place + listed),
                        _mm256_permutevar8x32_epi32((__m256i)places, order));
    _mm256_storeu_ps(list->value + listed, _mm256_permutevar8x32_ps((__m256)value, order));
    return listed + __builtin_popcount(kept);
#else
    (void)step;
    for (int n = 0; n < PYODL_LANES; n++) {
        list->place[listed] = places[n];
        list->value[listed] = value[n];
        listed += value[n] != 0.0f;
    }
    return listed;
#endif
}

/* Append those of a register of stored values, or of less, from x[i] on. */
PYODL_INLINE int64_t list_some(int step, int format, const void *x, int64_t i,
                               const int32_t *place, int64_t count, pyodl_pixel_list *list,
                               int64_t listed) {
    lanes_int places;
    memcpy(&places, place, sizeof places);
    return list_lanes(step, load_some(format, x, i, count), places, list, listed);
}

/* Append those of `count` stored values from x[i] on; `place` has one for each, and slack. */
PYODL_INLINE int64_t list_more(int step, int format, const void *x, int64_t i, const int32_t *place,
                               int64_t count, pyodl_pixel_list *list, int64_t listed) {
    int64_t n = 0;
    for (; n + PYODL_LANES <= count; n += PYODL_LANES)
        listed = list_some(step, format, x, i + n, place + n, PYODL_LANES, list, listed);
    if (n < count)
        listed = list_some(step, format, x, i + n, place + n, count - n, list, listed);
    return listed;
}

/* ---- dealt out by the taps that they meet, where a convolution has a stride ------------------- */

/* Pixels lie behind `first` rows and columns of padding and are dealt to every so many outputs, whose
 * places are `width` to a row, `before` of them before the first. */
typedef struct {
    int64_t columns;
    int64_t first[2];
    int64_t deal[2];
    int64_t before, width;
} pyodl_dealing;

/* Some rows of pixels. */
typedef struct {
    int64_t first;
    int64_t stop;
} pyodl_span;

/* Every second, or every so many, of pixels: as many as a register has lanes, or less. Never through
 * memory, which costs as much as all the rest. */
PYODL_INLINE lanes load_dealt(int format, const uint16_t *x, int64_t deal, int64_t count) {
#if PYODL_LANES == 16
    if (deal == 2) {
        const __mmask32 read = PYODL_SOME(__mmask32, 2 * count - 1);
        const __m256i dealt = _mm512_cvtepi32_epi16(_mm512_maskz_loadu_epi16(read, x));
        if (format == PYODL_FLOAT16)
            return (lanes)_mm512_cvtph_ps(dealt);
        return (lanes)((lanes_bits)_mm512_cvtepu16_epi32(dealt) << 16);
    }
#elif PYODL_LANES == 8
    if (deal == 2 && count == 8) {
        const __m128i low = _mm_loadu_si128((const __m128i *)x);
        const __m128i high = _mm_loadu_si128((const __m128i *)(x + 7));
        const __m128i even = _mm_blend_epi16(low, _mm_setzero_si128(), 0xAA);
        const __m128i dealt = _mm_packus_epi32(even, _mm_srli_epi32(high, 16));
        if (format == PYODL_FLOAT16)
            return (lanes)_mm256_cvtph_ps(dealt);
        return (lanes)((lanes_bits)_mm256_cvtepu16_epi32(dealt) << 16);
    }
#endif
    lanes value = {0};
    for (int64_t k = 0; k < count; k++)
        value[k] = load_value(format, x, deal * k);
    return value;
}

/* Append those of every so many of a row's pixels; `place` is that of the first, and the next follow. */
PYODL_INLINE int64_t list_dealt(int step, int format, const uint16_t *x, int64_t deal,
                                int64_t count, int32_t place, pyodl_pixel_list *list,
                                int64_t listed) {
    static const int32_t following[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    lanes_int places;
    memcpy(&places, following, sizeof places);
    places += place;
    for (int64_t n = 0; n < count; n += PYODL_LANES, places += PYODL_LANES)
        listed = list_lanes(step,
                            load_dealt(format, x + n * deal, deal, at_most(count - n, PYODL_LANES)),
                            places, list, listed);
    return listed;
}

/* The first number from `start` on, which is not negative, that leaves so much when divided. */
PYODL_INLINE int64_t next_of_phase(int64_t start, int64_t phase, int64_t divisor) {
    return start + (phase - start % divisor + divisor) % divisor;
}

/* Append those pixels of some rows of a channel that meet the taps (row phase + n deal, column phase +
 * m deal), with their places for n and m of 0. */
PYODL_INLINE void append_phase(int step, int format, const uint16_t *x, const pyodl_dealing *d,
                               pyodl_span rows, int64_t row_phase, int64_t column_phase,
                               pyodl_pixel_list *list) {
    const int64_t up = d->first[0], left = d->first[1], deal = d->deal[1];
    const int64_t padded_column = next_of_phase(left, column_phase, deal);
    const int64_t count = (left + d->columns - padded_column + deal - 1) / deal;
    int64_t padded_row = next_of_phase(rows.first + up, row_phase, d->deal[0]);
    int64_t place = padded_row / d->deal[0] * d->width + d->before + padded_column / deal;
    int64_t listed = list->count;
    for (; padded_row < rows.stop + up; padded_row += d->deal[0], place += d->width)
        listed = list_dealt(step, format, x + (padded_row - up) * d->columns + padded_column - left,
                            deal, count, (int32_t)place, list, listed);
    list->count = listed;
}

/* ---- sums that end as -0 -------------------------------------------------------------------------- */

/* What zeros that are left out make of such a sum is what the first of its terms says, from the last one
 * on back: a product that is not zero leaves it -0, one of +0 makes it +0, one of -0 says nothing. */
enum pyodl_verdict { STAYS_NEGATIVE_ZERO, BECOMES_ZERO, NO_VERDICT };

PYODL_INLINE enum pyodl_verdict term_verdict(uint16_t pixel, float other) {
    if ((pixel & 0x7FFFu) && other != 0.0f)
        return STAYS_NEGATIVE_ZERO;
    return pixel >> 15 == float_bits(other) >> 31 ? BECOMES_ZERO : NO_VERDICT;
}

/* ---- surveys of stored values ------------------------------------------------------------------- */

/* What 16-bit values are like. */
typedef struct {
    int64_t count;
    int64_t zeros;
    uint16_t largest; /* magnitude, as it is stored: infinity and NaN are the largest */
    int negative;     /* whether any is, or -0 */
} pyodl_survey;

static inline pyodl_survey survey_values(const uint16_t *x, int64_t count) {
    const int64_t most = 1 << 14; /* counted in as many bits as a value has, for as many lanes */
    pyodl_survey found = {count, 0, 0, 0};
    uint16_t largest = 0, bits = 0;
    for (int64_t first = 0; first < count; first += most) {
        const int64_t stop = first + at_most(count - first, most);
        uint16_t zeros = 0;
        for (int64_t i = first; i < stop; i++) {
            const uint16_t magnitude = x[i] & 0x7FFFu;
            largest = magnitude > largest ? magnitude : largest;
            bits |= x[i];
            zeros += (uint16_t)(magnitude - 1) >> 15;
        }
        found.zeros += zeros;
    }
    found.largest = largest;
    found.negative = bits >> 15;
    return found;
}

#endif
