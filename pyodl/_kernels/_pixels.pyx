"""Convolutions and their gradients by pixels of an image, of which many are zero."""

from libc.stdint cimport int32_t, int64_t, uint16_t

from pyodl._kernels._capsule cimport kernel_capsule, lone_capsule
from pyodl._kernels._team cimport (
    reach_everything, reach_items, share_out, share_start, stored_size,
)
from pyodl._kernels._tile cimport (
    NEGATIVE_ZERO, NONFINITE, PYODL_LANES, bounded_step, flag_at, raise_flag, rounding_begin,
    rounding_restore, sums_are_bounded,
)
from pyodl._kernels._types cimport (
    PYODL_FLOAT16, Arguments, Reach, Team, load_value, storage_format,
)


cdef extern from "include/listed_pixels.h" nogil:
    ctypedef struct Survey "pyodl_survey":
        uint16_t largest
    Survey survey_values(const uint16_t *, int64_t) noexcept
    int PYODL_LISTED_PIXELS

cdef extern from "include/pixels.h" nogil:
    int PIXELS_ARE_NAN
    int PIXELS_ARE_NEGATIVE_ZERO
    ctypedef struct Pixels "pyodl_pixels":
        const void *x
        const int32_t *place
        const void *dy
        void *dw
        int64_t channels
        int64_t pixels
        int64_t out_channels
        int64_t row
        int64_t first
        int64_t columns
        int64_t out_rows
        int64_t out_columns
        int64_t up
        int64_t left
        int64_t stride
        int64_t edged
        int64_t nowhere
    int gradient_of_channels(const Pixels *, int, int64_t, int64_t) noexcept
    bint pays_by_pixels(int, Survey, int64_t, bint) noexcept

cdef extern from "include/convolve.h" nogil:
    ctypedef struct Convolution "pyodl_convolution":
        const void *x
        const int32_t *place
        const uint16_t *w
        void *out
        int64_t channels
        int64_t rows
        int64_t columns
        int64_t out_channels
        int64_t out_rows
        int64_t out_columns
        int64_t kernel
        int64_t stride[2]
        int64_t deal[2]
        int64_t first[2]
        int64_t mirrored
        int64_t left
        int64_t width
    int PYODL_BAND_SUMS
    int PYODL_FEW_ROWS
    int64_t registers_together(const Convolution *, int, int64_t) noexcept
    int convolve_rows(const Convolution *, int, int64_t, int64_t, int64_t, int64_t) noexcept


cdef enum:
    UNBOUNDED = 1  # place in a flag: whether sums may overflow, beside what is in doubt (`Doubt`)


cdef void survey(const Arguments *args, Team team) noexcept nogil:
    """Set a flag to what stands in the way of sums by pixels; 0 if nothing does.

    `NONFINITE` has the contraction run that follows: for infinities and NaNs, or because pixels
    would not pay.

    Arrays: x, of which pixels are listed; the other operand; flag (2 int32: `Doubt`, and whether
    sums may overflow). Sizes: elements of x, of the other; step, K; output channels of a weight
    gradient, or 0 where pixels pay whatever they are; whether it is strided. One thread looks.
    """
    cdef int format = storage_format(args.arithmetic)
    cdef int step = <int>args.sizes[2]
    cdef uint16_t infinity = 0x7C00 if format == PYODL_FLOAT16 else 0x7F80
    cdef Survey x = survey_values(<const uint16_t *>args.arrays[0], args.sizes[0])
    cdef Survey other = survey_values(<const uint16_t *>args.arrays[1], args.sizes[1])
    cdef int32_t *flag = <int32_t *>args.arrays[2]
    cdef bint pays = args.sizes[4] == 0 or pays_by_pixels(step, x, args.sizes[4], args.sizes[5])
    flag[0] = 0 if pays and x.largest < infinity and other.largest < infinity else NONFINITE
    flag[UNBOUNDED] = not sums_are_bounded(
        load_value(format, &x.largest, 0), load_value(format, &other.largest, 0), args.sizes[3])


cdef inline int surveyed_step(int step, const int32_t *flag) noexcept nogil:
    """Return the step to take for sums of which a survey says whether they are bounded."""
    return step if flag[UNBOUNDED] else bounded_step(step)


# ---- weight gradient ----------------------------------------------------------------------------

cdef void gradient_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef Pixels p
    cdef int32_t *flag = <int32_t *>args.arrays[4]
    cdef int step = surveyed_step(<int>args.sizes[0], flag)
    cdef int found
    cdef unsigned mode = rounding_begin(step)
    p.x = args.arrays[0]
    p.place = <const int32_t *>args.arrays[1]
    p.dy = args.arrays[2]
    p.dw = args.arrays[3]
    p.channels = args.sizes[1]
    p.pixels = args.sizes[2]
    p.out_channels = args.sizes[3]
    p.row, p.first = args.sizes[4], args.sizes[5]
    p.columns, p.out_rows, p.out_columns = args.sizes[6], args.sizes[7], args.sizes[8]
    p.up, p.left = args.sizes[9], args.sizes[10]
    p.stride, p.edged = args.sizes[11], args.sizes[12]
    p.nowhere = args.sizes[13]
    found = gradient_of_channels(&p, step, start, stop)
    rounding_restore(mode)
    if found & PIXELS_ARE_NAN:
        raise_flag(flag, NONFINITE)
    if found & PIXELS_ARE_NEGATIVE_ZERO:
        raise_flag(flag, NEGATIVE_ZERO)


cdef void contract_pixels(const Arguments *args, Team team) noexcept nogil:
    """Run the weight gradient of a 3x3 convolution by pixels, unless the flag says not to.

    Raises the flag where the result must not stand: for a NaN, which is not made canonical, and for
    a -0 of a binary32 sum, of which it is not known whether zeros left out would make +0 of it. The
    contraction that follows looks at it.

    Arrays: x (storage), place (int32: where in dy each pixel meets its first tap, if the stride is
    1), dy (operands, channels last, with a border of -0), dw (storage), flag. Sizes: step;
    channels, pixels, output channels; elements of a row of dy, and the first that is not border;
    columns of x; rows and columns of dy without its border; rows and columns of padding before x;
    stride, whether rows are edged, a pixel of dy with border all around (`pyodl_pixels`).
    """
    # Where others have found a NaN by now, the contraction computes everything again.
    if not flag_at(<const int32_t *>args.arrays[4]) & NONFINITE:
        share_out(args, args.sizes[1], team, gradient_part)


cdef Reach contract_pixels_reach(const Arguments *args, Team team, int array) noexcept nogil:
    """Channels of x; everything else, since a share's weights lie among others."""
    if array != 0:
        return reach_everything(args, team, array)
    return reach_items(team, args.sizes[1], args.sizes[2] * stored_size(args))


# ---- convolution and input gradient --------------------------------------------------------------

cdef inline Convolution convolution_of(const Arguments *args) noexcept nogil:
    cdef Convolution c
    c.x = args.arrays[0]
    c.place = <const int32_t *>args.arrays[1]
    c.w = <const uint16_t *>args.arrays[2]
    c.out = args.arrays[3]
    c.channels, c.rows, c.columns = args.sizes[1], args.sizes[2], args.sizes[3]
    c.out_channels, c.out_rows, c.out_columns = args.sizes[4], args.sizes[5], args.sizes[6]
    c.kernel, c.mirrored = args.sizes[7], args.sizes[8]
    c.stride[0], c.stride[1] = args.sizes[9], args.sizes[10]
    c.deal[0], c.deal[1] = args.sizes[11], args.sizes[12]
    c.first[0], c.first[1] = args.sizes[13], args.sizes[14]
    c.left, c.width = args.sizes[15], args.sizes[16]
    return c


# Outputs that a thread computes: registers of channels, and rows.
cdef struct Outputs:
    int64_t register_start
    int64_t register_stop
    int64_t row_start
    int64_t row_stop


cdef inline int64_t registers_of(const Convolution *c) noexcept nogil:
    return (c.out_channels + PYODL_LANES - 1) // PYODL_LANES


cdef inline int bands_of(const Convolution *c, int threads) noexcept nogil:
    """Return among how many threads rows can be shared."""
    return <int>max(1, min(<int64_t>threads, c.out_rows // PYODL_FEW_ROWS))


cdef inline bint divides_by_channels(const Convolution *c, int threads) noexcept nogil:
    """Whether as many threads get output channels, which they find in their caches afterwards."""
    return registers_of(c) >= bands_of(c, threads)


cdef inline Outputs outputs_of(const Convolution *c, Team team) noexcept nogil:
    """Return a thread's output channels, or its band of rows where there are few channels."""
    cdef Outputs share
    cdef int bands = bands_of(c, team.threads)
    share.register_start, share.register_stop = 0, registers_of(c)
    share.row_start, share.row_stop = 0, c.out_rows
    if divides_by_channels(c, team.threads):
        share.register_start = share_start(team.thread, team.threads, registers_of(c))
        share.register_stop = share_start(team.thread + 1, team.threads, registers_of(c))
    else:
        share.row_start = share_start(min(team.thread, bands), bands, c.out_rows)
        share.row_stop = share_start(min(team.thread + 1, bands), bands, c.out_rows)
    return share


cdef void convolve_pixels(const Arguments *args, Team team) noexcept nogil:
    """Run a convolution or its input gradient by pixels, unless the flag says not to.

    Threads share registers of output channels; rows, where these go round among more of them.

    Arrays: x (storage), place (int32: where each pixel's first tap lies among sums), w (storage:
    channel, tap, output channel), out (storage), flag. Sizes: step; channels,
    rows, columns; output channels, rows, columns; kernel (3 or 1), mirrored; stride, deal and
    first, each of rows and columns; left, width (`pyodl_convolution`).
    """
    cdef Convolution c = convolution_of(args)
    cdef int32_t *flag = <int32_t *>args.arrays[4]
    cdef int step = surveyed_step(<int>args.sizes[0], flag)
    cdef Outputs share = outputs_of(&c, team)
    cdef int64_t first = share.register_start, together
    cdef bint found = False
    cdef unsigned mode
    if flag_at(flag) & NONFINITE:
        return
    mode = rounding_begin(step)
    while first < share.register_stop:
        together = registers_together(&c, step, share.register_stop - first)
        found |= convolve_rows(
            &c, step, first * PYODL_LANES, together, share.row_start, share.row_stop)
        first += together
    rounding_restore(mode)
    if found:
        raise_flag(flag, NONFINITE)


cdef Reach convolve_pixels_reach(const Arguments *args, Team team, int array) noexcept nogil:
    """Output channels; everything else, since every output meets all of an image's channels."""
    cdef Convolution c = convolution_of(args)
    cdef Outputs share = outputs_of(&c, team)
    cdef int64_t channel = c.out_rows * c.out_columns * stored_size(args)
    cdef Reach reach
    if array != 3 or not divides_by_channels(&c, team.threads):
        return reach_everything(args, team, array)
    reach.start = min(c.out_channels, share.register_start * PYODL_LANES) * channel
    reach.stop = min(c.out_channels, share.register_stop * PYODL_LANES) * channel
    return reach


MOST_LISTED = PYODL_LISTED_PIXELS
BAND_SUMS = PYODL_BAND_SUMS
KERNELS = {
    "survey": lone_capsule(survey),
    "contract_pixels": kernel_capsule(contract_pixels, contract_pixels_reach),
    "convolve_pixels": kernel_capsule(convolve_pixels, convolve_pixels_reach),
}
