"""The fully connected layer as matrix products (TrainLib ``pulp_linear_fp16_*``)."""

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl._kernels import Operation
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._matmul import Product, bind_product
from pyodl.primitives._orders import MATMUL_KERNELS, matmul_regions
from pyodl.primitives._run import run
from pyodl.primitives._staging import Stager
from pyodl.primitives._tiling import TileLike, cut_of
from pyodl.primitives.elementwise import bind_add_bias

__all__ = [
    "bind_linear_forward",
    "bind_linear_input_grad",
    "bind_linear_weight_grad",
    "linear_bias_grad",
    "linear_forward",
    "linear_input_grad",
    "linear_weight_grad",
]


def bind_linear_forward(
    x: ndarray,
    w: ndarray,
    out: ndarray,
    arithmetic: Arithmetic,
    kernel: str,
    cores: int,
    stager: Stager | None = None,
    tile: TileLike = None,
) -> list[Operation]:
    """Bind W x: N = out, K = in, M = 1."""
    n, k = w.shape
    regions = matmul_regions(kernel, n, k, 1, transpose_b=False, cores=cores)
    product = Product(n, k, 1, (k, 1), (1, 1), (1, 1), regions)
    cut = cut_of(tile, channels_are_rows=True)
    return bind_product("linear forward", product, w, x, out, arithmetic, cores, stager, cut)


def bind_linear_weight_grad(
    x: ndarray,
    dy: ndarray,
    dw: ndarray,
    arithmetic: Arithmetic,
    kernel: str,
    cores: int,
    stager: Stager | None = None,
    tile: TileLike = None,
) -> list[Operation]:
    """Bind dy x^T: N = out, K = 1, M = in."""
    n, m = dw.shape
    regions = matmul_regions(kernel, n, 1, m, transpose_b=False, cores=cores)
    product = Product(n, 1, m, (1, 1), (m, 1), (m, 1), regions)
    cut = cut_of(tile, channels_are_rows=True)
    return bind_product(
        "linear weight gradient", product, dy, x, dw, arithmetic, cores, stager, cut
    )


def bind_linear_input_grad(
    w: ndarray,
    dy: ndarray,
    dx: ndarray,
    arithmetic: Arithmetic,
    kernel: str,
    cores: int,
    stager: Stager | None = None,
    tile: TileLike = None,
) -> list[Operation]:
    """Bind dy^T W: N = 1, K = out, M = in."""
    k, m = w.shape
    regions = matmul_regions(kernel, 1, k, m, transpose_b=False, cores=cores)
    product = Product(1, k, m, (k, 1), (m, 1), (m, 1), regions)
    cut = cut_of(tile, channels_are_rows=True)
    return bind_product("linear input gradient", product, dy, w, dx, arithmetic, cores, stager, cut)


def linear_forward(
    x: ndarray,
    w: ndarray,
    bias: ndarray | None = None,
    *,
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Return W x, plus the bias added once to the stored product.

    Parameters
    ----------
    x : ndarray, shape (In,)
        In the storage dtype of ``arithmetic``.
    w : ndarray, shape (Out, In)
    bias : ndarray, shape (Out,), or None
    kernel : str
        A matmul kernel, see `matmul`.
    arithmetic, cores, num_threads
        See `matmul`.
    tile : Tile, (channels, rows[, k]) or None
        See `matmul`. Channels are outputs; the gradients' rows are inputs, and the input gradient
        has one channel.

    Returns
    -------
    ndarray, shape (Out,)

    Raises
    ------
    TypeError, ValueError
        See `matmul`.
    """
    chosen, threads = _common(kernel, arithmetic, cores, num_threads)
    check.tensor("w", w, chosen, ndim=2)
    check.tensor("x", x, chosen, shape=(w.shape[1],))
    if bias is not None:
        check.tensor("bias", bias, chosen, shape=(w.shape[0],))
    out = np.empty(w.shape[0], chosen.storage.dtype)
    operations = bind_linear_forward(x, w, out, chosen, kernel, cores, tile=tile)
    if bias is not None:
        operations.append(bind_add_bias(bias, out, chosen, cores, rows=1, along_columns=True))
    return run(operations, out, threads)


def linear_weight_grad(
    x: ndarray,
    dy: ndarray,
    *,
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Return the gradient of the weights, the outer product of ``dy`` and ``x``.

    Parameters
    ----------
    x : ndarray, shape (In,)
    dy : ndarray, shape (Out,)
    kernel, arithmetic, cores, num_threads, tile
        See `linear_forward`.

    Returns
    -------
    ndarray, shape (Out, In)

    Raises
    ------
    TypeError, ValueError
        See `matmul`.
    """
    chosen, threads = _common(kernel, arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=1)
    check.tensor("dy", dy, chosen, ndim=1)
    dw = np.empty((dy.size, x.size), chosen.storage.dtype)
    operations = bind_linear_weight_grad(x, dy, dw, chosen, kernel, cores, tile=tile)
    return run(operations, dw, threads)


def linear_bias_grad(
    dy: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return the gradient of the bias, a copy of ``dy`` bit for bit.

    Parameters
    ----------
    dy : ndarray, shape (Out,)
    arithmetic, cores, num_threads
        See `linear_forward`.

    Returns
    -------
    ndarray, shape (Out,)

    Raises
    ------
    TypeError, ValueError
        See `matmul`.
    """
    chosen, _ = _common("naive", arithmetic, cores, num_threads)
    check.tensor("dy", dy, chosen, ndim=1)
    return dy.copy()


def linear_input_grad(
    w: ndarray,
    dy: ndarray,
    *,
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Return the gradient of the input, W^T dy.

    Parameters
    ----------
    w : ndarray, shape (Out, In)
    dy : ndarray, shape (Out,)
    kernel, arithmetic, cores, num_threads, tile
        See `linear_forward`.

    Returns
    -------
    ndarray, shape (In,)

    Raises
    ------
    TypeError, ValueError
        See `matmul`.
    """
    chosen, threads = _common(kernel, arithmetic, cores, num_threads)
    check.tensor("w", w, chosen, ndim=2)
    check.tensor("dy", dy, chosen, shape=(w.shape[0],))
    dx = np.empty(w.shape[1], chosen.storage.dtype)
    operations = bind_linear_input_grad(w, dy, dx, chosen, kernel, cores, tile=tile)
    return run(operations, dx, threads)


def _common(
    kernel: str, arithmetic: str | Arithmetic, cores: int, num_threads: int | None
) -> tuple[Arithmetic, int]:
    """Check what all steps take; return the arithmetic and the threads."""
    check.choice("kernel", kernel, MATMUL_KERNELS)
    check.integer("cores", cores, 1)
    return arithmetics.get(arithmetic), check.threads(num_threads)
