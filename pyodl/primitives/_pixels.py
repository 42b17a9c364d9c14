"""Products of an image, bound by its pixels that are not zero: a ReLU leaves half of them.

Each comes with a flag that a first operation sets, and the product itself may raise. The caller
binds a contraction that is guarded by it, and runs after all where pixels will not do (`Doubt` in
``_tile.pxd``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy import ndarray

from pyodl._kernels import BAND_SUMS, MOST_LISTED, Operation, bind
from pyodl.primitives._contraction import kernel_table
from pyodl.primitives._geometry import Convolution, output_gradient
from pyodl.primitives._image import grid
from pyodl.primitives._orders import Region, is_sequential
from pyodl.primitives._staging import SLACK, Stager
from pyodl.primitives._tiling import TileLike

__all__ = ["bind_around_pixels", "bind_gradient_by_pixels", "may_go_around"]

_FEW_ROWS = 4  # of sums that a band has at least, lest rows beside it are most of the work
_ROWS_BESIDE = 4  # of sums above and below a band whose pixels are dealt out, at most
_NOWHERE = np.zeros(0, np.int64)  # the places of pixels that are dealt out, which need no table


def _table(places: ndarray) -> ndarray:
    """Return the places of pixels as the kernels take them, which read whole registers."""
    return kernel_table(np.pad(places, (0, SLACK)))


def may_go_around(
    conv: Convolution, regions: Sequence[Region], tile: TileLike, *, mirrored: bool
) -> bool:
    """Whether a convolution, or mirrored its input gradient, may go from pixel to pixel.

    The padding reaches no further than the kernel does, and sums of some rows have room.
    """
    channels = conv.channels if mirrored else conv.out_channels
    columns = (conv.width if mirrored else conv.out_size[1]) + 4  # and what reaches over the edges
    dealt = max(conv.stride) > 1 and not mirrored
    rows = _FEW_ROWS + _ROWS_BESIDE * dealt
    return (
        conv.listed
        and conv.layout == "CHW"
        and not conv.lanes_are_pixels(channels)
        and conv.kernel in ((1, 1), (3, 3))
        and max(conv.padding) < conv.kernel[0]
        and rows * columns <= BAND_SUMS
        and (conv.width <= MOST_LISTED or not dealt)
        and tile is None
        and is_sequential(regions)
    )


@dataclass(frozen=True)
class _Around:
    """How pixels are added to the outputs around them (``convolve.h``).

    Parameters
    ----------
    channels, out_channels : int
        Of the image and of the output.
    kernel : int
        Rows and columns of taps.
    mirrored : bool
        Whether outputs go with the taps, rather than against them.
    macs : int
    size, out_size : (int, int)
        Rows and columns of the image and of the output.
    stride, deal, first : (int, int)
        Pixel (r, c) meets tap (i, j) at row ``(stride[0] * r + first[0] -+ i) / deal[0]`` of the
        output, if that is a whole number; and so for columns.
    left, width : int
        Of the sums of a row: those before the first output, and all.
    place : ndarray
        Of every pixel among the sums, for the first tap; of none that is dealt. And slack.
    """

    channels: int
    out_channels: int
    kernel: int
    mirrored: bool
    macs: int
    size: tuple[int, int]
    out_size: tuple[int, int]
    stride: tuple[int, int]
    deal: tuple[int, int]
    first: tuple[int, int]
    left: int
    width: int
    place: ndarray


def _flat(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size as one row, if the sums of several such rows have room."""
    pixels = size[0] * size[1]
    return (1, pixels) if _FEW_ROWS * pixels <= BAND_SUMS else size


@lru_cache(maxsize=256)
def _pixels_around(conv: Convolution, *, mirrored: bool) -> _Around:
    """Return how pixels of the input meet outputs; mirrored, how output gradients meet inputs."""
    inner, outer = (conv.height, conv.width), conv.out_size
    size, out_size = (outer, inner) if mirrored else (inner, outer)
    up, left = conv.padding[0], conv.padding[2]
    first, stride, deal = (up, left), (1, 1), conv.stride
    if mirrored:
        first, stride, deal = (-up, -left), conv.stride, (1, 1)
    if conv.kernel == (1, 1) and conv.stride == (1, 1):
        size = out_size = _flat(size)
    columns = first[1] + stride[1] * np.arange(size[1])
    reach = (0, conv.kernel[1] - 1) if mirrored else (1 - conv.kernel[1], 0)
    before = max(-((int(columns[0]) + reach[0]) // deal[1]), 0)
    width = before + max((int(columns[-1]) + reach[1]) // deal[1] + 1, out_size[1])
    rows = first[0] + stride[0] * np.arange(size[0])
    place = grid(rows * width, before + columns) if deal == (1, 1) else _NOWHERE
    return _Around(
        channels=conv.out_channels if mirrored else conv.channels,
        out_channels=conv.channels if mirrored else conv.out_channels,
        kernel=conv.kernel[0],
        mirrored=mirrored,
        macs=conv.taps * conv.pixels * conv.out_channels,
        size=size,
        out_size=out_size,
        stride=stride,
        deal=deal,
        first=first,
        left=before,
        width=width,
        place=_table(place),
    )


def _bind_surveyed(
    kernel: str,
    name: str,
    inputs: list[ndarray],
    out: ndarray,
    sizes: list[int],
    stager: Stager,
    *,
    operands: list[ndarray],
    looked_at: list[int],
    macs: int,
) -> tuple[ndarray, tuple[Operation, ...]]:
    """Bind a kernel that goes by pixels behind the survey of its operands, as they are stored.

    Returns the flag, and both operations. ``sizes`` are the kernel's but for the step, and
    ``looked_at`` the survey's but for those of the operands and the step.
    """
    step, code = stager.step, stager.arithmetic.code
    flag = np.zeros(2, np.int32)
    counts = [operand.size for operand in operands]
    survey = bind("survey", operands, [flag], [*counts, step, *looked_at], arithmetic=code)
    quick = bind(kernel, inputs, [out, flag], [step, *sizes], arithmetic=code)
    quick.name = f"{name} by pixels"
    quick.macs, quick.effort = macs // 2, step.effort  # half of them, behind a ReLU
    return flag, (survey, quick)


def bind_around_pixels(
    name: str,
    conv: Convolution,
    image: ndarray,
    weights: ndarray,
    out: ndarray,
    stager: Stager,
    *,
    mirrored: bool,
) -> tuple[ndarray, tuple[Operation, ...]]:
    """Bind what adds the pixels of an image to the outputs around them; return flag and operations.

    Parameters
    ----------
    name : str
        Of the product, for profiles.
    conv : Convolution
    image, out : ndarray
    weights : ndarray
        (Channel, tap, output channel). All are as stored.
    stager : Stager
        Of the layer.
    mirrored : bool
        Whether it is the input gradient, and the image that of the output.
    """
    around = _pixels_around(conv, mirrored=mirrored)
    sizes = [around.channels, *around.size, around.out_channels, *around.out_size]
    sizes += [around.kernel, int(around.mirrored), *around.stride, *around.deal, *around.first]
    sizes += [around.left, around.width]
    return _bind_surveyed(
        *("convolve_pixels", name, [image, around.place, weights], out, sizes, stager),
        operands=[image, weights],
        looked_at=[around.channels * around.kernel**2, 0, 0],
        macs=around.macs,
    )


def bind_gradient_by_pixels(
    conv: Convolution,
    x: ndarray,
    dy: ndarray,
    gradient: ndarray,
    dw: ndarray,
    stager: Stager,
) -> tuple[ndarray, tuple[Operation, ...]]:
    """Bind the weight gradient by the pixels of the input; return flag and operations.

    Parameters
    ----------
    conv : Convolution
    x, dy, dw : ndarray
        As stored.
    gradient : ndarray
        ``dy`` staged, (pixel, channel), in a border of -0.
    stager : Stager
        Of the layer.
    """
    border, (first, *_) = output_gradient(conv)
    rows, columns = border.size
    strided = conv.stride != (1, 1)
    place = _NOWHERE if strided else border.pixel_offsets((conv.height, conv.width))
    up, down, left, _ = conv.padding
    edged = not strided and up == down == 1 and conv.height > 1
    sizes = [conv.channels, conv.height * conv.width, conv.out_channels]
    sizes += [columns * conv.out_channels, int(first), conv.width, *conv.out_size]
    sizes += [up, left, conv.stride[0], int(edged), (rows - 1) * columns + 1]
    name = "conv2d weight gradient"
    return _bind_surveyed(
        *("contract_pixels", name, [x, _table(place), gradient], dw, sizes, stager),
        operands=[x, dy],
        looked_at=[conv.pixels, conv.out_channels, int(strided)],
        macs=conv.taps * conv.pixels * conv.out_channels,
    )
