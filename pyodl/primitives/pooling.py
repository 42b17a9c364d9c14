"""Average and maximum pooling of CHW tensors (TrainLib ``pulp_pooling_fp16.c``)."""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._run import run

__all__ = [
    "avg_pool_backward",
    "avg_pool_forward",
    "bind_avg_pool_backward",
    "bind_avg_pool_forward",
    "bind_max_pool_backward",
    "bind_max_pool_forward",
    "max_pool_backward",
    "max_pool_forward",
]

Pair = int | tuple[int, int]


def _sizes(
    x_shape: Sequence[int], y_shape: Sequence[int], kernel: tuple[int, int], stride: tuple[int, int]
) -> list[int]:
    return [*x_shape, *y_shape[1:], *kernel, *stride]


def bind_avg_pool_forward(
    x: ndarray,
    y: ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    arithmetic: Arithmetic,
    cores: int,
) -> Operation:
    """Bind the mean of each window."""
    sizes = _sizes(x.shape, y.shape, kernel, stride)
    return bind("avg_pool_forward", [x], [y], sizes, (), arithmetic.code, cores)


def bind_avg_pool_backward(
    dy: ndarray,
    dx: ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    arithmetic: Arithmetic,
    cores: int,
) -> Operation:
    """Bind the gradient of the mean; a float workspace of the size of ``dx`` comes with it."""
    sizes = _sizes(dx.shape, dy.shape, kernel, stride)
    sums = np.empty(dx.shape, np.float32)
    return bind("avg_pool_backward", [dy], [sums, dx], sizes, (), arithmetic.code, cores)


def bind_max_pool_forward(
    x: ndarray,
    y: ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    arithmetic: Arithmetic,
    cores: int,
) -> Operation:
    """Bind the first maximum of each window."""
    sizes = _sizes(x.shape, y.shape, kernel, stride)
    return bind("max_pool_forward", [x], [y], sizes, (), arithmetic.code, cores)


def bind_max_pool_backward(
    x: ndarray,
    dy: ndarray,
    dx: ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    arithmetic: Arithmetic,
    cores: int,
) -> Operation:
    """Bind the gradient of the maximum; a float workspace of the size of ``dx`` comes with it."""
    sizes = _sizes(dx.shape, dy.shape, kernel, stride)
    sums = np.empty(dx.shape, np.float32)
    return bind("max_pool_backward", [x, dy], [sums, dx], sizes, (), arithmetic.code, cores)


def _window(
    height: int, width: int, kernel_size: Pair, stride: Pair
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return kernel size, stride and output size."""
    kernel = check.pair("kernel_size", kernel_size, 1)
    step = check.pair("stride", stride, 1)
    check.fits("kernel_size", kernel, (height, width))
    return kernel, step, ((height - kernel[0]) // step[0] + 1, (width - kernel[1]) // step[1] + 1)


def avg_pool_forward(
    x: ndarray,
    kernel_size: Pair,
    stride: Pair,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return the mean of each window (TrainLib ``pulp_avgpool_fp16_fw_cl``).

    A window is summed row by row and divided by its number of elements, a division and not a
    multiplication by the reciprocal; with a 16-bit accumulator the number is rounded to it.

    Parameters
    ----------
    x : ndarray, shape (C, H, W)
        In the storage dtype of ``arithmetic``.
    kernel_size, stride : int or (int, int)
        Rows and columns that no whole window reaches are left over.
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray, shape (C, (H - Kh) // Sh + 1, (W - Kw) // Sw + 1)

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    kernel, step, size = _window(x.shape[1], x.shape[2], kernel_size, stride)
    y = np.empty((x.shape[0], *size), x.dtype)
    return run([bind_avg_pool_forward(x, y, kernel, step, chosen, cores)], y, threads)


def avg_pool_backward(
    dy: ndarray,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return the input gradient: dy / count, added over windows (``pulp_avgpool_fp16_bw_cl``).

    Parameters
    ----------
    dy : ndarray, shape (C, Ho, Wo)
        In the storage dtype of ``arithmetic``.
    input_size : int or (int, int)
        Height and width of the input of the forward pass.
    kernel_size, stride : int or (int, int)
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray, shape (C, H, W)
        +0 where no window reaches.

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    height, width = check.pair("input_size", input_size, 1)
    kernel, step, size = _window(height, width, kernel_size, stride)
    check.tensor("dy", dy, chosen, ndim=3, shape=(None, *size))
    dx = np.empty((dy.shape[0], height, width), dy.dtype)
    return run([bind_avg_pool_backward(dy, dx, kernel, step, chosen, cores)], dx, threads)


def max_pool_forward(
    x: ndarray,
    kernel_size: Pair,
    stride: Pair,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return the first maximum of each window, its bits unchanged (``pulp_maxpool_fp16_fw_cl``).

    The first element is taken until a strictly greater one comes: a NaN stays where it leads a
    window and is passed over elsewhere.

    Parameters
    ----------
    x : ndarray, shape (C, H, W)
        In the storage dtype of ``arithmetic``.
    kernel_size, stride : int or (int, int)
        Rows and columns that no whole window reaches are left over.
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray, shape (C, (H - Kh) // Sh + 1, (W - Kw) // Sw + 1)

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    kernel, step, size = _window(x.shape[1], x.shape[2], kernel_size, stride)
    y = np.empty((x.shape[0], *size), x.dtype)
    return run([bind_max_pool_forward(x, y, kernel, step, chosen, cores)], y, threads)


def max_pool_backward(
    x: ndarray,
    dy: ndarray,
    kernel_size: Pair,
    stride: Pair,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return the input gradient of the first maxima (TrainLib ``pulp_maxpool_fp16_bw_cl``).

    As on the device, ``mask * dy`` is added to the whole window, where the mask is one at the
    maximum and zero elsewhere: an infinite or NaN gradient spreads over its window.

    Parameters
    ----------
    x : ndarray, shape (C, H, W)
        The input of the forward pass.
    dy : ndarray, shape (C, Ho, Wo)
    kernel_size, stride : int or (int, int)
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray, shape (C, H, W)
        +0 where no window reaches.

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    kernel, step, size = _window(x.shape[1], x.shape[2], kernel_size, stride)
    check.tensor("dy", dy, chosen, shape=(x.shape[0], *size))
    dx = np.empty_like(x)
    return run([bind_max_pool_backward(x, dy, dx, kernel, step, chosen, cores)], dx, threads)
