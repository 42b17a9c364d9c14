"""Activations, element by element (TrainLib ``pulp_act_fp16.c``)."""

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._run import run

__all__ = [
    "bind_leaky_relu_backward",
    "bind_leaky_relu_forward",
    "bind_relu_backward",
    "bind_relu_forward",
    "bind_sigmoid_backward",
    "bind_sigmoid_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
]


def bind_relu_forward(x: ndarray, y: ndarray, arithmetic: Arithmetic, cores: int) -> Operation:
    """Bind y = x > 0 ? x : +0; ``y`` may be ``x``."""
    return bind("relu_forward", [x, x], [y], [y.size], (), arithmetic.code, cores)


def bind_relu_backward(
    x: ndarray, dy: ndarray, dx: ndarray, arithmetic: Arithmetic, cores: int
) -> Operation:
    """Bind dx = x > 0 ? dy : +0; ``dx`` may be ``dy``."""
    return bind("relu_backward", [x, dy], [dx], [dx.size], (), arithmetic.code, cores)


def bind_leaky_relu_forward(
    x: ndarray, y: ndarray, slope: float, arithmetic: Arithmetic, cores: int
) -> Operation:
    """Bind y = x > 0 ? x : slope * x; ``y`` may be ``x``."""
    return bind("leaky_relu_forward", [x, x], [y], [y.size], [slope], arithmetic.code, cores)


def bind_leaky_relu_backward(
    x: ndarray, dy: ndarray, dx: ndarray, slope: float, arithmetic: Arithmetic, cores: int
) -> Operation:
    """Bind dx = x > 0 ? dy : slope * dy; ``dx`` may be ``dy``."""
    return bind("leaky_relu_backward", [x, dy], [dx], [dx.size], [slope], arithmetic.code, cores)


def bind_sigmoid_forward(x: ndarray, y: ndarray, arithmetic: Arithmetic, cores: int) -> Operation:
    """Bind y = 1 / (1 + expf(-x)); ``y`` may be ``x``."""
    return bind("sigmoid_forward", [x], [y], [y.size], (), arithmetic.code, cores)


def bind_sigmoid_backward(
    y: ndarray, dy: ndarray, dx: ndarray, arithmetic: Arithmetic, cores: int
) -> Operation:
    """Bind dx = dy * (y * (1 - y)); ``dx`` may be ``dy``."""
    return bind("sigmoid_backward", [y, dy], [dx], [dx.size], (), arithmetic.code, cores)


def relu_forward(
    x: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return x where x > 0 and +0 elsewhere, for NaN too (TrainLib ``relu_core_fw_fp16``).

    Parameters
    ----------
    x : ndarray
        Of any shape, in the storage dtype of ``arithmetic``, C-contiguous and not empty.
    arithmetic : str
        A named arithmetic; see `pyodl.arithmetic.ARITHMETICS`.
    cores : int
        Cores of the device, among which it shares the work.
    num_threads : int or None
        Threads of the host; None takes one per processor. They never change a bit.

    Returns
    -------
    ndarray
        Of the shape of ``x``.

    Raises
    ------
    TypeError
        If an array is no ndarray or of another dtype, or a count or scalar of another type.
    ValueError
        If a shape does not fit, or a name or number is not one of those allowed.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen)
    y = np.empty_like(x)
    return run([bind_relu_forward(x, y, chosen, cores)], y, threads)


def relu_backward(
    x: ndarray,
    dy: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return dy, its bits unchanged, where x > 0 and +0 elsewhere (``relu_core_bw_fp16``).

    Parameters
    ----------
    x, dy : ndarray
        The input of the forward pass and the gradient of its output, of one shape.
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray
        Of the shape of ``x``.

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen)
    check.tensor("dy", dy, chosen, shape=x.shape)
    dx = np.empty_like(x)
    return run([bind_relu_backward(x, dy, dx, chosen, cores)], dx, threads)


def leaky_relu_forward(
    x: ndarray,
    slope: float,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return x where x > 0 and slope * x, rounded, elsewhere (``leakyrelu_core_fw_fp16``).

    Parameters
    ----------
    x : ndarray
        Of any shape, in the storage dtype of ``arithmetic``.
    slope : float
        Finite; rounded to the storage format.
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray
        Of the shape of ``x``.

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen)
    factor = check.scalar("slope", slope, chosen)
    y = np.empty_like(x)
    return run([bind_leaky_relu_forward(x, y, factor, chosen, cores)], y, threads)


def leaky_relu_backward(
    x: ndarray,
    dy: ndarray,
    slope: float,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return dy where x > 0 and slope * dy, rounded, elsewhere (``leakyrelu_core_bw_fp16``).

    Parameters
    ----------
    x, dy : ndarray
        The input of the forward pass and the gradient of its output, of one shape.
    slope : float
        Finite; rounded to the storage format.
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray
        Of the shape of ``x``.

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen)
    check.tensor("dy", dy, chosen, shape=x.shape)
    factor = check.scalar("slope", slope, chosen)
    dx = np.empty_like(x)
    return run([bind_leaky_relu_backward(x, dy, dx, factor, chosen, cores)], dx, threads)


def sigmoid_forward(
    x: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return 1 / (1 + expf(-x)) (TrainLib ``sigmoid_core_fw_fp16``).

    The sum is computed in binary32 in every arithmetic; with a 16-bit accumulator it is rounded
    before the division, which makes two roundings.

    Parameters
    ----------
    x : ndarray
        Of any shape, in the storage dtype of ``arithmetic``.
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray
        Of the shape of ``x``.

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen)
    y = np.empty_like(x)
    return run([bind_sigmoid_forward(x, y, chosen, cores)], y, threads)


def sigmoid_backward(
    y: ndarray,
    dy: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return dy * (y * (1 - y)) (TrainLib ``sigmoid_core_bw_fp16``).

    ``y * (1 - y)`` is computed in binary32 in every arithmetic, then rounded to the accumulator.

    Parameters
    ----------
    y, dy : ndarray
        The stored output of the forward pass and its gradient, of one shape.
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray
        Of the shape of ``y``.

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("y", y, chosen)
    check.tensor("dy", dy, chosen, shape=y.shape)
    dx = np.empty_like(y)
    return run([bind_sigmoid_backward(y, dy, dx, chosen, cores)], dx, threads)
