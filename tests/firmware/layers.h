/* Element-wise work, pooling, losses and the optimiser. */
#ifndef LAYERS_H
#define LAYERS_H

#include "half.h"

static void relu(const half *x, half *y, int n, int core, int cores)
{
    block own = block_of(n, core, cores);
    for (int i = own.begin; i < own.end; i++)
        y[i] = x[i] > 0 ? x[i] : (half)0;
}

static void relu_backward(const half *x, const half *dy, half *dx, int n, int core, int cores)
{
    block own = block_of(n, core, cores);
    for (int i = own.begin; i < own.end; i++)
        dx[i] = x[i] > 0 ? dy[i] : (half)0;
}

static void add(const half *a, const half *b, half *y, int n, int core, int cores)
{
    block own = block_of(n, core, cores);
    for (int i = own.begin; i < own.end; i++)
        y[i] = (half)((accumulator)a[i] + (accumulator)b[i]);
}

/* y = x + bias, where element i belongs to channel i / inner % channels. */
static void add_bias(const half *x, const half *bias, half *y, int n, int channels, int inner,
                     int core, int cores)
{
    block own = block_of(n, core, cores);
    for (int i = own.begin; i < own.end; i++)
        y[i] = (half)((accumulator)x[i] + (accumulator)bias[i / inner % channels]);
}

/* The sum of each channel's pixels; pixel p of channel c is dy[c * channel_step + p * pixel_step]. */
static void bias_gradient(const half *dy, half *db, int channels, int pixels, int channel_step,
                          int pixel_step, int core, int cores)
{
    block own = block_of(channels, core, cores);
    for (int c = own.begin; c < own.end; c++) {
        accumulator sum = 0;
        for (int p = 0; p < pixels; p++)
            sum += (accumulator)dy[c * channel_step + p * pixel_step];
        db[c] = (half)sum;
    }
}

static void move(const half *x, half *y, int n, int core, int cores)
{
    block own = block_of(n, core, cores);
    for (int i = own.begin; i < own.end; i++)
        y[i] = x[i];
}

/* With decay the gradient becomes grad + decay w, and is stored, before w - lr grad. */
static void sgd(const half *w, const half *grad, half *w_new, half *grad_new, half lr, half decay,
                int n, int core, int cores)
{
    block own = block_of(n, core, cores);
    for (int i = own.begin; i < own.end; i++) {
        half g = decay == 0 ? grad[i] : (half)step(decay, w[i], (accumulator)grad[i]);
        grad_new[i] = g;
        w_new[i] = (half)step(-lr, g, (accumulator)w[i]);
    }
}

typedef struct {
    int channels, height, width, out_height, out_width, kernel_height, kernel_width, stride_down,
        stride_right;
} pool;

static void avg_pool(const pool *p, const half *x, half *y, int core, int cores)
{
    block own = block_of(p->channels, core, cores);
    accumulator count = (accumulator)(p->kernel_height * p->kernel_width);
    for (int c = own.begin; c < own.end; c++)
        for (int h = 0; h < p->out_height; h++)
            for (int w = 0; w < p->out_width; w++) {
                const half *window =
                    x + (c * p->height + h * p->stride_down) * p->width + w * p->stride_right;
                accumulator sum = 0;
                for (int i = 0; i < p->kernel_height; i++)
                    for (int j = 0; j < p->kernel_width; j++)
                        sum += (accumulator)window[i * p->width + j];
                y[(c * p->out_height + h) * p->out_width + w] = (half)(sum / count);
            }
}

/* Gradients are added in `sums`, of the accumulator's format, and stored once. */
static void avg_pool_backward(const pool *p, const half *dy, half *dx, accumulator *sums, int core,
                              int cores)
{
    block own = block_of(p->channels, core, cores);
    accumulator count = (accumulator)(p->kernel_height * p->kernel_width);
    int size = p->height * p->width;
    for (int c = own.begin; c < own.end; c++) {
        accumulator *plane = sums + c * size;
        for (int i = 0; i < size; i++)
            plane[i] = 0;
        for (int h = 0; h < p->out_height; h++)
            for (int w = 0; w < p->out_width; w++) {
                accumulator share =
                    (accumulator)dy[(c * p->out_height + h) * p->out_width + w] / count;
                for (int i = 0; i < p->kernel_height; i++)
                    for (int j = 0; j < p->kernel_width; j++)
                        plane[(h * p->stride_down + i) * p->width + w * p->stride_right + j] +=
                            share;
            }
        for (int i = 0; i < size; i++)
            dx[c * size + i] = (half)plane[i];
    }
}

static int first_maximum(const pool *p, const half *plane, int h, int w)
{
    int best = h * p->stride_down * p->width + w * p->stride_right, start = best;
    for (int i = 0; i < p->kernel_height; i++)
        for (int j = 0; j < p->kernel_width; j++)
            if (plane[start + i * p->width + j] > plane[best])
                best = start + i * p->width + j;
    return best;
}

static void max_pool(const pool *p, const half *x, half *y, int core, int cores)
{
    block own = block_of(p->channels, core, cores);
    for (int c = own.begin; c < own.end; c++)
        for (int h = 0; h < p->out_height; h++)
            for (int w = 0; w < p->out_width; w++) {
                const half *plane = x + c * p->height * p->width;
                y[(c * p->out_height + h) * p->out_width + w] =
                    plane[first_maximum(p, plane, h, w)];
            }
}

/* The mask, one at the maximum, is multiplied with the gradient over the whole window. */
static void max_pool_backward(const pool *p, const half *x, const half *dy, half *dx,
                              accumulator *sums, int core, int cores)
{
    block own = block_of(p->channels, core, cores);
    int size = p->height * p->width;
    for (int c = own.begin; c < own.end; c++) {
        accumulator *plane = sums + c * size;
        for (int i = 0; i < size; i++)
            plane[i] = 0;
        for (int h = 0; h < p->out_height; h++)
            for (int w = 0; w < p->out_width; w++) {
                int best = first_maximum(p, x + c * size, h, w);
                half d = dy[(c * p->out_height + h) * p->out_width + w];
                for (int i = 0; i < p->kernel_height; i++)
                    for (int j = 0; j < p->kernel_width; j++) {
                        int place =
                            (h * p->stride_down + i) * p->width + w * p->stride_right + j;
                        half mask = place == best ? (half)1 : (half)0;
                        plane[place] = step(mask, d, plane[place]);
                    }
            }
        for (int i = 0; i < size; i++)
            dx[c * size + i] = (half)plane[i];
    }
}

/* e^x and log x in binary64, rounded once to binary32. */
static float exp_float(float x)
{
    double t = x, n, r, sum = 1, term = 1;
    union {
        uint64_t bits;
        double value;
    } scale;
    if (x != x)
        return x;
    if (t > 89)
        return __builtin_inff();
    if (t < -104)
        return 0;
    n = (double)(int)(t * 1.4426950408889634 + (t < 0 ? -0.5 : 0.5));
    r = (t - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    for (int i = 1; i < 20; i++) {
        term *= r / i;
        sum += term;
    }
    scale.bits = (uint64_t)((int)n + 1023) << 52;
    return (float)(sum * scale.value);
}

static float log_float(float x)
{
    union {
        double value;
        uint64_t bits;
    } m = {x};
    double s, square, sum = 0;
    int exponent;
    if (x != x || x < 0)
        return __builtin_nanf("");
    if (x == 0)
        return -__builtin_inff();
    if (x == __builtin_inff())
        return x;
    exponent = (int)(m.bits >> 52) - 1023;
    m.bits = (m.bits & 0xfffffffffffffu) | (uint64_t)1023 << 52;
    if (m.value > 1.4142135623730951) {
        m.value /= 2;
        exponent++;
    }
    s = (m.value - 1) / (m.value + 1);
    square = s * s;
    for (int i = 41; i > 0; i -= 2)
        sum = sum * square + 1.0 / i;
    return (float)(exponent * 0.69314718055994530942 + 2 * s * sum);
}

/* A loss runs on one core and in float. */
static void cross_entropy(const half *z, const half *t, half *loss, half *grad, int n)
{
    float largest = (float)z[0], exp_sum = 0, dot = 0, target_sum = 0, inverse;
    for (int i = 1; i < n; i++)
        if ((float)z[i] > largest)
            largest = (float)z[i];
    for (int i = 0; i < n; i++) {
        exp_sum += exp_float((float)z[i] - largest);
        dot = float_step((float)t[i], (float)z[i], dot);
        target_sum += (float)t[i];
    }
    if (loss)
        loss[0] = -(half)float_step(-(log_float(exp_sum) + largest), target_sum, dot);
    if (!grad)
        return;
    if (target_sum == 0)
        target_sum = 1;
    inverse = 1 / exp_sum;
    for (int i = 0; i < n; i++)
        grad[i] = (half)float_step(exp_float((float)z[i] - largest) * inverse, target_sum,
                                   -(float)t[i]);
}

static void mse(const half *z, const half *t, half *loss, half *grad, int n)
{
    accumulator mean = (accumulator)(1 / (float)n), sum = 0;
    for (int i = 0; i < n; i++) {
        accumulator d = (accumulator)z[i] - (accumulator)t[i];
        accumulator scaled = mean * d;
#ifdef FP16_FP32ACC
        sum = __builtin_fmaf(scaled, d, sum);
#else
        sum = step(scaled, d, sum);
#endif
        if (grad)
            grad[i] = (half)((float)mean * 2 * (float)d);
    }
    if (loss)
        loss[0] = (half)sum;
}

#endif
