"""Element-wise arithmetic between layers: residual sum, bias, SGD."""

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl._kernels import Operation, bind
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._run import run

__all__ = ["add", "bind_add", "bind_add_bias", "bind_sgd", "sgd"]


def bind_add(a: ndarray, b: ndarray, out: ndarray, arithmetic: Arithmetic, cores: int) -> Operation:
    """Bind out = a + b; ``out`` may be one of them."""
    return bind("add", [a, b], [out], [out.size], arithmetic=arithmetic.code, cores=cores)


def bind_add_bias(
    bias: ndarray,
    y: ndarray,
    arithmetic: Arithmetic,
    cores: int,
    *,
    rows: int,
    along_columns: bool = False,
) -> Operation:
    """Bind y += bias, in place: a value a row of ``y``, or one a column."""
    sizes = [rows, y.size // rows, int(along_columns)]
    return bind("add_bias", [bias], [y], sizes, arithmetic=arithmetic.code, cores=cores)


def bind_sgd(
    w: ndarray, grad: ndarray, lr: float, weight_decay: float, arithmetic: Arithmetic, cores: int
) -> Operation:
    """Bind the update of ``w`` in place; with weight decay ``grad`` changes too."""
    scalars = [lr, weight_decay]
    return bind("sgd", [], [w, grad], [w.size], scalars, arithmetic.code, cores)


def add(
    a: ndarray,
    b: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return a + b, each element rounded once: the residual join and its gradient.

    Parameters
    ----------
    a, b : ndarray
        Of one shape, in the storage dtype of ``arithmetic``.
    arithmetic, cores, num_threads
        See `matmul`.

    Returns
    -------
    ndarray
        Of the same shape.

    Raises
    ------
    TypeError, ValueError
        See `matmul`.
    """
    chosen, threads = arithmetics.get(arithmetic), check.threads(num_threads)
    check.integer("cores", cores, 1)
    check.tensor("a", a, chosen)
    check.tensor("b", b, chosen, shape=a.shape)
    out = np.empty_like(a)
    return run([bind_add(a, b, out, chosen, cores)], out, threads)


def sgd(
    w: ndarray,
    grad: ndarray,
    lr: float,
    weight_decay: float = 0.0,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> tuple[ndarray, ndarray]:
    """Return the weights and the gradient after one step of gradient descent.

    ``grad + weight_decay * w`` is stored first where the decay, rounded to the storage format, is
    not zero; then ``w - lr * grad`` is (TrainLib ``pulp_gradient_descent_fp16``).

    Parameters
    ----------
    w, grad : ndarray
        Of one shape, in the storage dtype of ``arithmetic``; not changed.
    lr, weight_decay : float
        Rounded to the storage format.
    arithmetic, cores, num_threads
        See `matmul`.

    Returns
    -------
    w_new, grad_new : ndarray

    Raises
    ------
    TypeError, ValueError
        See `matmul`.
    """
    chosen, threads = arithmetics.get(arithmetic), check.threads(num_threads)
    check.integer("cores", cores, 1)
    check.tensor("w", w, chosen)
    check.tensor("grad", grad, chosen, shape=w.shape)
    rate = check.scalar("lr", lr, chosen)
    decay = check.scalar("weight_decay", weight_decay, chosen)
    new = w.copy(), grad.copy()
    return run([bind_sgd(*new, rate, decay, chosen, cores)], new, threads)
