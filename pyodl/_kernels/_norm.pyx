"""Instance normalisation of CHW tensors, split over channels.

Sizes of every kernel: C, elements of a channel. Formulas: the firmware's, operation by operation.
"""

from libc.stdint cimport int64_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._team cimport share_out
from pyodl._kernels._types cimport (
    Arguments, Team, add, float_bits, fma_step, load, mul, quotient, root, rounded, store, sub,
)

cdef enum:
    PLUS_INFINITY = 0x7F800000


cdef void channel_statistics(
    int arithmetic, float epsilon, const void *x, int64_t n, int64_t channel, void *mean,
    void *std, void *var
) noexcept nogil:
    cdef int64_t i, first = channel * n
    cdef float value, inverse = quotient(arithmetic, 1, rounded(arithmetic, <float>n))
    cdef float m = 0
    cdef float v = 0
    for i in range(first, first + n):
        value = load(arithmetic, x, i)
        m = add(arithmetic, m, value)
        v = fma_step(arithmetic, value, value, v)
    m = mul(arithmetic, m, inverse)
    v = mul(arithmetic, v, inverse)
    if float_bits(v) == PLUS_INFINITY:  # the squares overflowed: sum the scaled deviations
        v = 0
        for i in range(first, first + n):
            value = sub(arithmetic, load(arithmetic, x, i), m)
            v = fma_step(arithmetic, mul(arithmetic, value, value), inverse, v)
    else:
        v = fma_step(arithmetic, -m, m, v)
    v = add(arithmetic, v, epsilon)
    if v < 0:
        v = epsilon
    store(arithmetic, mean, channel, m)
    store(arithmetic, std, channel, root(arithmetic, v))
    if var != NULL:
        store(arithmetic, var, channel, v)


cdef void statistics_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t channel
    for channel in range(start, stop):
        channel_statistics(args.arithmetic, args.scalars[0], args.arrays[0], args.sizes[1],
                           channel, args.arrays[1], args.arrays[2], args.arrays[3])


cdef void instance_norm_statistics(const Arguments *args, Team team) noexcept nogil:
    """Arrays: x, mean, std, var or NULL. Scalars: epsilon."""
    share_out(args, args.sizes[0], team, statistics_part)


cdef void channel_apply(
    int arithmetic, const void *x, float scale, float mean, float beta, void *y, int64_t first,
    int64_t stop
) noexcept nogil:
    cdef int64_t i
    cdef float value
    for i in range(first, stop):
        value = sub(arithmetic, load(arithmetic, x, i), mean)
        store(arithmetic, y, i, fma_step(arithmetic, scale, value, beta))


cdef void apply_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int arithmetic = args.arithmetic
    cdef int64_t channel, n = args.sizes[1]
    cdef float scale
    for channel in range(start, stop):
        scale = quotient(arithmetic, load(arithmetic, args.arrays[1], channel),
                         load(arithmetic, args.arrays[4], channel))
        channel_apply(arithmetic, args.arrays[0], scale,
                      load(arithmetic, args.arrays[3], channel),
                      load(arithmetic, args.arrays[2], channel), args.arrays[5],
                      channel * n, (channel + 1) * n)


cdef void instance_norm_apply(const Arguments *args, Team team) noexcept nogil:
    """y = (gamma / std) * (x - mean) + beta. Arrays: x, gamma, beta, mean, std, y."""
    share_out(args, args.sizes[0], team, apply_part)


cdef void channel_param_grad(
    int arithmetic, const void *x, const void *dy, float mean, float std, int64_t n,
    int64_t channel, void *dgamma, void *dbeta
) noexcept nogil:
    cdef int64_t i
    cdef float grad, deviation
    cdef float gamma_sum = 0
    cdef float beta_sum = 0
    for i in range(channel * n, (channel + 1) * n):
        grad = load(arithmetic, dy, i)
        deviation = sub(arithmetic, load(arithmetic, x, i), mean)
        gamma_sum = fma_step(arithmetic, grad, deviation, gamma_sum)
        beta_sum = add(arithmetic, beta_sum, grad)
    store(arithmetic, dgamma, channel, quotient(arithmetic, gamma_sum, std))
    store(arithmetic, dbeta, channel, beta_sum)


cdef void param_grad_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t channel
    for channel in range(start, stop):
        channel_param_grad(args.arithmetic, args.arrays[0], args.arrays[1],
                           load(args.arithmetic, args.arrays[2], channel),
                           load(args.arithmetic, args.arrays[3], channel), args.sizes[1],
                           channel, args.arrays[4], args.arrays[5])


cdef void instance_norm_param_grad(const Arguments *args, Team team) noexcept nogil:
    """Arrays: x, dy, mean, std, dgamma, dbeta."""
    share_out(args, args.sizes[0], team, param_grad_part)


cdef void channel_input_grad(const Arguments *args, int64_t channel) noexcept nogil:
    cdef int arithmetic = args.arithmetic
    cdef const void *x = args.arrays[0]
    cdef const void *dy = args.arrays[1]
    cdef float gamma = load(arithmetic, args.arrays[2], channel)
    cdef float mean = load(arithmetic, args.arrays[3], channel)
    cdef float std = load(arithmetic, args.arrays[4], channel)
    cdef float var = load(arithmetic, args.arrays[5], channel)
    cdef int64_t i, n = args.sizes[1]
    cdef float count = rounded(arithmetic, <float>n)
    cdef float scale = mul(arithmetic, count, std)
    cdef float grad, deviation
    cdef float grad_sum = 0
    cdef float product_sum = 0
    for i in range(channel * n, (channel + 1) * n):
        grad = load(arithmetic, dy, i)
        deviation = sub(arithmetic, load(arithmetic, x, i), mean)
        grad_sum = sub(arithmetic, grad_sum, grad)
        product_sum = fma_step(arithmetic, -deviation, grad, product_sum)
    for i in range(channel * n, (channel + 1) * n):
        deviation = sub(arithmetic, load(arithmetic, x, i), mean)
        grad = fma_step(arithmetic, product_sum, quotient(arithmetic, deviation, var), grad_sum)
        grad = fma_step(arithmetic, count, load(arithmetic, dy, i), grad)
        store(arithmetic, args.arrays[6], i,
              quotient(arithmetic, mul(arithmetic, grad, gamma), scale))


cdef void input_grad_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t channel
    for channel in range(start, stop):
        channel_input_grad(args, channel)


cdef void instance_norm_input_grad(const Arguments *args, Team team) noexcept nogil:
    """Arrays: x, dy, gamma, mean, std, var, dx."""
    share_out(args, args.sizes[0], team, input_grad_part)


KERNELS = {
    "instance_norm_statistics": kernel_capsule(instance_norm_statistics),
    "instance_norm_apply": kernel_capsule(instance_norm_apply),
    "instance_norm_param_grad": kernel_capsule(instance_norm_param_grad),
    "instance_norm_input_grad": kernel_capsule(instance_norm_input_grad),
}
