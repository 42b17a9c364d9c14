"""Activations on flat tensors, split over elements: ReLU, LeakyReLU, sigmoid."""

from libc.stdint cimport int64_t, uint16_t, uint32_t

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._team cimport reach_elements, share_out
from pyodl._kernels._transcendental cimport exp_float
from pyodl._kernels._types cimport (
    Arguments, PYODL_BFLOAT16, PYODL_FLOAT32, PYODL_FP32, Team, add, load, mul, quotient, rounded,
    storage_format, store, sub,
)

cdef enum:
    INFINITY_FLOAT16 = 0x7C00
    INFINITY_BFLOAT16 = 0x7F80
    INFINITY_FLOAT32 = 0x7F800000


# x > 0 as integers: the bits lie above +0 and not above infinity, and the difference wraps round
# for zero. dy is read in any case and masked, so that the loops vectorise and keep its NaNs' bits.

cdef void select16(
    const uint16_t *x, const uint16_t *dy, uint16_t *out, uint16_t infinity, int64_t start,
    int64_t stop
) noexcept nogil:
    cdef int64_t i
    cdef uint16_t positive
    for i in range(start, stop):
        positive = <uint16_t>(x[i] - 1) < infinity
        out[i] = dy[i] & <uint16_t>-positive


cdef void select32(
    const uint32_t *x, const uint32_t *dy, uint32_t *out, uint32_t infinity, int64_t start,
    int64_t stop
) noexcept nogil:
    cdef int64_t i
    cdef uint32_t positive
    for i in range(start, stop):
        positive = x[i] - 1 < infinity
        out[i] = dy[i] & -positive


cdef void relu_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int format = storage_format(args.arithmetic)
    if format == PYODL_FLOAT32:
        select32(<const uint32_t *>args.arrays[0], <const uint32_t *>args.arrays[1],
                 <uint32_t *>args.arrays[2], INFINITY_FLOAT32, start, stop)
    else:
        select16(<const uint16_t *>args.arrays[0], <const uint16_t *>args.arrays[1],
                 <uint16_t *>args.arrays[2],
                 INFINITY_BFLOAT16 if format == PYODL_BFLOAT16 else INFINITY_FLOAT16,
                 start, stop)


cdef void relu(const Arguments *args, Team team) noexcept nogil:
    """out = x > 0 ? dy : +0; forward, dy is x. Arrays: x, dy, out. Sizes: n."""
    share_out(args, args.sizes[0], team, relu_part)


cdef inline void leaky_block(
    int arithmetic, float slope, const void *x, const void *dy, void *out, int64_t start,
    int64_t stop
) noexcept nogil:
    cdef int64_t i
    cdef bint wide = storage_format(arithmetic) == PYODL_FLOAT32
    for i in range(start, stop):
        if not load(arithmetic, x, i) > 0:
            store(arithmetic, out, i, mul(arithmetic, slope, load(arithmetic, dy, i)))
        elif wide:
            (<uint32_t *>out)[i] = (<const uint32_t *>dy)[i]
        else:
            (<uint16_t *>out)[i] = (<const uint16_t *>dy)[i]


cdef void leaky_relu_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    leaky_block(args.arithmetic, args.scalars[0], args.arrays[0], args.arrays[1],
                args.arrays[2], start, stop)


cdef void leaky_relu(const Arguments *args, Team team) noexcept nogil:
    """out = x > 0 ? dy : slope * dy; forward, dy is x.

    Arrays: x, dy, out. Sizes: n. Scalars: slope.
    """
    share_out(args, args.sizes[0], team, leaky_relu_part)


cdef inline void sigmoid_block(
    int arithmetic, const void *x, void *y, int64_t start, int64_t stop
) noexcept nogil:
    cdef int64_t i
    cdef float s
    for i in range(start, stop):
        s = add(PYODL_FP32, 1, exp_float(-load(arithmetic, x, i)))  # float on the device
        store(arithmetic, y, i, quotient(arithmetic, 1, rounded(arithmetic, s)))


cdef void sigmoid_forward_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    sigmoid_block(args.arithmetic, args.arrays[0], args.arrays[1], start, stop)


cdef void sigmoid_forward(const Arguments *args, Team team) noexcept nogil:
    """y = 1 / (1 + expf(-x)). Arrays: x, y. Sizes: n."""
    share_out(args, args.sizes[0], team, sigmoid_forward_part)


cdef inline void sigmoid_grad_block(
    int arithmetic, const void *y, const void *dy, void *dx, int64_t start, int64_t stop
) noexcept nogil:
    cdef int64_t i
    cdef float value, slope
    for i in range(start, stop):
        value = load(arithmetic, y, i)
        slope = mul(PYODL_FP32, value, sub(PYODL_FP32, 1, value))  # float on the device
        store(arithmetic, dx, i,
              mul(arithmetic, load(arithmetic, dy, i), rounded(arithmetic, slope)))


cdef void sigmoid_backward_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    sigmoid_grad_block(args.arithmetic, args.arrays[0], args.arrays[1], args.arrays[2],
                       start, stop)


cdef void sigmoid_backward(const Arguments *args, Team team) noexcept nogil:
    """dx = dy * (y * (1 - y)). Arrays: y, dy, dx. Sizes: n."""
    share_out(args, args.sizes[0], team, sigmoid_backward_part)


KERNELS = {
    "relu_forward": kernel_capsule(relu, reach_elements),
    "relu_backward": kernel_capsule(relu, reach_elements),
    "leaky_relu_forward": kernel_capsule(leaky_relu, reach_elements),
    "leaky_relu_backward": kernel_capsule(leaky_relu, reach_elements),
    "sigmoid_forward": kernel_capsule(sigmoid_forward, reach_elements),
    "sigmoid_backward": kernel_capsule(sigmoid_backward, reach_elements),
}
