/* Lists of the pixels of an image that are not zero, which a ReLU leaves half of. */
#ifndef PYODL_LISTED_PIXELS_H
#define PYODL_LISTED_PIXELS_H

#include "steps.h"

#define PYODL_LISTED_PIXELS 1024 /* at a time */

/* What came of sums by pixels that must not stand as it is. */
enum { PIXELS_ARE_FINE = 0, PIXELS_ARE_NAN = 1, PIXELS_ARE_NEGATIVE_ZERO = 2 };

/* Pixels that are not zero: their places, and their values in slots of 32 bits. */
typedef struct {
    int64_t count;
    int32_t place[PYODL_LISTED_PIXELS + PYODL_LANES]; /* room for what is written beyond the count */
    float value[PYODL_LISTED_PIXELS + PYODL_LANES];
} pyodl_pixel_list;

#if PYODL_LANES == 16
PYODL_INLINE void list_some(int step, int format, const void *x, int64_t i, const int32_t *place,
                            int64_t count, pyodl_pixel_list *list) {
    const __m512 value = (__m512)load_some(format, x, i, count);
    const __mmask16 kept = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    const __m512i places = _mm512_maskz_loadu_epi32(PYODL_SOME(__mmask16, count), place);
    __m512i slots = _mm512_castps_si512(value);
    if (step_is_native(step))
        slots = _mm512_cvtepu16_epi32(_mm512_cvtps_ph(value, PYODL_TO_NEAREST));
    _mm512_storeu_si512(list->place + list->count, _mm512_maskz_compress_epi32(kept, places));
    _mm512_storeu_si512(list->value + list->count, _mm512_maskz_compress_epi32(kept, slots));
    list->count += __builtin_popcount(kept);
}
#elif PYODL_LANES == 8
PYODL_INLINE void list_some(int step, int format, const void *x, int64_t i, const int32_t *place,
                            int64_t count, pyodl_pixel_list *list) {
    const __m256 value = (__m256)load_some(format, x, i, count);
    const unsigned kept = (unsigned)_mm256_movemask_ps(
        _mm256_cmp_ps(value, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    const __m256i order = marked_first(kept), places = _mm256_loadu_si256((const __m256i *)place);
    (void)step;
    _mm256_storeu_si256((__m256i *)(list->place + list->count),
                        _mm256_permutevar8x32_epi32(places, order));
    _mm256_storeu_ps(list->value + list->count, _mm256_permutevar8x32_ps(value, order));
    list->count += __builtin_popcount(kept);
}
#else
PYODL_INLINE void list_some(int step, int format, const void *x, int64_t i, const int32_t *place,
                            int64_t count, pyodl_pixel_list *list) {
    (void)step;
    for (int64_t n = 0; n < count; n++) {
        const float value = load_value(format, x, i + n);
        list->place[list->count] = place[n];
        list->value[list->count] = value;
        list->count += value != 0.0f;
    }
}
#endif

/* Append those of `count` stored values from x[i] on; `place` has one for each, and slack. */
PYODL_INLINE void append_pixels(int step, int format, const void *x, int64_t i,
                                const int32_t *place, int64_t count, pyodl_pixel_list *list) {
    int64_t n = 0;
    for (; n + PYODL_LANES <= count; n += PYODL_LANES)
        list_some(step, format, x, i + n, place + n, PYODL_LANES, list);
    if (n < count)
        list_some(step, format, x, i + n, place + n, count - n, list);
}

/* List them, and no others. */
PYODL_INLINE void list_pixels(int step, int format, const void *x, int64_t i, const int32_t *place,
                              int64_t count, pyodl_pixel_list *list) {
    list->count = 0;
    append_pixels(step, format, x, i, place, count, list);
}

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
