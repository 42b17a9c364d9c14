/* Runs operations in the arithmetic that it is compiled for. A parallel section is a loop over the
 * cores; its end is a barrier.
 */
#include "conv.h"
#include "layers.h"
#include "matmul.h"
#include "tape.h"

#define ON_EVERY_CORE for (int core = 0; core < cores; core++)

static int cores_of(const operation *op)
{
#ifdef DEFECT_CORES
    return op->cores + 1;
#else
    return op->cores;
#endif
}

static void multiply(const half *a, const half *b, half *c, int n, int k, int m, int b_transposed,
                     const operation *op)
{
    product p = {a, b, c, n, k, m, b_transposed};
    int cores = cores_of(op);
    ON_EVERY_CORE matmul(&p, (enum kernel)op->kernel, core, cores);
}

static half *transposed(const half *x, int rows, int columns, int cores)
{
    half *y = scratch((uint32_t)(rows * columns) * sizeof(half));
    ON_EVERY_CORE transpose(x, y, rows, columns, core, cores);
    return y;
}

static convolution convolution_of(const operation *op)
{
    const int32_t *n = op->numbers;
    convolution c = {n[0], n[1], n[2],  n[3],  n[4],  n[5],  n[6],  n[7],
                     n[8], n[9], n[10], n[11], n[12], n[13], n[14], n[15]};
#ifdef DEFECT_PADDING
    c.up = n[9], c.down = n[8], c.left = n[11], c.right = n[10];
#endif
    return c;
}

static void conv2d_forward(const operation *op, void *const *in, void *const *out)
{
    convolution c = convolution_of(op);
    const half *x = in[0], *w = in[1], *bias = in[2];
    half *y = out[0], *rows;
    int cores = cores_of(op), pixels = pixels_of(&c), taps = taps_of(&c);
    if (c.direct) {
        ON_EVERY_CORE direct_forward(&c, x, w, y, core, cores);
    } else {
        rows = scratch((uint32_t)(pixels * taps) * sizeof(half));
        ON_EVERY_CORE im2row(&c, x, rows, 0, core, cores);
        if (c.hwc)
            multiply(rows, w, y, pixels, taps, c.out_channels, 1, op);
        else
            multiply(w, rows, y, c.out_channels, taps, pixels, 1, op);
    }
    if (bias)
        ON_EVERY_CORE add_bias(y, bias, y, pixels * c.out_channels, c.out_channels,
                               c.hwc ? 1 : pixels, core, cores);
}

static void conv2d_weight_gradient(const operation *op, void *const *in, void *const *out)
{
    convolution c = convolution_of(op);
    const half *x = in[0], *dy = in[1];
    half *dw = out[0], *rows;
    int cores = cores_of(op), pixels = pixels_of(&c), taps = taps_of(&c);
    if (c.direct) {
        ON_EVERY_CORE direct_weight_gradient(&c, x, dy, dw, core, cores);
        return;
    }
    rows = scratch((uint32_t)(pixels * taps) * sizeof(half));
    ON_EVERY_CORE im2row(&c, x, rows, c.hwc, core, cores);
    if (c.hwc)
        dy = transposed(dy, pixels, c.out_channels, cores);
    multiply(dy, rows, dw, c.out_channels, pixels, taps, c.hwc, op);
}

static void conv2d_input_gradient(const operation *op, void *const *in, void *const *out)
{
    convolution c = convolution_of(op);
    const half *w = in[0], *dy = in[1];
    half *dx = out[0], *rows, *weights;
    int cores = cores_of(op), pixels = c.height * c.width;
    int taps = c.out_channels * c.kernel_height * c.kernel_width;
    if (c.direct) {
        int plain = is_plain(&c);
        ON_EVERY_CORE direct_input_gradient(&c, w, dy, dx, plain, core, cores);
        return;
    }
    rows = scratch((uint32_t)(pixels * taps) * sizeof(half));
    weights = scratch((uint32_t)(c.channels * taps) * sizeof(half));
    ON_EVERY_CORE im2row_gradient(&c, dy, rows, core, cores);
    ON_EVERY_CORE block_transpose(&c, w, weights, core, cores);
    if (c.hwc)
        multiply(rows, weights, dx, pixels, taps, c.channels, 1, op);
    else
        multiply(weights, rows, dx, c.channels, taps, pixels, 1, op);
}

/* Numbers: input channels, output channels, pixels, HWC. */
static void pointwise(const operation *op, void *const *in, void *const *out)
{
    const half *a = in[0], *b = in[1];
    int c_in = op->numbers[0], c_out = op->numbers[1], pixels = op->numbers[2];
    int hwc = op->numbers[3], cores = cores_of(op);
    if (op->kind == POINTWISE_FORWARD) {
        if (hwc)
            multiply(a, b, out[0], pixels, c_in, c_out, 1, op);
        else
            multiply(b, a, out[0], c_out, c_in, pixels, 0, op);
    } else if (op->kind == POINTWISE_WEIGHT_GRAD) {
        if (hwc) {
            a = transposed(a, pixels, c_in, cores);
            b = transposed(b, pixels, c_out, cores);
        }
        multiply(b, a, out[0], c_out, pixels, c_in, 1, op);
    } else {
        a = transposed(a, c_out, c_in, cores);
        if (hwc)
            multiply(b, a, out[0], pixels, c_out, c_in, 1, op);
        else
            multiply(a, b, out[0], c_in, c_out, pixels, 0, op);
    }
}

/* Numbers: inputs, outputs. */
static void linear(const operation *op, void *const *in, void *const *out)
{
    int inputs = op->numbers[0], outputs = op->numbers[1], cores = cores_of(op);
    if (op->kind == LINEAR_FORWARD) {
        multiply(in[1], in[0], out[0], outputs, inputs, 1, 0, op);
        if (in[2])
            ON_EVERY_CORE add_bias(out[0], in[2], out[0], outputs, outputs, 1, core, cores);
    } else if (op->kind == LINEAR_WEIGHT_GRAD) {
        multiply(in[1], in[0], out[0], outputs, 1, inputs, 0, op);
    } else {
        multiply(in[1], in[0], out[0], 1, outputs, inputs, 0, op);
    }
}

static void pooling(const operation *op, void *const *in, void *const *out)
{
    const int32_t *n = op->numbers;
    pool p = {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]};
    uint32_t size = (uint32_t)(p.channels * p.height * p.width) * sizeof(accumulator);
    accumulator *sums = scratch(size);
    int cores = cores_of(op);
    ON_EVERY_CORE {
        if (op->kind == AVG_POOL_FORWARD)
            avg_pool(&p, in[0], out[0], core, cores);
        else if (op->kind == AVG_POOL_BACKWARD)
            avg_pool_backward(&p, in[0], out[0], sums, core, cores);
        else if (op->kind == MAX_POOL_FORWARD)
            max_pool(&p, in[0], out[0], core, cores);
        else
            max_pool_backward(&p, in[0], in[1], out[0], sums, core, cores);
    }
}

static half from_bits(int32_t bits)
{
    union {
        uint16_t bits;
        half value;
    } x = {(uint16_t)bits};
    return x.value;
}

/* Numbers: elements, and what the operation takes besides. */
static void elements(const operation *op, void *const *in, void *const *out)
{
    const int32_t *n = op->numbers;
    int cores = cores_of(op);
    ON_EVERY_CORE {
        if (op->kind == RELU_FORWARD)
            relu(in[0], out[0], n[0], core, cores);
        else if (op->kind == RELU_BACKWARD)
            relu_backward(in[0], in[1], out[0], n[0], core, cores);
        else if (op->kind == ADD)
            add(in[0], in[1], out[0], n[0], core, cores);
        else if (op->kind == ADD_BIAS)
            add_bias(in[0], in[1], out[0], n[0], n[1], n[2], core, cores);
        else if (op->kind == CONV2D_BIAS_GRAD)
            bias_gradient(in[0], out[0], n[0], n[1], n[2], n[3], core, cores);
        else if (op->kind == SGD)
            sgd(in[0], in[1], out[0], out[1], from_bits(n[1]), from_bits(n[2]), n[0], core, cores);
        else
            move(in[0], out[0], n[0], core, cores);
    }
}

void NAME(run)(const operation *op, void *const *in, void *const *out)
{
    const int32_t *n = op->numbers;
    int cores = cores_of(op);
    convolution c;
    product p;
    switch (op->kind) {
    case MATMUL:
        multiply(in[0], in[1], out[0], n[0], n[1], n[2], n[3], op);
        break;
    case MATVEC:
        p = (product){in[0], in[1], out[0], n[0], n[1], 1, 0};
        ON_EVERY_CORE matvec(&p, core, cores);
        break;
    case CONV2D_FORWARD:
        conv2d_forward(op, in, out);
        break;
    case CONV2D_WEIGHT_GRAD:
        conv2d_weight_gradient(op, in, out);
        break;
    case CONV2D_INPUT_GRAD:
        conv2d_input_gradient(op, in, out);
        break;
    case DEPTHWISE_FORWARD:
    case DEPTHWISE_WEIGHT_GRAD:
    case DEPTHWISE_INPUT_GRAD:
        c = convolution_of(op);
        ON_EVERY_CORE depthwise(&c, (enum conv_step)(op->kind - DEPTHWISE_FORWARD), in[0], in[1],
                                out[0], core, cores);
        break;
    case POINTWISE_FORWARD:
    case POINTWISE_WEIGHT_GRAD:
    case POINTWISE_INPUT_GRAD:
        pointwise(op, in, out);
        break;
    case LINEAR_FORWARD:
    case LINEAR_WEIGHT_GRAD:
    case LINEAR_INPUT_GRAD:
        linear(op, in, out);
        break;
    case AVG_POOL_FORWARD:
    case AVG_POOL_BACKWARD:
    case MAX_POOL_FORWARD:
    case MAX_POOL_BACKWARD:
        pooling(op, in, out);
        break;
    case CROSS_ENTROPY:
        cross_entropy(in[0], in[1], out[0], 0, n[0]);
        break;
    case CROSS_ENTROPY_GRAD:
        cross_entropy(in[0], in[1], 0, out[0], n[0]);
        break;
    case MSE:
        mse(in[0], in[1], out[0], 0, n[0]);
        break;
    case MSE_GRAD:
        mse(in[0], in[1], 0, out[0], n[0]);
        break;
    default:
        elements(op, in, out);
    }
}
