"""Pooling of CHW tensors, split over channels as on the device.

Sizes of every kernel: C, H, W, Ho, Wo, kernel height and width, stride down and right. Backward
kernels sum in a float workspace of the input's shape, whose values are of the accumulator format,
and store it once; a device with a 16-bit accumulator sums in the tensor itself, to the same bits.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memset

from pyodl._kernels._capsule cimport kernel_capsule
from pyodl._kernels._team cimport reach_items, share_out, stored_size
from pyodl._kernels._types cimport (
    Arguments, PYODL_FLOAT32, Reach, Team, fma_step, load, quotient, rounded, storage_format,
    store,
)


cdef extern from "include/pooling.h" nogil:
    int PYODL_LANES
    void sum_windows(
        int, const void *, const int64_t *, int64_t, int64_t, int64_t, float *) noexcept
    void add_share(int, float *, float, int64_t) noexcept
    void store_values(int, void *, int64_t, const float *, int64_t) noexcept

cdef enum:
    MAX_LANES = 16


cdef struct Pool:
    int arithmetic
    int64_t height, width
    int64_t out_height, out_width
    int64_t kernel_height, kernel_width
    int64_t stride_down, stride_right


cdef inline Pool pool_of(const Arguments *args) noexcept nogil:
    cdef Pool pool
    pool.arithmetic = args.arithmetic
    pool.height, pool.width = args.sizes[1], args.sizes[2]
    pool.out_height, pool.out_width = args.sizes[3], args.sizes[4]
    pool.kernel_height, pool.kernel_width = args.sizes[5], args.sizes[6]
    pool.stride_down, pool.stride_right = args.sizes[7], args.sizes[8]
    return pool


cdef inline int64_t window_start(
    const Pool *p, int64_t channel, int64_t ho, int64_t wo
) noexcept nogil:
    """Return the index of a window's first element."""
    return (channel * p.height + ho * p.stride_down) * p.width + wo * p.stride_right


# A window is as many runs of neighbours as it has rows, or one if its rows span the image.

cdef inline int64_t run_count(const Pool *p) noexcept nogil:
    return 1 if p.kernel_width == p.width else p.kernel_height


cdef inline int64_t run_length(const Pool *p) noexcept nogil:
    return p.kernel_width * p.kernel_height // run_count(p)


cdef inline float count_of(const Pool *p) noexcept nogil:
    """Return the number of elements of a window, rounded as the device converts it."""
    return rounded(p.arithmetic, <float>(p.kernel_height * p.kernel_width))


cdef inline int64_t find_max(const Pool *p, const void *x, int64_t start) noexcept nogil:
    """Return the index of the first maximum of a window; a leading NaN is one."""
    cdef int64_t h, w, index, best = start
    cdef float value, largest = load(p.arithmetic, x, start)
    for h in range(p.kernel_height):
        for w in range(p.kernel_width):
            index = start + h * p.width + w
            value = load(p.arithmetic, x, index)
            if value > largest:
                largest = value
                best = index
    return best


cdef void avg_forward_lanes(
    const Pool *p, const void *x, void *y, int64_t first, int64_t count
) noexcept nogil:
    """Compute up to a register of outputs, numbered through all channels, from ``first`` on."""
    cdef int64_t starts[MAX_LANES]
    cdef float sums[MAX_LANES]
    cdef int64_t i, pixel, pixels = p.out_height * p.out_width
    cdef float size = count_of(p)
    for i in range(PYODL_LANES):
        pixel = first + min(i, count - 1)
        starts[i] = window_start(p, pixel // pixels, pixel % pixels // p.out_width,
                                 pixel % p.out_width)
    sum_windows(p.arithmetic, x, starts, run_count(p), p.width, run_length(p), sums)
    for i in range(count):
        store(p.arithmetic, y, first + i, quotient(p.arithmetic, sums[i], size))


cdef void avg_backward_channel(
    const Pool *p, const void *dy, float *sums, int64_t channel
) noexcept nogil:
    cdef int64_t ho, wo, h, start
    cdef int64_t rows = run_count(p), length = run_length(p)
    cdef float share, count = count_of(p)
    for ho in range(p.out_height):
        for wo in range(p.out_width):
            start = window_start(p, channel, ho, wo)
            share = load(p.arithmetic, dy, (channel * p.out_height + ho) * p.out_width + wo)
            share = quotient(p.arithmetic, share, count)
            for h in range(rows):
                add_share(p.arithmetic, sums + start + h * p.width, share, length)


cdef void max_forward_channel(
    const Pool *p, const void *x, void *y, int64_t channel
) noexcept nogil:
    cdef int64_t ho, wo, source, target
    cdef bint wide = storage_format(p.arithmetic) == PYODL_FLOAT32
    for ho in range(p.out_height):
        for wo in range(p.out_width):
            source = find_max(p, x, window_start(p, channel, ho, wo))
            target = (channel * p.out_height + ho) * p.out_width + wo
            if wide:  # bits are copied: a NaN keeps its own
                (<uint32_t *>y)[target] = (<const uint32_t *>x)[source]
            else:
                (<uint16_t *>y)[target] = (<const uint16_t *>x)[source]


cdef void max_backward_channel(
    const Pool *p, const void *x, const void *dy, float *sums, int64_t channel
) noexcept nogil:
    cdef int64_t ho, wo, h, w, start, best
    cdef float grad
    for ho in range(p.out_height):
        for wo in range(p.out_width):
            start = window_start(p, channel, ho, wo)
            best = find_max(p, x, start)
            grad = load(p.arithmetic, dy, (channel * p.out_height + ho) * p.out_width + wo)
            # The mask multiplies the whole window: infinity times its zeros is NaN.
            for h in range(p.kernel_height):
                for w in range(start + h * p.width, start + h * p.width + p.kernel_width):
                    sums[w] = fma_step(p.arithmetic, 1 if w == best else 0, grad, sums[w])


cdef inline void clear(const Pool *p, float *sums, int64_t channel) noexcept nogil:
    cdef int64_t size = p.height * p.width
    memset(sums + channel * size, 0, size * sizeof(float))


cdef inline void store_sums(
    const Pool *p, const float *sums, void *dx, int64_t channel
) noexcept nogil:
    cdef int64_t size = p.height * p.width
    store_values(p.arithmetic, dx, channel * size, sums + channel * size, size)


cdef void avg_pool_forward_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef Pool pool = pool_of(args)
    cdef int64_t pixels = pool.out_height * pool.out_width
    cdef int64_t first = start * pixels
    while first < stop * pixels:
        avg_forward_lanes(&pool, args.arrays[0], args.arrays[1], first,
                          min(PYODL_LANES, stop * pixels - first))
        first += PYODL_LANES


cdef void avg_pool_forward(const Arguments *args, Team team) noexcept nogil:
    """Arrays: x, y."""
    share_out(args, args.sizes[0], team, avg_pool_forward_part)


cdef void avg_pool_backward_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t channel
    cdef Pool pool = pool_of(args)
    cdef float *sums = <float *>args.arrays[1]
    for channel in range(start, stop):
        clear(&pool, sums, channel)
        avg_backward_channel(&pool, args.arrays[0], sums, channel)
        store_sums(&pool, sums, args.arrays[2], channel)


cdef void avg_pool_backward(const Arguments *args, Team team) noexcept nogil:
    """Arrays: dy, workspace, dx."""
    share_out(args, args.sizes[0], team, avg_pool_backward_part)


cdef void max_pool_forward_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t channel
    cdef Pool pool = pool_of(args)
    for channel in range(start, stop):
        max_forward_channel(&pool, args.arrays[0], args.arrays[1], channel)


cdef void max_pool_forward(const Arguments *args, Team team) noexcept nogil:
    """Arrays: x, y."""
    share_out(args, args.sizes[0], team, max_pool_forward_part)


cdef void max_pool_backward_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t channel
    cdef Pool pool = pool_of(args)
    cdef float *sums = <float *>args.arrays[2]
    for channel in range(start, stop):
        clear(&pool, sums, channel)
        max_backward_channel(&pool, args.arrays[0], args.arrays[1], sums, channel)
        store_sums(&pool, sums, args.arrays[3], channel)


cdef void max_pool_backward(const Arguments *args, Team team) noexcept nogil:
    """Arrays: x, dy, workspace, dx."""
    share_out(args, args.sizes[0], team, max_pool_backward_part)


cdef Reach forward_reach(const Arguments *args, Team team, int array) noexcept nogil:
    """Channels of x (array 0), or of y."""
    cdef const int64_t *size = &args.sizes[3 if array else 1]
    return reach_items(team, args.sizes[0], size[0] * size[1] * stored_size(args))


cdef inline Reach backward_reach(
    const Arguments *args, Team team, int array, int gradient, int workspace
) noexcept nogil:
    """Channels of the output gradient, of floats in the workspace, or of the input's shape."""
    cdef const int64_t *size = &args.sizes[3 if array == gradient else 1]
    cdef int64_t bytes = 4 if array == workspace else stored_size(args)
    return reach_items(team, args.sizes[0], size[0] * size[1] * bytes)


cdef Reach avg_backward_reach(const Arguments *args, Team team, int array) noexcept nogil:
    return backward_reach(args, team, array, 0, 1)


cdef Reach max_backward_reach(const Arguments *args, Team team, int array) noexcept nogil:
    return backward_reach(args, team, array, 1, 2)


KERNELS = {
    "avg_pool_forward": kernel_capsule(avg_pool_forward, forward_reach),
    "avg_pool_backward": kernel_capsule(avg_pool_backward, avg_backward_reach),
    "max_pool_forward": kernel_capsule(max_pool_forward, forward_reach),
    "max_pool_backward": kernel_capsule(max_pool_backward, max_backward_reach),
}
