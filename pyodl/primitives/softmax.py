"""Softmax of vectors and of the rows of a matrix (TrainLib ``pulp_softmax_fp16_fw_cl``)."""

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._run import run

__all__ = ["bind_softmax_backward", "bind_softmax_forward", "softmax_backward", "softmax_forward"]


def bind_softmax_forward(
    x: ndarray, y: ndarray, exp: str, arithmetic: Arithmetic, cores: int
) -> Operation:
    """Bind the softmax of each row, with ``exp`` "expf" or "fast"; ``y`` may be no alias."""
    sizes = [y.size // y.shape[-1], y.shape[-1]]
    return bind(f"softmax_{exp}", [x], [y], sizes, (), arithmetic.code, cores)


def bind_softmax_backward(
    y: ndarray, dy: ndarray, dx: ndarray, arithmetic: Arithmetic, cores: int
) -> Operation:
    """Bind the gradient of each row; ``dx`` may be ``dy``."""
    sizes = [y.size // y.shape[-1], y.shape[-1]]
    return bind("softmax_backward", [y, dy], [dx], sizes, (), arithmetic.code, cores)


def softmax_forward(
    x: ndarray,
    exp: str = "expf",
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return exp(x - max) / sum of each row.

    Parameters
    ----------
    x : ndarray, shape (n,) or (rows, n)
        In the storage dtype of ``arithmetic``.
    exp : {"expf", "fast"}
        "expf" is TrainLib's ``pulp_vector_softmax_fp16``: each core sums its block of a row and
        the sums are added in the order of the cores, so that the number of cores changes bits;
        cores without an element, where the firmware reads out of bounds, take no part. "fast" is
        ``pulp_softmax_fp16_fw_cl``: rows with Schraudolph's exponential, which is off by up to
        3 %, a sum in order, and a maximum that starts at the lowest number of the format, so that
        a NaN never is the maximum.
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
    check.tensor("x", x, chosen, ndim=(1, 2))
    check.choice("exp", exp, ("expf", "fast"))
    y = np.empty_like(x)
    return run([bind_softmax_forward(x, y, exp, chosen, cores)], y, threads)


def softmax_backward(
    y: ndarray,
    dy: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return (dy - sum of dy * y) * y of each row (TrainLib ``pulp_softmax_fp16_bw_cl``).

    Parameters
    ----------
    y, dy : ndarray, shape (n,) or (rows, n)
        The output of the forward pass and its gradient.
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
    check.tensor("y", y, chosen, ndim=(1, 2))
    check.tensor("dy", dy, chosen, shape=y.shape)
    dx = np.empty_like(y)
    return run([bind_softmax_backward(y, dy, dx, chosen, cores)], dx, threads)
