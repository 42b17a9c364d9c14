"""Products of an image and weights, bound by pixels that are not zero, which a ReLU leaves half of."""

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.primitives._geometry import Around
from pyodl.primitives._staging import SLACK, Stager

__all__ = ["bind_around_pixels"]


def bind_around_pixels(
    name: str,
    around: Around,
    image: ndarray,
    w: ndarray,
    weights: ndarray,
    out: ndarray,
    stager: Stager,
) -> tuple[ndarray, tuple[Operation, ...]]:
    """Bind what adds the pixels of an image to the outputs around them.

    Parameters
    ----------
    name : str
        Of the product, for profiles.
    image, w, out : ndarray
        As stored.
    weights : ndarray
        Staged, (channel, tap, output channel).

    Returns
    -------
    ndarray
        A flag that is set where the product has to be contracted after all: an infinite or NaN
        operand, or a NaN among the results.
    tuple of Operation
    """
    step, code = stager.step, stager.arithmetic.code
    flag = np.zeros(1, np.int32)
    depth = around.channels * around.kernel**2
    looked_at = [image.size, w.size, step, depth, 0]
    survey = bind("survey", [image, w], [flag], looked_at, arithmetic=code)
    sizes = [step, around.channels, *around.size, around.out_channels, *around.out_size]
    sizes += [around.kernel, int(around.mirrored), *around.stride, *around.deal, *around.first]
    sizes += [around.left, around.width]
    place = np.pad(around.place, (0, SLACK))  # whole registers are read
    quick = bind("convolve_pixels", [image, place, weights], [out, flag], sizes, arithmetic=code)
    quick.name = f"{name} by pixels"
    quick.macs, quick.effort = around.macs // 2, step.effort
    return flag, (survey, quick)
