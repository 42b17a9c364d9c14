"""Instance normalisation of CHW tensors (TrainLib ``pulp_instnorm_fp16.c``)."""

from typing import Any

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._run import run

__all__ = [
    "bind_instance_norm_apply",
    "bind_instance_norm_input_grad",
    "bind_instance_norm_param_grad",
    "bind_instance_norm_statistics",
    "instance_norm_forward",
    "instance_norm_input_grad",
    "instance_norm_param_grad",
]

_EPSILON = 1e-10  # the firmware's; in binary16 it is 0


def _sizes(x: ndarray) -> list[int]:
    return [x.shape[0], x.size // x.shape[0]]


def bind_instance_norm_statistics(
    x: ndarray,
    mean: ndarray,
    std: ndarray,
    var: ndarray | None,
    arithmetic: Arithmetic,
    cores: int,
) -> Operation:
    """Bind mean, standard deviation and, if asked for, variance of each channel."""
    scalars = [check.scalar("epsilon", _EPSILON, arithmetic)]
    outputs = [mean, std, var]
    name = "instance_norm_statistics"
    return bind(name, [x], outputs, _sizes(x), scalars, arithmetic.code, cores)


def bind_instance_norm_apply(
    x: ndarray,
    gamma: ndarray,
    beta: ndarray,
    mean: ndarray,
    std: ndarray,
    y: ndarray,
    arithmetic: Arithmetic,
    cores: int,
) -> Operation:
    """Bind y = (gamma / std) * (x - mean) + beta; ``y`` may be ``x``."""
    inputs = [x, gamma, beta, mean, std]
    return bind("instance_norm_apply", inputs, [y], _sizes(x), (), arithmetic.code, cores)


def bind_instance_norm_param_grad(
    x: ndarray,
    dy: ndarray,
    mean: ndarray,
    std: ndarray,
    dgamma: ndarray,
    dbeta: ndarray,
    arithmetic: Arithmetic,
    cores: int,
) -> Operation:
    """Bind the gradients of gamma and beta."""
    inputs, outputs = [x, dy, mean, std], [dgamma, dbeta]
    name = "instance_norm_param_grad"
    return bind(name, inputs, outputs, _sizes(x), (), arithmetic.code, cores)


def bind_instance_norm_input_grad(
    x: ndarray,
    dy: ndarray,
    gamma: ndarray,
    mean: ndarray,
    std: ndarray,
    var: ndarray,
    dx: ndarray,
    arithmetic: Arithmetic,
    cores: int,
) -> Operation:
    """Bind the gradient of x; ``dx`` may be ``dy``."""
    inputs = [x, dy, gamma, mean, std, var]
    return bind("instance_norm_input_grad", inputs, [dx], _sizes(x), (), arithmetic.code, cores)


def _channels(x: ndarray, arithmetic: Arithmetic, **vectors: Any) -> None:
    """Check vectors with one value per channel of ``x``."""
    for name, vector in vectors.items():
        check.tensor(name, vector, arithmetic, shape=(x.shape[0],))


def instance_norm_forward(
    x: ndarray,
    gamma: ndarray,
    beta: ndarray,
    *,
    mean: ndarray | None = None,
    std: ndarray | None = None,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> tuple[ndarray, ndarray, ndarray]:
    """Normalise each channel: (gamma / std) * (x - mean) + beta (``pulp_instnorm_fp16_fw_cl``).

    The variance is the mean of squares minus the square of the mean, or, where the squares
    overflow, the sum of scaled squared deviations. The firmware adds an epsilon of 1e-10 in the
    storage format to it. That is 0 in binary16, where a constant channel hence divides by zero.

    Parameters
    ----------
    x : ndarray, shape (C, H, W)
        In the storage dtype of ``arithmetic``.
    gamma, beta : ndarray, shape (C,)
    mean, std : ndarray, shape (C,), or None
        Frozen statistics, both or none; None computes them.
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    y : ndarray, shape (C, H, W)
        Computed from ``mean`` and ``std`` as stored.
    mean, std : ndarray, shape (C,)

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`; ValueError if only one of ``mean`` and ``std`` is given.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    _channels(x, chosen, gamma=gamma, beta=beta)
    if (mean is None) != (std is None):
        raise ValueError("mean and std are frozen together; give both or none")
    operations = []
    if mean is None or std is None:
        mean, std = np.empty(x.shape[0], x.dtype), np.empty(x.shape[0], x.dtype)
        operations.append(bind_instance_norm_statistics(x, mean, std, None, chosen, cores))
    else:
        _channels(x, chosen, mean=mean, std=std)
    y = np.empty_like(x)
    operations.append(bind_instance_norm_apply(x, gamma, beta, mean, std, y, chosen, cores))
    return run(operations, (y, mean, std), threads)


def instance_norm_input_grad(
    x: ndarray,
    dy: ndarray,
    gamma: ndarray,
    mean: ndarray,
    std: ndarray,
    var: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return the gradient of the input (TrainLib ``pulp_instnorm_fp16_bw_input_grads_cl``).

    With t = x - mean and D elements per channel it is
    ((-sum dy) + (-sum t dy) (t / var) + D dy) gamma / (D std).

    Parameters
    ----------
    x, dy : ndarray, shape (C, H, W)
        The input of the forward pass and the gradient of its output.
    gamma, mean, std, var : ndarray, shape (C,)
        The firmware reads a variance that its forward pass does not store; give std squared.
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    ndarray, shape (C, H, W)

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    check.tensor("dy", dy, chosen, shape=x.shape)
    _channels(x, chosen, gamma=gamma, mean=mean, std=std, var=var)
    dx = np.empty_like(x)
    operation = bind_instance_norm_input_grad(x, dy, gamma, mean, std, var, dx, chosen, cores)
    return run([operation], dx, threads)


def instance_norm_param_grad(
    x: ndarray,
    dy: ndarray,
    mean: ndarray,
    std: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> tuple[ndarray, ndarray]:
    """Return the gradients of gamma, (sum of dy (x - mean)) / std, and of beta, the sum of dy.

    TrainLib ``pulp_instnorm_fp16_bw_param_grads_cl``.

    Parameters
    ----------
    x, dy : ndarray, shape (C, H, W)
        The input of the forward pass and the gradient of its output.
    mean, std : ndarray, shape (C,)
    arithmetic, cores, num_threads
        See `relu_forward`.

    Returns
    -------
    dgamma, dbeta : ndarray, shape (C,)

    Raises
    ------
    TypeError, ValueError
        See `relu_forward`.
    """
    chosen, threads = check.common(arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    check.tensor("dy", dy, chosen, shape=x.shape)
    _channels(x, chosen, mean=mean, std=std)
    grads = np.empty(x.shape[0], x.dtype), np.empty(x.shape[0], x.dtype)
    operation = bind_instance_norm_param_grad(x, dy, mean, std, *grads, chosen, cores)
    return run([operation], grads, threads)
