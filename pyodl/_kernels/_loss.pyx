"""Losses over all elements of a tensor, on one core.

Arrays of every kernel: output, target, loss or NULL, gradient or NULL. Sizes: n. What the firmware
computes in float whatever the tensors are goes through PYODL_FP32 or float_step.
"""

from libc.math cimport fabsf
from libc.stdint cimport int64_t, uint16_t

from pyodl._kernels._capsule cimport lone_capsule
from pyodl._kernels._transcendental cimport exp_float, log_float
from pyodl._kernels._types cimport (
    Arguments, PYODL_FLOAT32, PYODL_FP32, Team, add, float_bits, float_from_bits, float_step,
    fma_step, load, mul, quotient, rounded, storage_format, store, sub,
)


cdef inline float difference(const Arguments *args, int64_t i) noexcept nogil:
    """Return output - target."""
    return sub(args.arithmetic, load(args.arithmetic, args.arrays[0], i),
               load(args.arithmetic, args.arrays[1], i))


cdef inline float mean_of(const Arguments *args) noexcept nogil:
    """Return 1 / n: a quotient of floats, then a value of the accumulator format."""
    return rounded(args.arithmetic, quotient(PYODL_FP32, 1, <float>args.sizes[0]))


cdef inline void negate(int arithmetic, void *array) noexcept nogil:
    """Flip the sign bit of a stored value, be it NaN or zero."""
    if storage_format(arithmetic) == PYODL_FLOAT32:
        (<float *>array)[0] = float_from_bits(float_bits((<float *>array)[0]) ^ 0x80000000U)
    else:
        (<uint16_t *>array)[0] ^= 0x8000


cdef void cross_entropy(const Arguments *args, Team team) noexcept nogil:
    """loss = log(sum exp z) * sum t - sum z t; gradient = softmax(z) * sum t - t; all in float."""
    cdef int arithmetic = args.arithmetic
    cdef const void *logits = args.arrays[0]
    cdef const void *target = args.arrays[1]
    cdef int64_t i
    cdef float z, t, log_sum, p, inverse
    cdef float largest = load(arithmetic, logits, 0)
    cdef float exp_sum = 0
    cdef float dot = 0
    cdef float target_sum = 0
    for i in range(1, args.sizes[0]):
        z = load(arithmetic, logits, i)
        if z > largest:
            largest = z
    for i in range(args.sizes[0]):
        z = load(arithmetic, logits, i)
        t = load(arithmetic, target, i)
        exp_sum = exp_sum + exp_float(z - largest)
        dot = float_step(arithmetic, t, z, dot)
        target_sum = target_sum + t
    if args.arrays[2] != NULL:
        log_sum = log_float(exp_sum) + largest
        store(arithmetic, args.arrays[2], 0, float_step(arithmetic, -log_sum, target_sum, dot))
        negate(arithmetic, args.arrays[2])
    if args.arrays[3] != NULL:
        if target_sum == 0:
            target_sum = 1
        inverse = quotient(PYODL_FP32, 1, exp_sum)
        for i in range(args.sizes[0]):
            p = exp_float(load(arithmetic, logits, i) - largest) * inverse
            t = load(arithmetic, target, i)
            store(arithmetic, args.arrays[3], i, float_step(arithmetic, p, target_sum, -t))


cdef void mse(const Arguments *args, Team team) noexcept nogil:
    """loss = mean of squares, summed as (mean d) d; gradient = 2 mean d, in float."""
    cdef int arithmetic = args.arithmetic
    cdef int64_t i
    cdef float d, mean = mean_of(args)
    cdef float loss = 0
    for i in range(args.sizes[0]):
        d = difference(args, i)
        loss = fma_step(arithmetic, mul(arithmetic, mean, d), d, loss)
        if args.arrays[3] != NULL:
            store(arithmetic, args.arrays[3], i, mul(PYODL_FP32, mul(PYODL_FP32, mean, 2), d))
    if args.arrays[2] != NULL:
        store(arithmetic, args.arrays[2], 0, loss)


cdef void l1(const Arguments *args, Team team) noexcept nogil:
    """loss = mean of |d|; gradient = +mean if d >= 0, else -mean: never 0, and -mean for NaN."""
    cdef int arithmetic = args.arithmetic
    cdef int64_t i
    cdef float d, mean = mean_of(args)
    cdef float loss = 0
    for i in range(args.sizes[0]):
        d = difference(args, i)
        loss = fma_step(arithmetic, mean, fabsf(d), loss)
        if args.arrays[3] != NULL:
            store(arithmetic, args.arrays[3], i, mean if d >= 0 else -mean)
    if args.arrays[2] != NULL:
        store(arithmetic, args.arrays[2], 0, loss)


cdef void berhu(const Arguments *args, Team team) noexcept nogil:
    """With c = alpha max |d|: |d| below c, (d d - c c) / (2 c) from there on; their mean.

    The gradient is +-mean or 0 below c, mean d / c from there on. Scalars: alpha.
    """
    cdef int arithmetic = args.arithmetic
    cdef int64_t i
    cdef float d, size, term, square, mean = mean_of(args)
    cdef float c = 0
    cdef float loss = 0
    for i in range(args.sizes[0]):
        size = fabsf(difference(args, i))
        if size > c:
            c = size
    c = mul(arithmetic, args.scalars[0], c)
    square = mul(arithmetic, c, c)
    for i in range(args.sizes[0]):
        d = difference(args, i)
        size = fabsf(d)
        if size < c:
            term = size
            d = mean if d > 0 else -mean if d < 0 else 0
        else:
            term = quotient(arithmetic, fma_step(arithmetic, size, size, -square),
                            mul(arithmetic, 2, c))
            d = quotient(arithmetic, mul(arithmetic, mean, d), c)
        loss = add(arithmetic, loss, term)
        if args.arrays[3] != NULL:
            store(arithmetic, args.arrays[3], i, d)
    if args.arrays[2] != NULL:
        store(arithmetic, args.arrays[2], 0, mul(arithmetic, loss, mean))


KERNELS = {
    "cross_entropy": lone_capsule(cross_entropy),
    "mse": lone_capsule(mse),
    "l1": lone_capsule(l1),
    "berhu": lone_capsule(berhu),
}
