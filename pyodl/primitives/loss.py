"""Losses and their gradients with respect to the output (TrainLib ``pulp_losses_fp16.c``).

They run on one core of the device; ``cores`` and ``num_threads`` change nothing.
"""

from typing import Any

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl._kernels import Operation, bind
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._run import run

__all__ = [
    "LOSSES",
    "berhu",
    "berhu_grad",
    "bind_loss",
    "cross_entropy",
    "cross_entropy_grad",
    "l1",
    "l1_grad",
    "mse",
    "mse_grad",
]

LOSSES = ("cross_entropy", "mse", "l1", "berhu")


def bind_loss(
    name: str,
    output: ndarray,
    target: ndarray,
    loss: ndarray | None,
    grad: ndarray | None,
    arithmetic: Arithmetic,
    alpha: float = 0.0,
) -> Operation:
    """Bind a loss, one of `LOSSES`, to what it writes: ``loss`` of shape (1,), ``grad``, or both.

    ``target`` is a buffer of the size of ``output``; ``alpha``, of berHu only, is rounded to the
    storage format.
    """
    inputs, outputs = [output, target], [loss, grad]
    return bind(name, inputs, outputs, [output.size], [alpha], arithmetic.code, 1)


def _loss(
    name: str,
    output: ndarray,
    target: ndarray,
    arithmetic: str | Arithmetic,
    cores: int,
    num_threads: int | None,
    alpha: float = 0.0,
) -> Any:
    """Check the arguments and return the loss as a NumPy scalar."""
    chosen, threads, factor = _checked(output, target, arithmetic, cores, num_threads, alpha)
    loss = np.empty(1, output.dtype)
    return run([bind_loss(name, output, target, loss, None, chosen, factor)], loss, threads)[0]


def _grad(
    name: str,
    output: ndarray,
    target: ndarray,
    arithmetic: str | Arithmetic,
    cores: int,
    num_threads: int | None,
    alpha: float = 0.0,
) -> ndarray:
    """Check the arguments and return the gradient."""
    chosen, threads, factor = _checked(output, target, arithmetic, cores, num_threads, alpha)
    grad = np.empty_like(output)
    return run([bind_loss(name, output, target, None, grad, chosen, factor)], grad, threads)


def _checked(
    output: ndarray,
    target: ndarray,
    arithmetic: str | Arithmetic,
    cores: int,
    num_threads: int | None,
    alpha: float,
) -> tuple[Arithmetic, int, float]:
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("output", output, chosen)
    check.tensor("target", target, chosen, shape=output.shape)
    return chosen, threads, check.scalar("alpha", alpha, chosen)


def _one_hot(logits: ndarray, target: Any, arithmetic: str | Arithmetic) -> ndarray:
    """Return ``target`` as a vector; an integer is the index of a class."""
    check.tensor("logits", logits, arithmetics.get(arithmetic), ndim=1)
    if isinstance(target, ndarray):
        return target
    index = check.integer("target", target, 0)
    if index >= logits.size:
        raise ValueError(f"target is {index}; it must be below {logits.size}, the classes")
    vector = np.zeros_like(logits)
    vector[index] = 1
    return vector


def cross_entropy(
    logits: ndarray,
    target: ndarray | int,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> Any:
    """Return log(sum exp z) * sum t - sum t z (TrainLib ``pulp_CrossEntropyLoss_fp16``).

    It is computed in binary32 in every arithmetic and rounded once; the firmware negates it after
    that, so that a loss of zero is -0.

    Parameters
    ----------
    logits : ndarray, shape (classes,)
        In the storage dtype of ``arithmetic``.
    target : ndarray, shape (classes,), or int
        Probabilities, one-hot or soft, in the same dtype; or the index of a class.
    arithmetic, cores, num_threads
        See `relu_forward`; a loss runs on one core.

    Returns
    -------
    NumPy scalar of the storage dtype

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`; ValueError if there is no such class.
    """
    vector = _one_hot(logits, target, arithmetic)
    return _loss("cross_entropy", logits, vector, arithmetic, cores, num_threads)


def cross_entropy_grad(
    logits: ndarray,
    target: ndarray | int,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return softmax(z) * sum t - t (TrainLib ``pulp_CrossEntropyLoss_backward_fp16``).

    A sum of targets that is zero counts as one.

    Parameters
    ----------
    logits, target, arithmetic, cores, num_threads
        See `cross_entropy`.

    Returns
    -------
    ndarray, shape (classes,)

    Raises
    ------
    TypeError, ValueError
        See `cross_entropy`.
    """
    vector = _one_hot(logits, target, arithmetic)
    return _grad("cross_entropy", logits, vector, arithmetic, cores, num_threads)


def mse(
    output: ndarray,
    target: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> Any:
    """Return the mean squared error (TrainLib ``pulp_MSELoss_fp16``).

    With m = 1 / n and d = output - target it is the sum of (m d) d, in order.

    Parameters
    ----------
    output, target : ndarray
        Of one shape, in the storage dtype of ``arithmetic``.
    arithmetic, cores, num_threads
        See `relu_forward`; a loss runs on one core.

    Returns
    -------
    NumPy scalar of the storage dtype

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    return _loss("mse", output, target, arithmetic, cores, num_threads)


def mse_grad(
    output: ndarray,
    target: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return 2 m d, in binary32, rounded once (TrainLib ``pulp_MSELoss_backward_fp16``).

    Parameters
    ----------
    output, target, arithmetic, cores, num_threads
        See `mse`.

    Returns
    -------
    ndarray
        Of the shape of ``output``.

    Raises
    ------
    TypeError, ValueError
        See `mse`.
    """
    return _grad("mse", output, target, arithmetic, cores, num_threads)


def l1(
    output: ndarray,
    target: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> Any:
    """Return the mean absolute error: the sum of m |d|, in order (``pulp_L1Loss_fp16``).

    Parameters
    ----------
    output, target, arithmetic, cores, num_threads
        See `mse`.

    Returns
    -------
    NumPy scalar of the storage dtype

    Raises
    ------
    TypeError, ValueError
        See `mse`.
    """
    return _loss("l1", output, target, arithmetic, cores, num_threads)


def l1_grad(
    output: ndarray,
    target: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return +m where d >= 0 and -m elsewhere (TrainLib ``pulp_L1Loss_backward_fp16``).

    As in the firmware it is never zero: equality gives +m, a NaN -m.

    Parameters
    ----------
    output, target, arithmetic, cores, num_threads
        See `mse`.

    Returns
    -------
    ndarray
        Of the shape of ``output``.

    Raises
    ------
    TypeError, ValueError
        See `mse`.
    """
    return _grad("l1", output, target, arithmetic, cores, num_threads)


def berhu(
    output: ndarray,
    target: ndarray,
    *,
    alpha: float = 0.2,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> Any:
    """Return the reverse Huber loss (TrainLib ``pulp_berHuLoss_fp16``).

    With c = alpha max |d| it is the mean of |d| where |d| < c and of (d d - c c) / (2 c) elsewhere;
    the latter is the firmware's (the loss of the literature adds c c), and NaN where all d are 0.

    Parameters
    ----------
    output, target : ndarray
        Of one shape, in the storage dtype of ``arithmetic``.
    alpha : float
        Finite; rounded to the storage format.
    arithmetic, cores, num_threads
        See `relu_forward`; a loss runs on one core.

    Returns
    -------
    NumPy scalar of the storage dtype

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    return _loss("berhu", output, target, arithmetic, cores, num_threads, alpha)


def berhu_grad(
    output: ndarray,
    target: ndarray,
    *,
    alpha: float = 0.2,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return +m, 0 or -m where |d| < c and m d / c elsewhere (``pulp_berHuLoss_backward_fp16``).

    Parameters
    ----------
    output, target, alpha, arithmetic, cores, num_threads
        See `berhu`.

    Returns
    -------
    ndarray
        Of the shape of ``output``.

    Raises
    ------
    TypeError, ValueError
        See `berhu`.
    """
    return _grad("berhu", output, target, arithmetic, cores, num_threads, alpha)
