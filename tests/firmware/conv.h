/* Convolutions: im2row with a matmul, the direct loops, and depthwise. */
#ifndef CONV_H
#define CONV_H

#include "matmul.h"

typedef struct {
    int channels, height, width, out_channels, kernel_height, kernel_width, stride_down,
        stride_right, up, down, left, right, out_height, out_width, hwc, direct;
} convolution;

static inline int pixels_of(const convolution *c)
{
    return c->out_height * c->out_width;
}

static inline int taps_of(const convolution *c)
{
    return c->channels * c->kernel_height * c->kernel_width;
}

/* Element (channel, h, w) of an image, in the layout. */
static inline int at(const convolution *c, int channels, int height, int width, int channel, int h,
                     int w)
{
    return c->hwc ? (h * width + w) * channels + channel : (channel * height + h) * width + w;
}

/* Where a row of im2row has tap (channel, i, j); weights have the same order. */
static inline int tap_at(const convolution *c, int channels, int channel, int i, int j)
{
    return at(c, channels, c->kernel_height, c->kernel_width, channel, i, j);
}

static inline half pixel_or_zero(const convolution *c, const half *x, int channel, int h, int w)
{
    if (h < 0 || w < 0 || h >= c->height || w >= c->width)
        return 0;
    return x[at(c, c->channels, c->height, c->width, channel, h, w)];
}

/* One row for each output pixel, or one column. */
static void im2row(const convolution *c, const half *x, half *rows, int as_columns, int core,
                   int cores)
{
    block pixels = block_of(pixels_of(c), core, cores);
    int taps = taps_of(c), count = pixels_of(c), p, channel, i, j;
    for (p = pixels.begin; p < pixels.end; p++) {
        int h = p / c->out_width * c->stride_down - c->up;
        int w = p % c->out_width * c->stride_right - c->left;
        for (channel = 0; channel < c->channels; channel++)
            for (i = 0; i < c->kernel_height; i++)
                for (j = 0; j < c->kernel_width; j++) {
                    int tap = tap_at(c, c->channels, channel, i, j);
                    rows[as_columns ? tap * count + p : p * taps + tap] =
                        pixel_or_zero(c, x, channel, h + i, w + j);
                }
    }
}

/* The row and the column of the output gradient under tap `i` of the flipped kernel at `h`, or -1
 * where there is none: between strides, and outside. */
static inline int source(int h, int i, int kernel, int before, int stride, int count)
{
    int spread = h + i - (kernel - 1 - before);
    if (spread < 0 || spread % stride != 0 || spread / stride >= count)
        return -1;
    return spread / stride;
}

/* One row of output gradients, spread by the stride, for each input pixel. */
static void im2row_gradient(const convolution *c, const half *dy, half *rows, int core, int cores)
{
    block pixels = block_of(c->height * c->width, core, cores);
    int taps = c->out_channels * c->kernel_height * c->kernel_width, p, o, i, j;
    for (p = pixels.begin; p < pixels.end; p++)
        for (i = 0; i < c->kernel_height; i++) {
            int h = source(p / c->width, i, c->kernel_height, c->up, c->stride_down, c->out_height);
            for (j = 0; j < c->kernel_width; j++) {
                int w = source(p % c->width, j, c->kernel_width, c->left, c->stride_right,
                               c->out_width);
                for (o = 0; o < c->out_channels; o++)
                    rows[p * taps + tap_at(c, c->out_channels, o, i, j)] =
                        h < 0 || w < 0 ? (half)0
                                       : dy[at(c, c->out_channels, c->out_height, c->out_width, o,
                                               h, w)];
            }
        }
}

/* Weights of the input gradient: channels exchanged, kernel flipped. */
static void block_transpose(const convolution *c, const half *w, half *out, int core, int cores)
{
    block channels = block_of(c->channels, core, cores);
    int size = c->kernel_height * c->kernel_width, channel, o, i, j;
    for (channel = channels.begin; channel < channels.end; channel++)
        for (o = 0; o < c->out_channels; o++)
            for (i = 0; i < c->kernel_height; i++)
                for (j = 0; j < c->kernel_width; j++)
                    out[channel * c->out_channels * size + tap_at(c, c->out_channels, o, i, j)] =
                        w[o * taps_of(c) + tap_at(c, c->channels, channel, c->kernel_height - 1 - i,
                                                  c->kernel_width - 1 - j)];
}

static void transpose(const half *x, half *y, int rows, int columns, int core, int cores)
{
    block own = block_of(rows, core, cores);
    int i, j;
    for (i = own.begin; i < own.end; i++)
        for (j = 0; j < columns; j++)
            y[j * rows + i] = x[i * columns + j];
}

/* The direct loops: padding is skipped, not multiplied. */
static void direct_forward(const convolution *c, const half *x, const half *w, half *y, int core,
                           int cores)
{
    block outputs = block_of(c->out_channels, core, cores);
    int o, p, channel, i, j;
    for (o = outputs.begin; o < outputs.end; o++)
        for (p = 0; p < pixels_of(c); p++) {
            int h = p / c->out_width * c->stride_down - c->up;
            int v = p % c->out_width * c->stride_right - c->left;
            accumulator sum = 0;
            for (channel = 0; channel < c->channels; channel++)
                for (i = 0; i < c->kernel_height; i++)
                    for (j = 0; j < c->kernel_width; j++)
                        if (h + i >= 0 && v + j >= 0 && h + i < c->height && v + j < c->width)
                            sum = step(w[o * taps_of(c) + tap_at(c, c->channels, channel, i, j)],
                                       pixel_or_zero(c, x, channel, h + i, v + j), sum);
            y[at(c, c->out_channels, c->out_height, c->out_width, o, p / c->out_width,
                 p % c->out_width)] = (half)sum;
        }
}

static void direct_weight_gradient(const convolution *c, const half *x, const half *dy, half *dw,
                                   int core, int cores)
{
    block outputs = block_of(c->out_channels, core, cores);
    int o, p, channel, i, j;
    for (o = outputs.begin; o < outputs.end; o++)
        for (channel = 0; channel < c->channels; channel++)
            for (i = 0; i < c->kernel_height; i++)
                for (j = 0; j < c->kernel_width; j++) {
                    accumulator sum = 0;
                    for (p = 0; p < pixels_of(c); p++) {
                        int oh = p / c->out_width, ow = p % c->out_width;
                        int h = oh * c->stride_down - c->up + i;
                        int w = ow * c->stride_right - c->left + j;
                        if (h >= 0 && w >= 0 && h < c->height && w < c->width)
                            sum = step(dy[at(c, c->out_channels, c->out_height, c->out_width, o, oh,
                                             ow)],
                                       pixel_or_zero(c, x, channel, h, w), sum);
                    }
                    dw[o * taps_of(c) + tap_at(c, c->channels, channel, i, j)] = (half)sum;
                }
}

/* With a stride or padding a step of a 16-bit accumulator goes through a float. */
static inline accumulator detour(half a, half b, accumulator c)
{
#ifdef FP16_FP32ACC
    return step(a, b, c);
#else
    return (half)((float)a * (float)b + (float)c);
#endif
}

static void direct_input_gradient(const convolution *c, const half *w, const half *dy, half *dx,
                                  int plain, int core, int cores)
{
    block channels = block_of(c->channels, core, cores);
    int channel, p, o, i, j;
    for (channel = channels.begin; channel < channels.end; channel++)
        for (p = 0; p < c->height * c->width; p++) {
            accumulator sum = 0;
            for (o = 0; o < c->out_channels; o++)
                for (i = 0; i < c->kernel_height; i++)
                    for (j = 0; j < c->kernel_width; j++) {
                        int h = source(p / c->width, i, c->kernel_height, c->up, c->stride_down,
                                       c->out_height);
                        int v = source(p % c->width, j, c->kernel_width, c->left, c->stride_right,
                                       c->out_width);
                        half a, b;
                        if (h < 0 || v < 0)
                            continue;
                        a = w[o * taps_of(c) + tap_at(c, c->channels, channel,
                                                      c->kernel_height - 1 - i,
                                                      c->kernel_width - 1 - j)];
                        b = dy[at(c, c->out_channels, c->out_height, c->out_width, o, h, v)];
                        sum = plain ? step(a, b, sum) : detour(a, b, sum);
                    }
            dx[at(c, c->channels, c->height, c->width, channel, p / c->width, p % c->width)] =
                (half)sum;
        }
}

static inline int is_plain(const convolution *c)
{
    return c->stride_down == 1 && c->stride_right == 1 &&
           (c->up | c->down | c->left | c->right) == 0;
}

/* Depthwise: every channel is a convolution of one channel, by the direct loops. */
static convolution one_channel(const convolution *c)
{
    convolution one = *c;
    one.channels = one.out_channels = 1;
    one.hwc = 0;
    return one;
}

enum conv_step { FORWARD, WEIGHT_GRADIENT, INPUT_GRADIENT };

static void depthwise(const convolution *c, enum conv_step which, const half *a, const half *b,
                      half *out, int core, int cores)
{
    block channels = block_of(c->channels, core, cores);
    convolution one = one_channel(c);
    int size = c->kernel_height * c->kernel_width, image = c->height * c->width, i;
    for (i = channels.begin; i < channels.end; i++) {
        if (which == FORWARD)
            direct_forward(&one, a + i * image, b + i * size, out + i * pixels_of(c), 0, 1);
        else if (which == WEIGHT_GRADIENT)
            direct_weight_gradient(&one, a + i * image, b + i * pixels_of(c), out + i * size, 0, 1);
        else
            direct_input_gradient(&one, a + i * size, b + i * pixels_of(c), out + i * image, 1, 0, 1);
    }
}

#endif
