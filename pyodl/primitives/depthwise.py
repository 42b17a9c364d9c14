"""Depthwise convolution, CHW, channel by channel (TrainLib ``pulp_conv_dw_fp16_*``)."""

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._depthwise import BoundDepthwise
from pyodl.primitives._geometry import Convolution
from pyodl.primitives._run import run
from pyodl.primitives._staging import Stager
from pyodl.primitives._tiling import TileLike, checked

__all__ = ["depthwise_forward", "depthwise_input_grad", "depthwise_weight_grad"]

Pair = int | tuple[int, int]
Sides = int | tuple[int, int, int, int]


def depthwise_forward(
    x: ndarray,
    w: ndarray,
    *,
    stride: Pair = 1,
    padding: Sides = 0,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Convolve every channel with a kernel of its own; padding is skipped, not multiplied.

    Parameters
    ----------
    x : ndarray, shape (C, H, W)
        In the storage dtype of ``arithmetic``.
    w : ndarray, shape (C, Kh, Kw)
    stride : int or (int, int)
    padding : int or (up, down, left, right)
        The firmware has stride 1 and no padding: there, pad the tensor first.
    arithmetic, cores, num_threads
        See `matmul`.
    tile : Tile, (channels, rows) or None
        See `matmul`. Channels by rows of pixels; a weight gradient has one row. K stays whole.

    Returns
    -------
    ndarray, shape (C, Ho, Wo)

    Raises
    ------
    TypeError, ValueError
        See `conv2d_forward`.
    """
    chosen, threads = _common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    check.tensor("w", w, chosen, shape=(x.shape[0], None, None))
    conv = _geometry("w", x.shape[0], x.shape[1:], w.shape[1:], stride, padding)
    out = np.empty(conv.output_shape, x.dtype)
    bound = BoundDepthwise(conv, Stager(chosen, cores))
    return run(bound.forward(x, w, out, checked(tile)), out, threads)


def depthwise_weight_grad(
    x: ndarray,
    dy: ndarray,
    kernel_size: Pair,
    *,
    stride: Pair = 1,
    padding: Sides = 0,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Return the gradient of a depthwise convolution's weights, in (ho, wo) order.

    Parameters
    ----------
    x : ndarray, shape (C, H, W)
    dy : ndarray, shape (C, Ho, Wo)
    kernel_size : int or (Kh, Kw)
    stride, padding, arithmetic, cores, num_threads, tile
        See `depthwise_forward`.

    Returns
    -------
    ndarray, shape (C, Kh, Kw)

    Raises
    ------
    TypeError, ValueError
        See `conv2d_forward`.
    """
    chosen, threads = _common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    size = check.pair("kernel_size", kernel_size, 1)
    conv = _geometry("kernel_size", x.shape[0], x.shape[1:], size, stride, padding)
    check.tensor("dy", dy, chosen, shape=conv.output_shape)
    dw = np.empty((x.shape[0], *size), x.dtype)
    bound = BoundDepthwise(conv, Stager(chosen, cores))
    return run(bound.weight_grad(x, dy, dw, checked(tile)), dw, threads)


def depthwise_input_grad(
    w: ndarray,
    dy: ndarray,
    input_size: Pair,
    *,
    stride: Pair = 1,
    padding: Sides = 0,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Return the gradient of a depthwise convolution's input, over the flipped kernel.

    Parameters
    ----------
    w : ndarray, shape (C, Kh, Kw)
    dy : ndarray, shape (C, Ho, Wo)
    input_size : int or (H, W)
    stride, padding, arithmetic, cores, num_threads, tile
        See `depthwise_forward`.

    Returns
    -------
    ndarray, shape (C, H, W)

    Raises
    ------
    TypeError, ValueError
        See `conv2d_forward`.
    """
    chosen, threads = _common(arithmetic, cores, num_threads)
    check.tensor("w", w, chosen, ndim=3)
    size = check.pair("input_size", input_size, 1)
    conv = _geometry("w", w.shape[0], size, w.shape[1:], stride, padding)
    check.tensor("dy", dy, chosen, shape=conv.output_shape)
    dx = np.empty(conv.input_shape, w.dtype)
    bound = BoundDepthwise(conv, Stager(chosen, cores))
    return run(bound.input_grad(w, dy, dx, checked(tile)), dx, threads)


def _common(
    arithmetic: str | Arithmetic, cores: int, num_threads: int | None
) -> tuple[Arithmetic, int]:
    check.integer("cores", cores, 1)
    return arithmetics.get(arithmetic), check.threads(num_threads)


def _geometry(
    name: str,
    channels: int,
    size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: Pair,
    padding: Sides,
) -> Convolution:
    strides, sides = check.pair("stride", stride, 1), check.padding(padding)
    kernel = (kernel_size[0], kernel_size[1])
    conv = Convolution(channels, size[0], size[1], channels, kernel, strides, sides, "CHW")
    check.fits(name, kernel, conv.padded)
    return conv
