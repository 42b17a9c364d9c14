"""The weight gradient of a convolution by pixels of its input, where many of those are zero."""

from libc.stdint cimport int32_t, int64_t, uint16_t

from pyodl._kernels._capsule cimport kernel_capsule, lone_capsule
from pyodl._kernels._team cimport reach_everything, reach_items, share_out, stored_size
from pyodl._kernels._tile cimport (
    NEGATIVE_ZERO, NONFINITE, flag_at, raise_flag, rounding_begin, rounding_restore,
)
from pyodl._kernels._types cimport PYODL_FLOAT16, Arguments, Reach, Team, storage_format


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
    int gradient_of_channel(const Pixels *, int, int64_t) noexcept
    bint pays_by_pixels(int, const uint16_t *, int64_t, uint16_t, int64_t) noexcept
    bint has_nonfinite(int, const void *, int64_t) noexcept


cdef void survey(const Arguments *args, Team team) noexcept nogil:
    """Set a flag to whether a weight gradient must be contracted, rather than by pixels.

    Arrays: x, dy, flag (int32 of `Doubt`). Sizes: elements of x, of dy; step, output channels. One
    thread looks.
    """
    cdef int format = storage_format(args.arithmetic)
    cdef uint16_t infinity = 0x7C00 if format == PYODL_FLOAT16 else 0x7F80
    cdef bint pays = (
        pays_by_pixels(<int>args.sizes[2], <const uint16_t *>args.arrays[0], args.sizes[0],
                       infinity, args.sizes[3])
        and not has_nonfinite(format, args.arrays[1], args.sizes[1]))
    (<int32_t *>args.arrays[2])[0] = 0 if pays else NONFINITE


cdef void gradient_part(const Arguments *args, int64_t start, int64_t stop) noexcept nogil:
    cdef Pixels p
    cdef int step = <int>args.sizes[0]
    cdef int found = 0
    cdef int64_t channel
    cdef unsigned mode = rounding_begin(step)
    p.x = args.arrays[0]
    p.place = <const int32_t *>args.arrays[1]
    p.dy = args.arrays[2]
    p.dw = args.arrays[3]
    p.channels = args.sizes[1]
    p.pixels = args.sizes[2]
    p.out_channels = args.sizes[3]
    p.row = args.sizes[4]
    for channel in range(start, stop):
        found |= gradient_of_channel(&p, step, channel)
    rounding_restore(mode)
    if found & PIXELS_ARE_NAN:
        raise_flag(<int32_t *>args.arrays[4], NONFINITE)
    if found & PIXELS_ARE_NEGATIVE_ZERO:
        raise_flag(<int32_t *>args.arrays[4], NEGATIVE_ZERO)


cdef void contract_pixels(const Arguments *args, Team team) noexcept nogil:
    """Run the weight gradient of a 3x3 convolution by pixels, unless the flag says not to.

    Raises the flag where the result must not stand: for a NaN, which is not made canonical, and for
    a -0, which zeros left out may have made +0. The contraction that follows looks at it.

    Arrays: x (storage), place (int32: where in dy each pixel meets its first tap), dy (operands,
    channels last, with a border of -0), dw (storage), flag. Sizes: step; channels, pixels, output
    channels; elements of a row of dy.
    """
    # Where others have found a NaN by now, the contraction computes everything again.
    if not flag_at(<const int32_t *>args.arrays[4]) & NONFINITE:
        share_out(args, args.sizes[1], team, gradient_part)


cdef Reach contract_pixels_reach(const Arguments *args, Team team, int array) noexcept nogil:
    """Channels of x; everything else, since a share's weights lie among others."""
    if array != 0:
        return reach_everything(args, team, array)
    return reach_items(team, args.sizes[1], args.sizes[2] * stored_size(args))


KERNELS = {
    "survey": lone_capsule(survey),
    "contract_pixels": kernel_capsule(contract_pixels, contract_pixels_reach),
}
