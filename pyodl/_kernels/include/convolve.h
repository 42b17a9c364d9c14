/* A convolution, or its input gradient, by pixels of the image that are not zero.
 *
 * A pixel is added to the outputs around it, one for every tap of the kernel; its channels of output
 * are lanes, and their sums lie in memory. Pixels come in order, so that every output gets its terms in
 * order of k, as it does in a contraction; zeros and padding cost nothing. Where outputs are strided, the
 * pixels that meet a tap are added tap by tap. A zero product changes no sum but one of -0, which is
 * looked at in the end.
 */
#ifndef PYODL_CONVOLVE_H
#define PYODL_CONVOLVE_H

#include "convolution.h"
#include "whole_tiles.h"

/* ---- one list of pixels ----------------------------------------------------------------------- */

/* Weights of one channel: taps of so many registers. */
typedef float pyodl_taps[PYODL_TAPS * PYODL_MOST_REGISTERS * PYODL_LANES]
    __attribute__((aligned(64)));

/* Add listed pixels to the sums around them. `sums` is those of place 0 and the first of so many rows
 * of the kernel, `row` the sums in a row. Weights are loaded once: a compiler has to fear that sums lie
 * among them. */
PYODL_INLINE void add_listed(int step, int rows, int columns, int registers, int sign,
                             int64_t count, const int32_t *place, const float *values,
                             const float *taps, char *sums, int64_t row) {
    const int64_t pitch = registers * step_sum_size(step);
    operand weights[PYODL_TAPS * PYODL_MOST_REGISTERS];
    PYODL_UNROLL
    for (int n = 0; n < rows * columns * registers; n++)
        weights[n] = operand_load(step, taps, n * PYODL_LANES);
    for (int64_t t = 0; t < count; t++) {
        char *at = sums + place[t] * pitch;
        const operand value = operand_of(step, &values[t]);
        PYODL_UNROLL
        for (int n = 0; n < rows * columns * registers; n++) {
            const int i = n / registers / columns, j = n / registers % columns, r = n % registers;
            add_to_stored_sum(step, value, weights[n],
                              at + sign * (i * row + j) * pitch + r * step_sum_size(step));
        }
    }
}

typedef void (*pyodl_add_listed)(int64_t, const int32_t *, const float *, const float *, char *,
                                 int64_t);

#define PYODL_AROUND(KIND, NAME, ROWS, COLUMNS, REGISTERS, SIGN)                                 \
    static __attribute__((noinline)) void KIND##_##NAME##_##ROWS##_##COLUMNS##_##REGISTERS(      \
        int64_t count, const int32_t *place, const float *values, const float *taps, char *sums, \
        int64_t row) {                                                                           \
        add_listed(KIND##_STEP, ROWS, COLUMNS, REGISTERS, SIGN, count, place, values, taps,      \
                   sums, row);                                                                   \
    }
#define PYODL_AROUND_ROWS(KIND, NAME, REGISTERS, SIGN)                                           \
    PYODL_AROUND(KIND, NAME, 1, 3, REGISTERS, SIGN)                                              \
    PYODL_AROUND(KIND, NAME, 2, 3, REGISTERS, SIGN)                                              \
    PYODL_AROUND(KIND, NAME, 3, 3, REGISTERS, SIGN)
#define PYODL_AROUND_FUNCTIONS(KIND)                                                             \
    PYODL_AROUND_ROWS(KIND, forward, 1, -1) PYODL_AROUND_ROWS(KIND, forward, 2, -1)              \
    PYODL_AROUND_ROWS(KIND, mirrored, 1, 1) PYODL_AROUND_ROWS(KIND, mirrored, 2, 1)              \
    PYODL_AROUND(KIND, point, 1, 1, 1, 1) PYODL_AROUND(KIND, point, 1, 1, 2, 1)                  \
    PYODL_AROUND(KIND, point, 1, 1, 4, 1)
#define PYODL_AROUND_TABLE(KIND, NAME)                                                           \
    {{KIND##_##NAME##_1_3_1, KIND##_##NAME##_2_3_1, KIND##_##NAME##_3_3_1},                      \
     {KIND##_##NAME##_1_3_2, KIND##_##NAME##_2_3_2, KIND##_##NAME##_3_3_2}}
#define PYODL_AROUND_TABLES(KIND)                                                                \
    {{PYODL_AROUND_TABLE(KIND, forward), PYODL_AROUND_TABLE(KIND, mirrored)},                    \
     {KIND##_point_1_1_1, KIND##_point_1_1_2, KIND##_point_1_1_4}}

#if !PYODL_NATIVE_HALVES
PYODL_AROUND_FUNCTIONS(FUSED)
PYODL_AROUND_FUNCTIONS(UNFUSED)
#if PYODL_HAS_BOUNDED
PYODL_AROUND_FUNCTIONS(BOUNDED)
#endif
#endif

/* Of a step: by sign, registers and rows of a kernel of 3; and for one tap. */
typedef struct {
    pyodl_add_listed around[2][2][3];
    pyodl_add_listed point[3];
} pyodl_around_functions;

static inline const pyodl_around_functions *functions_of(int step) {
    static const pyodl_around_functions functions[PYODL_STEPS] = {
#if !PYODL_NATIVE_HALVES
        [STEP_HALF_FMA] = PYODL_AROUND_TABLES(FUSED),
        [STEP_HALF_MULADD] = PYODL_AROUND_TABLES(UNFUSED),
#if PYODL_HAS_BOUNDED
        [STEP_BOUNDED_MULADD] = PYODL_AROUND_TABLES(BOUNDED),
#endif
#endif
    };
    return &functions[step];
}

/* For one tap in 1, 2 or 4 registers. */
static inline pyodl_add_listed point_function(int step, int64_t registers) {
    return functions_of(step)->point[registers / 2];
}

/* For so many rows of a kernel. */
static inline pyodl_add_listed around_function(const pyodl_convolution *c, int step,
                                               int64_t registers, int64_t rows) {
    if (c->kernel == 1)
        return point_function(step, registers);
    return functions_of(step)->around[c->mirrored][registers - 1][rows - 1];
}

/* Widen the taps of one channel. */
static inline void widen_taps(const pyodl_convolution *c, const pyodl_band *band, int64_t channel,
                              float *taps) {
    const int64_t count = c->kernel * c->kernel, lanes_together = band->registers * PYODL_LANES;
    const int64_t from = channel * count * c->out_channels + band->channel;
    for (int64_t lane = 0; lane < lanes_together; lane += PYODL_LANES) {
        const int64_t some = at_most(c->out_channels - band->channel - lane, PYODL_LANES);
        for (int64_t tap = 0; tap < count; tap++)
            lanes_store(taps + tap * lanes_together + lane,
                        load_some(PYODL_FLOAT16, c->w, from + tap * c->out_channels + lane, some));
    }
}

/* ---- all taps at a time -------------------------------------------------------------------------- */

/* List pixels of one channel, from number i on. */
PYODL_INLINE void list_of_channel(const pyodl_convolution *c, int step, int64_t channel, int64_t i,
                                  int64_t count, pyodl_pixel_list *list) {
    list->count = list_more(step, PYODL_FLOAT16, c->x, channel * c->rows * c->columns + i,
                            c->place + i, count, list, 0);
}

/* Add a list of pixels that meet some rows of the kernel. */
static inline void add_list(const pyodl_convolution *c, int step, const pyodl_band *band,
                            pyodl_met met, const float *taps, char *sums,
                            const int32_t *place, const float *value, int64_t count) {
    const int64_t weights = met.first * c->kernel * band->registers * PYODL_LANES;
    const int64_t first = c->mirrored ? met.first : -met.first;
    char *const from = sums + (first - band->start) * c->width * band->registers *
                                  step_sum_size(step);
    around_function(c, step, band->registers, met.count)(count, place, value, taps + weights, from,
                                                         c->width);
}

/* Sum a stretch of one channel. */
static inline void add_stretch(const pyodl_convolution *c, int step, const pyodl_band *band,
                               const pyodl_stretch *stretch, int64_t channel, const float *taps,
                               char *sums, pyodl_pixel_list *list) {
    const int64_t stop = stretch->rows.stop * c->columns;
    if (stretch->met.count == 0)
        return;
    for (int64_t i = stretch->rows.first * c->columns; i < stop; i += PYODL_LISTED_PIXELS) {
        list_of_channel(c, step, channel, i, at_most(stop - i, PYODL_LISTED_PIXELS), list);
        add_list(c, step, band, stretch->met, taps, sums, list->place, list->value, list->count);
    }
}

/* Sum rows of a channel's pixels, all taps at a time. */
static inline void add_around(const pyodl_convolution *c, int step, const pyodl_band *band,
                              pyodl_span rows, int64_t channel, const float *taps, char *sums,
                              pyodl_pixel_list *list) {
    while (rows.first < rows.stop) {
        const pyodl_stretch stretch = stretch_of(c, band, rows);
        add_stretch(c, step, band, &stretch, channel, taps, sums, list);
        rows.first = stretch.rows.stop;
    }
}

/* ---- halves of a band in turns ----------------------------------------------------------------- */

/* Whether pixels of both halves of a band are added in turns: a pixel that meets few sums waits for
 * those that it shares with the one before, unless there are others in between. */
PYODL_INLINE int takes_turns(const pyodl_convolution *c, const pyodl_band *band) {
    return c->kernel == 3 && band->registers == 1 &&
           band->stop - band->start >= 2 * PYODL_FEW_ROWS;
}

/* Of either half of a band, and of both in turns. */
typedef pyodl_pixel_list pyodl_lists_in_turns[3];

/* Append one pixel of either list in turn, as long as both have some; return how many of each. */
static inline int64_t append_in_turns(const pyodl_pixel_list lists[2], pyodl_pixel_list *both) {
    const int64_t count = at_most(lists[0].count, lists[1].count);
    for (int64_t t = 0; t < count; t++)
        for (int n = 0; n < 2; n++) {
            both->place[2 * t + n] = lists[n].place[t];
            both->value[2 * t + n] = lists[n].value[t];
        }
    both->count = 2 * count;
    return count;
}

/* Sum two stretches, one of either half of a band, that meet the same rows of the kernel. `band` and
 * `sums` are those of the first half, which the second half's sums follow, so that a pixel's place says
 * where its sums are in either. */
static inline void add_in_turns(const pyodl_convolution *c, int step, const pyodl_band *band,
                                const pyodl_stretch stretches[2], int64_t channel,
                                const float *taps, char *sums, pyodl_lists_in_turns lists) {
    const int64_t most = PYODL_LISTED_PIXELS / 2;
    const pyodl_met met = stretches[0].met;
    int64_t next[2], left[2];
    if (met.count == 0)
        return;
    for (int n = 0; n < 2; n++) {
        next[n] = stretches[n].rows.first * c->columns;
        left[n] = stretches[n].rows.stop * c->columns - next[n];
    }
    while (left[0] > 0 || left[1] > 0) {
        for (int n = 0; n < 2; n++) {
            const int64_t count = at_most(left[n], most);
            list_of_channel(c, step, channel, next[n], count, &lists[n]);
            next[n] += count;
            left[n] -= count;
        }
        const int64_t taken = append_in_turns(lists, &lists[2]);
        add_list(c, step, band, met, taps, sums, lists[2].place, lists[2].value, lists[2].count);
        for (int n = 0; n < 2; n++)
            add_list(c, step, band, met, taps, sums, lists[n].place + taken, lists[n].value + taken,
                     lists[n].count - taken);
    }
}

/* Sum a channel's pixels around both halves of a band. Rows at an edge, and those in the middle, which
 * belong to both halves, meet fewer rows of the kernel than others: they do not wait for their like. */
static inline void add_halves(const pyodl_convolution *c, int step, const pyodl_band *band,
                              int64_t channel, const float *taps, char *sums,
                              pyodl_lists_in_turns lists) {
    const int64_t middle = (band->start + band->stop) / 2, pitch = band->registers * step_sum_size(step);
    const pyodl_band halves[2] = {{band->channel, band->registers, band->start, middle},
                                  {band->channel, band->registers, middle, band->stop}};
    char *const halves_sums[2] = {sums, sums + (middle - band->start) * c->width * pitch};
    pyodl_span rows[2] = {rows_around(c, &halves[0]), rows_around(c, &halves[1])};
    while (rows[0].first < rows[0].stop && rows[1].first < rows[1].stop) {
        const pyodl_stretch stretches[2] = {stretch_of(c, &halves[0], rows[0]),
                                            stretch_of(c, &halves[1], rows[1])};
        const pyodl_met met = stretches[0].met, other = stretches[1].met;
        if (meet_alike(met, other)) {
            add_in_turns(c, step, &halves[0], stretches, channel, taps, sums, lists);
            rows[0].first = stretches[0].rows.stop;
            rows[1].first = stretches[1].rows.stop;
        } else {
            const int n = other.count <= met.count;
            add_stretch(c, step, &halves[n], &stretches[n], channel, taps, halves_sums[n], lists);
            rows[n].first = stretches[n].rows.stop;
        }
    }
    for (int n = 0; n < 2; n++)
        add_around(c, step, &halves[n], rows[n], channel, taps, halves_sums[n], lists);
}

/* ---- tap by tap ---------------------------------------------------------------------------------- */

/* Sum pixels of some rows of a channel, tap by tap in order of k; every tap meets one phase. */
static inline void add_dealt_rows(const pyodl_convolution *c, int step, const pyodl_band *band,
                                  pyodl_span span, int64_t channel, const float *taps,
                                  char *sums, pyodl_pixel_list *list) {
    const int64_t phases[2] = {at_most(c->deal[0], c->kernel), at_most(c->deal[1], c->kernel)};
    const uint16_t *x = (const uint16_t *)c->x + channel * c->rows * c->columns;
    const pyodl_dealing dealing = {
        c->columns, {c->first[0], c->first[1]}, {c->deal[0], c->deal[1]}, c->left, c->width};
    const int64_t pitch = band->registers * step_sum_size(step);
    const pyodl_add_listed add = point_function(step, band->registers);
    int64_t begin[PYODL_TAPS + 1] = {0};
    list->count = 0;
    for (int64_t phase = 0; phase < phases[0] * phases[1]; phase++) {
        append_phase(step, PYODL_FLOAT16, x, &dealing, span, phase / phases[1],
                     phase % phases[1], list);
        begin[phase + 1] = list->count;
    }
    for (int64_t tap = 0; tap < c->kernel * c->kernel; tap++) {
        const int64_t i = tap / c->kernel, j = tap % c->kernel;
        const int64_t phase = i % c->deal[0] * phases[1] + j % c->deal[1];
        const int64_t shift = (i / c->deal[0] + band->start) * c->width + j / c->deal[1];
        add(begin[phase + 1] - begin[phase], list->place + begin[phase],
            list->value + begin[phase], taps + tap * band->registers * PYODL_LANES,
            sums - shift * pitch, c->width);
    }
}

static inline void add_dealt(const pyodl_convolution *c, int step, const pyodl_band *band,
                             pyodl_span span, int64_t channel, const float *taps, char *sums,
                             pyodl_pixel_list *list) {
    const int64_t most = PYODL_LISTED_PIXELS / c->columns;
    for (int64_t row = span.first; row < span.stop; row += most) {
        const pyodl_span some = {row, at_most(row + most, span.stop)};
        add_dealt_rows(c, step, band, some, channel, taps, sums, list);
    }
}

/* ---- a band -------------------------------------------------------------------------------------- */

/* Sum a band, whose first row's sums are `sums`. */
static inline void sum_band(const pyodl_convolution *c, int step, const pyodl_band *band,
                            char *sums) {
    const int64_t row = c->width * band->registers * step_sum_size(step), beside = rows_beside(c);
    const pyodl_span span = rows_around(c, band);
    pyodl_lists_in_turns lists; /* the first of them, where nothing takes turns */
    pyodl_taps taps;
    memset(sums - beside * row, 0, (size_t)((band->stop - band->start + 2 * beside) * row));
    for (int64_t channel = 0; channel < c->channels; channel++) {
        widen_taps(c, band, channel, taps);
        if (is_dealt(c))
            add_dealt(c, step, band, span, channel, taps, sums, lists);
        else if (takes_turns(c, band))
            add_halves(c, step, band, channel, taps, sums, lists);
        else
            add_around(c, step, band, span, channel, taps, sums, lists);
    }
}

/* Whether a sum that ended as -0 is -0 where zeros are multiplied, too. */
static __attribute__((noinline)) int stays_negative(const pyodl_convolution *c,
                                                    int64_t out_channel, int64_t row,
                                                    int64_t column) {
    const int64_t size = c->kernel * c->kernel;
    for (int64_t n = c->channels * size - 1; n >= 0; n--) {
        const int64_t channel = n / size, tap = c->mirrored ? size - 1 - n % size : n % size;
        const int64_t i = c->mirrored ? -(tap / c->kernel) : tap / c->kernel;
        const int64_t j = c->mirrored ? -(tap % c->kernel) : tap % c->kernel;
        const int64_t y = row * c->deal[0] - c->first[0] + i;
        const int64_t x = column * c->deal[1] - c->first[1] + j;
        const int64_t in_row = y / c->stride[0], in_column = x / c->stride[1];
        const float w =
            load_value(PYODL_FLOAT16, c->w, (channel * size + tap) * c->out_channels + out_channel);
        enum pyodl_verdict verdict;
        uint16_t pixel = 0;
        if (y >= 0 && x >= 0 && y % c->stride[0] == 0 && x % c->stride[1] == 0 &&
            in_row < c->rows && in_column < c->columns)
            pixel = ((const uint16_t *)c->x)[(channel * c->rows + in_row) * c->columns + in_column];
        verdict = term_verdict(pixel, w);
        if (verdict != NO_VERDICT)
            return verdict == STAYS_NEGATIVE_ZERO;
    }
    return 1;
}

/* Make +0 of every -0 of a register that multiplied zeros would make +0. */
static __attribute__((noinline)) void mend_zeros(const pyodl_convolution *c, int64_t channel,
                                                 int64_t row, int64_t column, uint16_t *stored) {
    const int64_t count = at_most(c->out_channels - channel, PYODL_LANES);
    for (int64_t lane = 0; lane < count; lane++)
        if (stored[lane] == 0x8000u && !stays_negative(c, channel + lane, row, column))
            stored[lane] = 0;
}

PYODL_INLINE int any_lane(lanes_half marks) {
    static const lanes_half none = {0};
    return memcmp(&marks, &none, sizeof marks) != 0;
}

/* Store one row of a register of output channels; return whether it has a NaN. */
static inline int store_row_of_band(const pyodl_convolution *c, int step, int64_t channel,
                                    int64_t row, const char *sums, int64_t pitch) {
    const int64_t plane = c->out_rows * c->out_columns;
    const int count = (int)at_most(c->out_channels - channel, PYODL_LANES);
    uint16_t *out = (uint16_t *)c->out + channel * plane + row * c->out_columns;
    lanes_half nans = {0};
    for (int64_t i = 0; i < c->out_columns; i += 8) {
        const int pixels = (int)at_most(c->out_columns - i, 8);
        uint16_t stored[8][2 * PYODL_LANES];
        lanes_half zeros = {0};
        for (int p = 0; p < pixels; p++) {
            lanes_half rounded;
            round_stored_sum(step, sums + (i + p) * pitch, (uint16_t *)&rounded);
            nans |= (lanes_half)((rounded & 0x7FFFu) > 0x7C00u);
            zeros |= (lanes_half)(rounded == 0x8000u);
            memcpy(stored[p], &rounded, sizeof rounded);
        }
        if (any_lane(zeros))
            for (int p = 0; p < pixels; p++)
                mend_zeros(c, channel, row, i + p, stored[p]);
        finish_transposed(count, pixels, (pyodl_stored)stored, out + i, plane);
    }
    return any_lane(nans);
}

/* Compute and store rows of output of some registers of channels; return whether there is a NaN, which
 * is not made canonical. */
static inline int convolve_rows(const pyodl_convolution *c, int step, int64_t channel,
                                int64_t registers, int64_t start, int64_t stop) {
    char sums[PYODL_BAND_BYTES] __attribute__((aligned(64)));
    const int64_t pitch = registers * step_sum_size(step), beside = rows_beside(c);
    const int64_t most = rows_together(c, step, registers);
    char *const first = sums + beside * c->width * pitch;
    int found = 0;
    for (int64_t row = start; row < stop; row += most) {
        const pyodl_band band = {channel, registers, row, at_most(row + most, stop)};
        sum_band(c, step, &band, first);
        for (int64_t y = band.start; y < band.stop; y++)
            for (int64_t r = 0; r < registers; r++)
                found |= store_row_of_band(
                    c, step, channel + r * PYODL_LANES, y,
                    first + ((y - row) * c->width + c->left) * pitch + r * step_sum_size(step),
                    pitch);
    }
    return found;
}

#endif
