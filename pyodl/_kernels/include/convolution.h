/* Where the pixels of a convolution meet its outputs, which are summed band by band. */
#ifndef PYODL_CONVOLUTION_H
#define PYODL_CONVOLUTION_H

#include "listed_pixels.h"

#define PYODL_BAND_BYTES 40960 /* of sums at a time, for the first-level cache */
#define PYODL_BAND_SUMS (PYODL_BAND_BYTES / (PYODL_LANES * (int)sizeof(float))) /* registers */
#define PYODL_MOST_REGISTERS 4 /* of outputs that are summed together */
#define PYODL_FEW_ROWS 4       /* of outputs, that a part of them has at least */

/* Pixel (row, column) meets tap (i, j) at output ((stride * row + first + sign * i) / deal, ...), if that
 * is a whole number. The sign is 1 if `mirrored`, for an input gradient, of which `deal` is 1; else it is
 * -1, for a convolution, of which `stride` is 1. */
typedef struct {
    const void *x;        /* (channels, rows, columns), as stored */
    const int32_t *place; /* of every pixel among sums, for the first tap, and slack; not if dealt */
    const uint16_t *w;    /* (channel, tap, output channel), as stored */
    void *out;            /* (output channels, output rows, output columns), as stored */
    int64_t channels, rows, columns;
    int64_t out_channels, out_rows, out_columns;
    int64_t kernel;       /* 3 or 1, of rows and of columns */
    int64_t stride[2], deal[2], first[2]; /* of rows and columns */
    int64_t mirrored;
    int64_t left, width;  /* of the sums of a row: those before the first output, and all */
} pyodl_convolution;

/* Rows of output of some registers of channels. */
typedef struct {
    int64_t channel; /* the first */
    int64_t registers;
    int64_t start, stop;
} pyodl_band;

/* Rows of the kernel that a row of pixels meets in a band. */
typedef struct {
    int64_t first;
    int64_t count;
} pyodl_met;

PYODL_INLINE int64_t output_row(const pyodl_convolution *c, int64_t row, int64_t tap) {
    return c->stride[0] * row + c->first[0] + (c->mirrored ? tap : -tap);
}

PYODL_INLINE pyodl_met rows_met(const pyodl_convolution *c, const pyodl_band *band, int64_t row) {
    pyodl_met met = {0, 0};
    for (int64_t i = 0; i < c->kernel; i++) {
        const int64_t at = output_row(c, row, i);
        if (at >= band->start && at < band->stop) {
            met.first = met.count ? met.first : i;
            met.count++;
        }
    }
    return met;
}

PYODL_INLINE int meet_alike(pyodl_met a, pyodl_met b) {
    return a.first == b.first && a.count == b.count;
}

/* ---- rows of pixels -------------------------------------------------------------------------- */

PYODL_INLINE int64_t floor_quotient(int64_t a, int64_t b) {
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

/* The rows of pixels that meet a band. */
static inline pyodl_span rows_around(const pyodl_convolution *c, const pyodl_band *band) {
    const int64_t reach = c->kernel - 1, up = c->mirrored ? reach : 0, down = reach - up;
    const int64_t first = band->start * c->deal[0] - c->first[0] - up;
    const int64_t last = (band->stop - 1) * c->deal[0] - c->first[0] + down;
    const int64_t from = floor_quotient(first, c->stride[0]);
    return (pyodl_span){from > 0 ? from : 0,
                        at_most(floor_quotient(last, c->stride[0]) + 1, c->rows)};
}

/* Rows of pixels that meet the same rows of the kernel in a band. */
typedef struct {
    pyodl_span rows;
    pyodl_met met;
} pyodl_stretch;

/* As many of some rows, from the first on. */
static inline pyodl_stretch stretch_of(const pyodl_convolution *c, const pyodl_band *band,
                                       pyodl_span rows) {
    pyodl_stretch found = {{rows.first, rows.first + 1}, rows_met(c, band, rows.first)};
    while (found.rows.stop < rows.stop && meet_alike(rows_met(c, band, found.rows.stop), found.met))
        found.rows.stop++;
    return found;
}

/* ---- how much at a time -------------------------------------------------------------------------- */

/* Whether pixels are dealt out, and added tap by tap. */
PYODL_INLINE int is_dealt(const pyodl_convolution *c) {
    return c->deal[0] > 1 || c->deal[1] > 1;
}

/* Rows of sums above a band, and as many below, that its pixels reach tap by tap, for nothing. */
PYODL_INLINE int64_t rows_beside(const pyodl_convolution *c) {
    return is_dealt(c) ? (c->kernel - 1) / c->deal[0] : 0;
}

/* Registers of output channels to sum together, of so many that are left: few where rows of sums are so
 * long that bands would have few rows. A single tap needs no more than one; a kernel of 3 lists the rows
 * beside a band again. */
PYODL_INLINE int64_t registers_together(const pyodl_convolution *c, int step, int64_t rest) {
    const int64_t rows = (c->kernel == 1 ? 2 : 8) + 2 * rows_beside(c);
    const int64_t fit = PYODL_BAND_BYTES / (rows * c->width * step_sum_size(step));
    const int by_taps = c->kernel == 1 || is_dealt(c);
    if (by_taps && rest >= PYODL_MOST_REGISTERS && fit >= PYODL_MOST_REGISTERS)
        return PYODL_MOST_REGISTERS;
    return rest >= 2 && fit >= 2 ? 2 : 1;
}

/* Rows of output whose sums are kept at a time: one at least, since rows are not longer than that
 * (`may_go_around`). */
PYODL_INLINE int64_t rows_together(const pyodl_convolution *c, int step, int64_t registers) {
    return PYODL_BAND_BYTES / (c->width * registers * step_sum_size(step)) - 2 * rows_beside(c);
}

#endif
