"""Matrix products as the cluster's kernels compute them (TrainLib ``mm_*_fp16``, ``mv_*_fp16``)."""

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._matmul import Product, bind_product
from pyodl.primitives._orders import (
    MATMUL_KERNELS,
    MATVEC_KERNELS,
    matmul_regions,
    matvec_regions,
)
from pyodl.primitives._run import run
from pyodl.primitives._tiling import TileLike, cut_of

__all__ = ["matmul", "matvec"]


def matmul(
    a: ndarray,
    b: ndarray,
    *,
    transpose_b: bool = False,
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Multiply two matrices in the order of a cluster kernel (docs/numerics.md, section 3).

    Parameters
    ----------
    a : ndarray, shape (N, K)
        In the storage dtype of ``arithmetic``.
    b : ndarray, shape (K, M), or (M, K) if ``transpose_b``
    transpose_b : bool
        Whether ``b`` is stored transposed; the SIMD kernels then sum in two lanes.
    kernel : str
        One of `MATMUL_KERNELS`, in TrainLib's numbering from 0 (``naive``) to 8 (``unroll_8x1``).
        A kernel that the sizes are too small for falls back as on the device.
    arithmetic : str
    cores : int
        Cores of the device; they decide fall-backs.
    num_threads : int or None
        Threads of the host; no bit depends on them.
    tile : pyodl.device.tiles.Tile, (rows, columns[, K]) or None
        Computes the output tile by tile, each in the order that it has in the whole matrix: no bit
        depends on a tile that leaves K whole. A smaller K stores the sums of each part in the
        storage format, and the first accumulator of the next part starts from them
        (docs/numerics.md, section 4).

    Returns
    -------
    ndarray, shape (N, M)

    Raises
    ------
    TypeError
        If an argument is of another type or an array of another dtype.
    ValueError
        If shapes do not fit, an array is empty or not C-contiguous, or a name is unknown.
    """
    chosen = arithmetics.get(arithmetic)
    threads = check.threads(num_threads)
    check.integer("cores", cores, 1)
    check.choice("kernel", kernel, MATMUL_KERNELS)
    check.flag("transpose_b", transpose_b)
    check.tensor("a", a, chosen, ndim=2)
    n, k = a.shape
    check.tensor("b", b, chosen, shape=(None, k) if transpose_b else (k, None))
    m = b.shape[0] if transpose_b else b.shape[1]
    out = np.empty((n, m), chosen.storage.dtype)
    product = Product(
        *(n, k, m),
        a=(k, 1),
        b=(1, k) if transpose_b else (m, 1),
        out=(m, 1),
        regions=matmul_regions(kernel, n, k, m, transpose_b=transpose_b, cores=cores),
    )
    cut = cut_of(tile, channels_are_rows=True)
    return run(bind_product("matmul", product, a, b, out, chosen, cores, cut=cut), out, threads)


def matvec(
    a: ndarray,
    v: ndarray,
    *,
    kernel: str = "simd_2x1",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Multiply a matrix by a vector in the order of a cluster kernel (docs/numerics.md, section 3).

    Parameters
    ----------
    a : ndarray, shape (N, K)
        In the storage dtype of ``arithmetic``.
    v : ndarray, shape (K,)
    kernel : {"simd_2x1", "simd_4x1", "simd_8x1"}
        All three sum in two lanes; a core with a single row runs ``naive`` on it.
    arithmetic, cores, num_threads
        As for `matmul`.

    Returns
    -------
    ndarray, shape (N,)

    Raises
    ------
    TypeError, ValueError
        As for `matmul`.
    """
    chosen = arithmetics.get(arithmetic)
    threads = check.threads(num_threads)
    check.integer("cores", cores, 1)
    check.choice("kernel", kernel, MATVEC_KERNELS)
    check.tensor("a", a, chosen, ndim=2)
    n, k = a.shape
    check.tensor("v", v, chosen, shape=(k,))
    out = np.empty(n, chosen.storage.dtype)
    product = Product(
        *(n, k, 1), a=(k, 1), b=(1, 1), out=(1, 1), regions=matvec_regions(n, k, cores=cores)
    )
    return run(bind_product("matvec", product, a, v, out, chosen, cores), out, threads)
