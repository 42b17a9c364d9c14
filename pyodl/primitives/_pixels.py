"""Products of an image, bound by its pixels that are not zero: a ReLU leaves half of them.

Each comes with a flag that a first operation sets, and the products themselves may raise. The
caller binds a contraction that is guarded by it, and runs after all where pixels will not do
(`Doubt` in ``_tile.pxd``).
"""

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.primitives._contraction import kernel_table
from pyodl.primitives._geometry import Around, Convolution, output_gradient
from pyodl.primitives._staging import SLACK, Stager

__all__ = ["bind_around_pixels", "bind_gradient_by_pixels"]


def bind_around_pixels(
    name: str,
    around: Around,
    image: ndarray,
    weights: ndarray,
    out: ndarray,
    stager: Stager,
) -> tuple[ndarray, tuple[Operation, ...]]:
    """Bind what adds the pixels of an image to the outputs around them.

    Parameters
    ----------
    name : str
        Of the product, for profiles.
    image, out : ndarray
    weights : ndarray
        (Channel, tap, output channel). All are as stored.

    Returns
    -------
    ndarray
        The flag.
    tuple of Operation
    """
    step, code = stager.step, stager.arithmetic.code
    flag = np.zeros(1, np.int32)
    depth = around.channels * around.kernel**2
    looked_at = [image.size, depth * around.out_channels, step, depth, 0, 0]
    survey = bind("survey", [image, weights], [flag], looked_at, arithmetic=code)
    sizes = [step, around.channels, *around.size, around.out_channels, *around.out_size]
    sizes += [around.kernel, int(around.mirrored), *around.stride, *around.deal, *around.first]
    sizes += [around.left, around.width]
    place = np.pad(around.place, (0, SLACK))  # whole registers are read
    quick = bind("convolve_pixels", [image, place, weights], [out, flag], sizes, arithmetic=code)
    quick.name = f"{name} by pixels"
    quick.macs, quick.effort = around.macs // 2, step.effort
    return flag, (survey, quick)


def bind_gradient_by_pixels(
    conv: Convolution,
    x: ndarray,
    dy: ndarray,
    gradient: ndarray,
    dw: ndarray,
    stager: Stager,
) -> tuple[ndarray, tuple[Operation, ...]]:
    """Bind the weight gradient of a convolution by the pixels of its input.

    Parameters
    ----------
    x, dy, dw : ndarray
        As stored.
    gradient : ndarray
        ``dy`` staged, (pixel, channel), in a border of -0.

    Returns
    -------
    ndarray
        The flag.
    tuple of Operation
    """
    step, code = stager.step, stager.arithmetic.code
    flag = np.zeros(1, np.int32)
    border, (first, *_) = output_gradient(conv)
    rows, columns = border.size
    strided = conv.stride != (1, 1)
    met = np.zeros(0, np.int32)
    if not strided:
        met = border.pixel_offsets((conv.height, conv.width))
    place = kernel_table(np.pad(met, (0, SLACK)))  # whole registers are read
    up, down, left, _ = conv.padding
    edged = not strided and up == down == 1 and conv.height > 1
    sizes = [step, conv.channels, conv.height * conv.width, conv.out_channels]
    sizes += [columns * conv.out_channels, int(first), conv.width, *conv.out_size]
    sizes += [up, left, conv.stride[0], int(edged), (rows - 1) * columns + 1]
    quick = bind("contract_pixels", [x, place, gradient], [dw, flag], sizes, arithmetic=code)
    quick.name = "conv2d weight gradient by pixels"
    quick.macs, quick.effort = conv.taps * conv.pixels * conv.out_channels // 2, step.effort
    looked_at = [x.size, dy.size, step, conv.pixels, conv.out_channels, int(strided)]
    survey = bind("survey", [x, dy], [flag], looked_at, arithmetic=code)
    return flag, (survey, quick)
