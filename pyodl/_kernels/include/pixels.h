/* The weight gradient of a convolution by pixels of its input, which a ReLU leaves half zero.
 *
 * A pixel that is not zero meets the output gradient once for every tap of the kernel, at the same
 * places around it: it is spread once for all nine taps of a 3x3 kernel, and zeros cost nothing. Every
 * weight gets its terms in order of the pixels, as it does in a contraction. Where a tap reaches over
 * the edge, the gradient is -0 and the product -0, which changes no sum, not even one of -0. What zeros
 * that are left out make of a sum that ends as -0 is looked at in the end.
 */
#ifndef PYODL_PIXELS_H
#define PYODL_PIXELS_H

#include "listed_pixels.h"
#include "whole_tiles.h"

/* Registers of output channels that are summed together: what the register file holds of them. */
PYODL_INLINE int pixel_registers(int step) {
    return PYODL_LANES == 16 || step_keeps_halves(step) ? 2 : 1;
}

typedef struct {
    const void *x;         /* (channels, rows, columns), as stored */
    const int32_t *place;  /* where in dy the first tap of a pixel lies; not if strided */
    const void *dy;        /* operands (row, column, output channel), with a border of -0 */
    void *dw;              /* (output channels, channels, taps), as stored */
    int64_t channels, pixels, out_channels;
    int64_t row;           /* elements of a row of dy */
    int64_t first;         /* the element of dy that is none of its border */
    int64_t columns;       /* of x */
    int64_t out_rows, out_columns; /* of dy without its border */
    int64_t up, left, stride;      /* padding before x */
    int64_t edged;         /* whether the first and last rows reach over an edge with one row of taps */
    int64_t nowhere;       /* a pixel of dy that has border all around, if the stride is 2 */
} pyodl_pixels;

/* How sums lie: registers of output channels; or one, if these leave room for the next pixel's beside
 * them, and then for as many taps of a row as it covers. A pixel meets the last tap first, and sums
 * begin with the first: a register that covers more has that of the tap before beside it. Nine sums wait
 * for one another from pixel to pixel if they lie in memory, so pixels of two channels take turns. */
typedef struct {
    int registers;
    int covered;
    int channels;
} pyodl_spread;

PYODL_INLINE int sums_of(pyodl_spread spread) {
    return spread.registers * 3 * ((3 + spread.covered - 1) / spread.covered);
}

/* Whether a register covers several taps. */
PYODL_INLINE int covers_taps(int step, int64_t out_channels, int strided) {
    return 2 * out_channels <= step_lanes(step) && !strided;
}

/* Rows of dy around a pixel, those of its taps. */
typedef struct {
    int start;
    int count;
} pyodl_tap_rows;

/* Add listed pixel t to the sums that so many rows of dy around it lead to. */
PYODL_INLINE void add_pixel(int step, pyodl_spread spread, const pyodl_pixels *p,
                            int64_t out_channel, const pyodl_pixel_list *list, int64_t t,
                            pyodl_tap_rows rows, running_sums *sums) {
    const int64_t size = step_operand_size(step), column = p->out_channels * size;
    const int in_row = sums_of(spread) / spread.registers / 3;
    const char *dy = operand_at(step, p->dy, list->place[t] + out_channel);
    const operand value = operand_of(step, &list->value[t]);
    PYODL_UNROLL
    for (int j = 0; j < spread.registers; j++)
        PYODL_UNROLL
        for (int i = rows.start; i < rows.start + rows.count; i++)
            PYODL_UNROLL
            for (int n = 0; n < in_row; n++)
                add_to_sum(step, value,
                           operand_load(step, dy + i * p->row * size + n * spread.covered * column,
                                        j * step_lanes(step)),
                           sums, (3 * j + 3 - i) * in_row - 1 - n);
}

PYODL_INLINE void add_pixels(int step, pyodl_spread spread, const pyodl_pixels *p,
                             int64_t out_channel, const pyodl_pixel_list *list, pyodl_span some,
                             pyodl_tap_rows rows, running_sums *sums) {
    for (int64_t t = some.first; t < some.stop; t++)
        add_pixel(step, spread, p, out_channel, list, t, rows, sums);
}

/* What came of sums by pixels that must not stand as it is. */
enum { PIXELS_ARE_FINE = 0, PIXELS_ARE_NAN = 1, PIXELS_ARE_NEGATIVE_ZERO = 2 };

/* Whether a sum that ended as -0 is -0 where zeros are multiplied, too. */
static __attribute__((noinline)) int stays_negative_gradient(const pyodl_pixels *p, int step,
                                                             int64_t channel, int64_t out_channel,
                                                             int tap) {
    const uint16_t *x = (const uint16_t *)p->x + channel * p->pixels;
    const int64_t rows = p->pixels / p->columns;
    for (int64_t n = p->out_rows * p->out_columns - 1; n >= 0; n--) {
        const int64_t y = n / p->out_columns, column = n % p->out_columns;
        const int64_t in_row = y * p->stride + tap / 3 - p->up;
        const int64_t in_column = column * p->stride + tap % 3 - p->left;
        const float dy = operand_value(
            step, p->dy, p->first + y * p->row + column * p->out_channels + out_channel);
        enum pyodl_verdict verdict;
        uint16_t pixel = 0;
        if (in_row >= 0 && in_row < rows && in_column >= 0 && in_column < p->columns)
            pixel = x[in_row * p->columns + in_column];
        verdict = term_verdict(pixel, dy);
        if (verdict != NO_VERDICT)
            return verdict == STAYS_NEGATIVE_ZERO;
    }
    return 1;
}

/* Make +0 of every -0 that multiplied zeros would make +0; return whether others stand, which may be sums
 * that are rounded. */
static __attribute__((noinline)) int mend_taps(const pyodl_pixels *p, int step, int64_t channel,
                                               int64_t out_channel, int count,
                                               uint16_t (*taps)[2 * PYODL_LANES]) {
    if (step_format(step) == PYODL_FLOAT32)
        return PIXELS_ARE_NEGATIVE_ZERO;
    for (int tap = 0; tap < PYODL_TAPS; tap++)
        for (int lane = 0; lane < count; lane++)
            if (taps[tap][lane] == 0x8000u &&
                !stays_negative_gradient(p, step, channel, out_channel + lane, tap))
                taps[tap][lane] = 0;
    return PIXELS_ARE_FINE;
}

/* Store the taps of one channel in a register of output channels. */
static __attribute__((noinline)) int store_taps(const pyodl_pixels *p, int step, int64_t channel,
                                                int64_t out_channel,
                                                uint16_t (*taps)[2 * PYODL_LANES]) {
    const int64_t stride = p->channels * PYODL_TAPS;
    const int count = (int)at_most(p->out_channels - out_channel, step_lanes(step));
    int negative_zero = 0, found = PIXELS_ARE_FINE;
    if (step_may_reach_negative_zero(step))
        for (int tap = 0; tap < PYODL_TAPS; tap++)
            for (int lane = 0; lane < count; lane++)
                negative_zero |= taps[tap][lane] == 0x8000u;
    if (negative_zero)
        found = mend_taps(p, step, channel, out_channel, count, taps);
    finish_transposed(count, PYODL_TAPS, (pyodl_stored)taps,
                      (uint16_t *)p->dw + out_channel * stride + channel * PYODL_TAPS, stride);
    return found;
}

/* The same of sums that cover so many taps each, which are taken apart first. */
static __attribute__((noinline)) int store_covered_taps(const pyodl_pixels *p, int step,
                                                        int covered, int64_t channel,
                                                        pyodl_stored sums) {
    const int in_row = (3 + covered - 1) / covered;
    uint16_t taps[PYODL_TAPS][2 * PYODL_LANES];
    for (int tap = 0; tap < PYODL_TAPS; tap++) {
        const int met = 2 - tap % 3; /* along its row */
        const uint16_t *sum = sums[tap / 3 * in_row + in_row - 1 - met / covered];
        memcpy(taps[tap], sum + met % covered * p->out_channels,
               (size_t)p->out_channels * sizeof *sum);
    }
    return store_taps(p, step, channel, 0, taps);
}

/* List a channel's pixels from number i on, as many as a list holds. If the first and the last row
 * reach over an edge, and all pixels are listed, they are told apart. */
PYODL_INLINE void list_channel(int step, int format, const pyodl_pixels *p, int64_t channel,
                               int64_t i, pyodl_pixel_list *list) {
    const int apart = p->edged && p->pixels <= PYODL_LISTED_PIXELS;
    const int64_t stop = at_most(i + PYODL_LISTED_PIXELS, p->pixels);
    const int64_t stops[3] = {apart ? p->columns : i, apart ? stop - p->columns : stop, stop};
    int64_t listed[4] = {0}, first = i;
    for (int n = 0; n < 3; n++) {
        listed[n + 1] = list_more(step, format, p->x, channel * p->pixels + first,
                                  p->place + first, stops[n] - first, list, listed[n]);
        first = stops[n];
    }
    list->in_first_row = listed[1];
    list->before_last_row = listed[2];
    list->count = listed[3];
}

/* Pixels that meet the same rows of taps: those of the first row, of the last one, and in between. */
#define PYODL_ROW_PARTS 3

PYODL_INLINE pyodl_tap_rows rows_of_part(int part) {
    return (pyodl_tap_rows){part == 0, part == 1 ? 3 : 2};
}

PYODL_INLINE pyodl_span pixels_of_part(const pyodl_pixel_list *list, int part) {
    const int64_t stops[4] = {0, list->in_first_row, list->before_last_row, list->count};
    return (pyodl_span){stops[part], stops[part + 1]};
}

/* Sum a channel. The list is made for the first registers of output channels, and for all of them if it
 * takes more than one. */
PYODL_INLINE void add_channel(int step, int format, pyodl_spread spread, const pyodl_pixels *p,
                              int64_t channel, int64_t out_channel, pyodl_pixel_list *list,
                              running_sums *sums) {
    for (int64_t i = 0; i < p->pixels; i += PYODL_LISTED_PIXELS) {
        if (out_channel == 0 || p->pixels > PYODL_LISTED_PIXELS)
            list_channel(step, format, p, channel, i, list);
        PYODL_UNROLL
        for (int part = 0; part < PYODL_ROW_PARTS; part++)
            add_pixels(step, spread, p, out_channel, list, pixels_of_part(list, part),
                       rows_of_part(part), sums);
    }
}

/* Sum a channel and the next one, whose pixels take turns. */
PYODL_INLINE void add_two_channels(int step, int format, pyodl_spread spread,
                                   const pyodl_pixels *p, int64_t channel,
                                   pyodl_pixel_list *lists, running_sums *sums) {
    for (int64_t i = 0; i < p->pixels; i += PYODL_LISTED_PIXELS) {
        for (int n = 0; n < 2; n++)
            list_channel(step, format, p, channel + n, i, &lists[n]);
        PYODL_UNROLL
        for (int part = 0; part < PYODL_ROW_PARTS; part++) {
            pyodl_span some[2] = {pixels_of_part(&lists[0], part), pixels_of_part(&lists[1], part)};
            const pyodl_tap_rows rows = rows_of_part(part);
            for (; some[0].first < some[0].stop && some[1].first < some[1].stop;
                 some[0].first++, some[1].first++) {
                add_pixel(step, spread, p, 0, &lists[0], some[0].first, rows, &sums[0]);
                add_pixel(step, spread, p, 0, &lists[1], some[1].first, rows, &sums[1]);
            }
            const int more = some[1].first < some[1].stop;
            add_pixels(step, spread, p, 0, &lists[more], some[more], rows, &sums[more]);
        }
    }
}

/* ---- at a stride of 2 ------------------------------------------------------------------------- */

#define PYODL_STRIDED_PHASES 4 /* of pixels that meet the same taps */

/* List some rows of a channel by phases, as many of each: what is lacking is a +0 that meets border,
 * whose product is -0. */
PYODL_INLINE void list_phases(int step, int format, const pyodl_pixels *p, int64_t channel,
                              pyodl_span rows, pyodl_pixel_list lists[PYODL_STRIDED_PHASES]) {
    const uint16_t *x = (const uint16_t *)p->x + channel * p->pixels;
    const int64_t width = p->row / p->out_channels; /* of dy, with its border */
    const pyodl_dealing dealing = {
        p->columns, {p->up, p->left}, {p->stride, p->stride}, width + 1, width};
    int64_t most = 0;
    for (int phase = 0; phase < PYODL_STRIDED_PHASES; phase++) {
        lists[phase].count = 0;
        append_phase(step, format, x, &dealing, rows, phase / 2, phase % 2, &lists[phase]);
        most = lists[phase].count > most ? lists[phase].count : most;
    }
    for (int phase = 0; phase < PYODL_STRIDED_PHASES; phase++)
        for (; lists[phase].count < most; lists[phase].count++) {
            lists[phase].place[lists[phase].count] = (int32_t)p->nowhere;
            lists[phase].value[lists[phase].count] = 0.0f;
        }
}

/* Add pixel t of every list to the sums of the taps that it meets: phase (a, b) taps a, a + 2 of rows and
 * b, b + 2 of columns. */
PYODL_INLINE void add_phases(int step, int registers, const pyodl_pixels *p, int64_t out_channel,
                             const pyodl_pixel_list *lists, int64_t t, running_sums *sums) {
    const int64_t size = step_operand_size(step);
    PYODL_UNROLL
    for (int phase = 0; phase < PYODL_STRIDED_PHASES; phase++) {
        const operand value = operand_of(step, &lists[phase].value[t]);
        const char *at = (const char *)operand_at(
            step, p->dy, lists[phase].place[t] * p->out_channels + out_channel);
        PYODL_UNROLL
        for (int n = 0; n < PYODL_TAPS * registers; n++) {
            const int i = n / registers / 3, j = n / registers % 3, r = n % registers;
            if (i % 2 == phase / 2 && j % 2 == phase % 2)
                add_to_sum(step, value,
                           operand_load(step, at - (i / 2 * p->row + j / 2 * p->out_channels) * size,
                                        r * step_lanes(step)),
                           sums, r * PYODL_TAPS + i * 3 + j);
        }
    }
}

/* Sum a channel. Lists are made as in `add_channel`. */
PYODL_INLINE void add_strided_channel(int step, int format, int registers, const pyodl_pixels *p,
                                      int64_t channel, int64_t out_channel,
                                      pyodl_pixel_list *lists, running_sums *sums) {
    const int64_t rows = p->pixels / p->columns, most = PYODL_LISTED_PIXELS / p->columns;
    for (int64_t row = 0; row < rows; row += most) {
        if (out_channel == 0 || rows > most)
            list_phases(step, format, p, channel, (pyodl_span){row, at_most(row + most, rows)},
                        lists);
        for (int64_t t = 0; t < lists->count; t++)
            add_phases(step, registers, p, out_channel, lists, t, sums);
    }
}

/* ---- one function per step and spread ----------------------------------------------------------- */

/* Store one channel's weights in so many registers of output channels; return what must not stand. */
PYODL_INLINE int store_channel(int step, int format, pyodl_spread spread, const pyodl_pixels *p,
                               int64_t channel, int64_t out_channel, const running_sums *sums) {
    const int count = sums_of(spread);
    uint16_t stored[2 * PYODL_TAPS][2 * PYODL_LANES];
    int found = PIXELS_ARE_FINE;
    if (any_nan(step, count, sums))
        return PIXELS_ARE_NAN;
    PYODL_UNROLL
    for (int n = 0; n < count; n++)
        put_sum(step, format, sums, n, stored[n], 0);
    if (spread.covered > 1)
        return store_covered_taps(p, step, spread.covered, channel, stored);
    for (int j = 0; j < spread.registers; j++)
        found |= store_taps(p, step, channel, out_channel + j * step_lanes(step),
                            stored + j * PYODL_TAPS);
    return found;
}

/* The gradients of one channel's weights, or of two, in so many registers of output channels. */
PYODL_INLINE int channel_gradient(int step, int format, pyodl_spread spread, int strided,
                                  const pyodl_pixels *p, int64_t channel, int64_t out_channel,
                                  pyodl_pixel_list *lists) {
    int found = PIXELS_ARE_FINE;
    running_sums sums[2];
    PYODL_UNROLL
    for (int n = 0; n < spread.channels * sums_of(spread); n++)
        begin_sum_of_zero(step, &sums[n / sums_of(spread)], n % sums_of(spread), 0.0f);
    if (strided)
        add_strided_channel(step, format, spread.registers, p, channel, out_channel, lists, sums);
    else if (spread.channels == 2)
        add_two_channels(step, format, spread, p, channel, lists, sums);
    else
        add_channel(step, format, spread, p, channel, out_channel, lists, sums);
    PYODL_UNROLL
    for (int n = 0; n < spread.channels; n++)
        found |= store_channel(step, format, spread, p, channel + n, out_channel, &sums[n]);
    return found;
}

/* By registers of output channels, or by taps that one register covers; channels; strided or not. */
#define PYODL_EACH_SPREAD(X, KIND)                                                               \
    X(KIND, one, 1, 1, 1, 0) X(KIND, two, 2, 1, 1, 0)                                            \
    X(KIND, two_taps, 1, 2, 1, 0) X(KIND, three_taps, 1, 3, 1, 0)                                \
    X(KIND, strided_one, 1, 1, 1, 1) X(KIND, strided_two, 2, 1, 1, 1)
#define PYODL_PIXEL_FUNCTION(KIND, NAME, REGISTERS, COVERED, CHANNELS, STRIDED)                  \
    static __attribute__((noinline)) int KIND##_pixels_##NAME(                                   \
        const pyodl_pixels *p, int64_t channel, int64_t out_channel, pyodl_pixel_list *lists) {  \
        const pyodl_spread spread = {REGISTERS, COVERED, CHANNELS};                              \
        return channel_gradient(KIND##_STEP, KIND##_FORMAT, spread, STRIDED, p, channel,         \
                                out_channel, lists);                                             \
    }
#define PYODL_PIXEL_NAME(KIND, NAME, REGISTERS, COVERED, CHANNELS, STRIDED) KIND##_pixels_##NAME,
#define PYODL_PIXEL_FUNCTIONS(KIND) PYODL_EACH_SPREAD(PYODL_PIXEL_FUNCTION, KIND)
#define PYODL_PIXEL_NAMES(KIND) {PYODL_EACH_SPREAD(PYODL_PIXEL_NAME, KIND)}
enum {
    SPREAD_ONE = 0, SPREAD_TWO = 1, SPREAD_TWO_TAPS = 2, SPREAD_THREE_TAPS = 3,
    SPREAD_STRIDED = 4, /* and the next one, of two registers */
    SPREADS = 6
};

PYODL_PIXEL_FUNCTIONS(FUSED)
PYODL_PIXEL_FUNCTIONS(UNFUSED)
PYODL_PIXEL_FUNCTIONS(BFUSED)
#if PYODL_HAS_BOUNDED
PYODL_PIXEL_FUNCTIONS(BOUNDED)
#endif
#if PYODL_LANES >= 8 && !PYODL_NATIVE_HALVES /* which keep sums in memory, as halves */
PYODL_PIXEL_FUNCTION(FUSED, two_channels, 1, 1, 2, 0)
PYODL_PIXEL_FUNCTION(UNFUSED, two_channels, 1, 1, 2, 0)
#endif
#if !PYODL_NATIVE_HALVES /* where it pays (steps.h) */
PYODL_PIXEL_FUNCTIONS(EXACT)
PYODL_PIXEL_FUNCTIONS(BFLOATS)
#endif

typedef int (*pyodl_pixel_function)(const pyodl_pixels *, int64_t, int64_t, pyodl_pixel_list *);

/* The gradients of all weights of one channel. */
static inline int gradient_of_channel(const pyodl_pixels *p, int step, int64_t channel,
                                      pyodl_pixel_list *lists) {
    static const pyodl_pixel_function functions[PYODL_STEPS][SPREADS] = {
#if !PYODL_NATIVE_HALVES
        [STEP_EXACT_PRODUCT] = PYODL_PIXEL_NAMES(EXACT),
        [STEP_FMA32] = PYODL_PIXEL_NAMES(BFLOATS),
#endif
#if PYODL_HAS_BOUNDED
        [STEP_BOUNDED_MULADD] = PYODL_PIXEL_NAMES(BOUNDED),
#endif
        [STEP_HALF_FMA] = PYODL_PIXEL_NAMES(FUSED),
        [STEP_HALF_MULADD] = PYODL_PIXEL_NAMES(UNFUSED),
        [STEP_BFLOAT_FMA] = PYODL_PIXEL_NAMES(BFUSED)};
    const int64_t size = step_lanes(step);
    const int strided = p->stride > 1, first = strided ? SPREAD_STRIDED : SPREAD_ONE;
    int found = PIXELS_ARE_FINE;
    if (covers_taps(step, p->out_channels, strided))
        return functions[step][3 * p->out_channels <= size ? SPREAD_THREE_TAPS : SPREAD_TWO_TAPS](
            p, channel, 0, lists);
    for (int64_t c = 0; c < p->out_channels;) {
        const int two = pixel_registers(step) == 2 && p->out_channels - c > size;
        found |= functions[step][first + two](p, channel, c, lists);
        c += size * (1 + two);
    }
    return found;
}

/* Whether two channels at a time pay: sums in memory, and one register of output channels. */
PYODL_INLINE int takes_two_channels(const pyodl_pixels *p, int step) {
    return step_keeps_halves(step) && p->stride == 1 && p->out_channels <= step_lanes(step) &&
           !covers_taps(step, p->out_channels, 0);
}

/* The same of channels `start` to `stop`, whose storage has 16 bits, in the step's rounding mode; returns
 * what of them must not stand. */
static inline int gradient_of_channels(const pyodl_pixels *p, int step, int64_t start,
                                       int64_t stop) {
    pyodl_pixel_list lists[PYODL_STRIDED_PHASES];
    int64_t channel = start;
    int found = PIXELS_ARE_FINE;
#if PYODL_LANES >= 8 && !PYODL_NATIVE_HALVES
    for (; takes_two_channels(p, step) && channel + 1 < stop; channel += 2)
        found |= (step == STEP_HALF_FMA ? FUSED_pixels_two_channels : UNFUSED_pixels_two_channels)(
            p, channel, 0, lists);
#endif
    for (; channel < stop; channel++)
        found |= gradient_of_channel(p, step, channel, lists);
    return found;
}

/* Whether pixels with so many zeros are worth a list: a quarter is zero, or registers cover several
 * taps. None may be negative where a sum can be -0, since the border has one sign only. */
PYODL_INLINE int pays_by_pixels(int step, pyodl_survey x, int64_t out_channels, int strided) {
    return !(x.negative && step_may_reach_negative_zero(step)) &&
           (covers_taps(step, out_channels, strided) || 4 * x.zeros >= x.count);
}

#endif
