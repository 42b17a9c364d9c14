"""The 1x1 convolution as matrix products, without im2row (TrainLib ``pulp_conv_pw_fp16_*``)."""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl._kernels import Operation
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._geometry import Convolution
from pyodl.primitives._matmul import Product, bind_product
from pyodl.primitives._orders import MATMUL_KERNELS, matmul_regions
from pyodl.primitives._pixels import bind_around_pixels, may_go_around
from pyodl.primitives._run import run
from pyodl.primitives._staging import Stager
from pyodl.primitives._tiling import Cut, TileLike, cut_of

__all__ = [
    "bind_pointwise_forward",
    "bind_pointwise_input_grad",
    "bind_pointwise_weight_grad",
    "pointwise_forward",
    "pointwise_input_grad",
    "pointwise_weight_grad",
]


def bind_pointwise_forward(
    x: ndarray,
    w: ndarray,
    out: ndarray,
    arithmetic: Arithmetic,
    kernel: str,
    cores: int,
    layout: str = "CHW",
    stager: Stager | None = None,
    tile: TileLike = None,
) -> list[Operation]:
    """Bind W x in CHW; x W^T in HWC, with B transposed."""
    c_out, c_in = w.shape
    pixels = x.size // c_in
    if layout == "CHW":
        sizes = (c_out, c_in, pixels)
        regions = matmul_regions(kernel, *sizes, transpose_b=False, cores=cores)
        product = Product(*sizes, (c_in, 1), (pixels, 1), (pixels, 1), regions, zeros_in_b=True)
        operands = (w, x)
    else:
        sizes = (pixels, c_in, c_out)
        regions = matmul_regions(kernel, *sizes, transpose_b=True, cores=cores)
        product = Product(*sizes, (c_in, 1), (1, c_in), (c_out, 1), regions)
        operands = (x, w)
    name, stager = "pointwise forward", stager or Stager(arithmetic, cores)
    guard, quick = _around_pixels(name, x, w, out, product, stager, tile)
    cut = _cut(tile, x, layout)
    return [
        *quick,
        *bind_product(name, product, *operands, out, arithmetic, cores, stager, cut, guard),
    ]


def bind_pointwise_weight_grad(
    x: ndarray,
    dy: ndarray,
    dw: ndarray,
    arithmetic: Arithmetic,
    kernel: str,
    cores: int,
    layout: str = "CHW",
    stager: Stager | None = None,
    tile: TileLike = None,
) -> list[Operation]:
    """Bind dY x^T, with B transposed."""
    c_out, c_in = dw.shape
    pixels = x.size // c_in
    sizes = (c_out, pixels, c_in)
    regions = matmul_regions(kernel, *sizes, transpose_b=True, cores=cores)
    if layout == "CHW":
        product = Product(*sizes, (pixels, 1), (1, pixels), (c_in, 1), regions)
    else:
        product = Product(*sizes, (1, c_out), (c_in, 1), (c_in, 1), regions)
    cut = cut_of(tile, channels_are_rows=True)
    return bind_product(
        "pointwise weight gradient", product, dy, x, dw, arithmetic, cores, stager, cut
    )


def bind_pointwise_input_grad(
    w: ndarray,
    dy: ndarray,
    dx: ndarray,
    arithmetic: Arithmetic,
    kernel: str,
    cores: int,
    layout: str = "CHW",
    stager: Stager | None = None,
    tile: TileLike = None,
) -> list[Operation]:
    """Bind W^T dY in CHW; dY W, with B (W^T) transposed, in HWC."""
    c_out, c_in = w.shape
    pixels = dy.size // c_out
    if layout == "CHW":
        sizes = (c_in, c_out, pixels)
        regions = matmul_regions(kernel, *sizes, transpose_b=False, cores=cores)
        product = Product(*sizes, (1, c_in), (pixels, 1), (pixels, 1), regions, zeros_in_b=True)
        operands = (w, dy)
    else:
        sizes = (pixels, c_out, c_in)
        regions = matmul_regions(kernel, *sizes, transpose_b=True, cores=cores)
        product = Product(*sizes, (c_out, 1), (c_in, 1), (c_in, 1), regions)
        operands = (dy, w)
    name, stager = "pointwise input gradient", stager or Stager(arithmetic, cores)
    guard, quick = _around_pixels(name, dy, w, dx, product, stager, tile, mirrored=True)
    cut = _cut(tile, dy, layout)
    return [
        *quick,
        *bind_product(name, product, *operands, dx, arithmetic, cores, stager, cut, guard),
    ]


def _around_pixels(
    name: str,
    image: ndarray,
    w: ndarray,
    out: ndarray,
    product: Product,
    stager: Stager,
    tile: TileLike,
    *,
    mirrored: bool = False,
) -> tuple[ndarray | None, Sequence[Operation]]:
    """Bind a product by the pixels that are not zero, if it may be, and the flag that it sets."""
    (c_out, c_in), step = w.shape, stager.step
    size = image.shape[1], image.shape[2]
    listed = product.zeros_in_b and step.lists_terms
    conv = Convolution(
        *(c_in, *size, c_out, (1, 1), (1, 1), (0, 0, 0, 0), "CHW"), listed=listed, lanes=step.lanes
    )
    if not may_go_around(conv, product.regions, tile, mirrored=mirrored):
        return None, ()
    weights, stage = (w, ()) if mirrored else stager.transposed(w, c_out, stored=True)
    flag, quick = bind_around_pixels(name, conv, image, weights, out, stager, mirrored=mirrored)
    return flag, (*stage, *quick)


def _cut(tile: TileLike, image: ndarray, layout: str) -> Cut | None:
    """Cut channels by rows of pixels."""
    chw = layout == "CHW"
    return cut_of(tile, channels_are_rows=chw, columns=image.shape[2 if chw else 1])


def pointwise_forward(
    x: ndarray,
    w: ndarray,
    *,
    layout: str = "CHW",
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Convolve with 1x1 kernels.

    Parameters
    ----------
    x : ndarray, shape (Cin, H, W), or (H, W, Cin) for HWC
        In the storage dtype of ``arithmetic``.
    w : ndarray, shape (Cout, Cin)
    layout : {"CHW", "HWC"}
    kernel : str
        A matmul kernel, see `matmul`.
    arithmetic, cores, num_threads
        See `matmul`.
    tile : Tile, (channels, rows[, k]) or None
        See `matmul`. Output channels by rows of pixels; a weight gradient's rows are input
        channels.

    Returns
    -------
    ndarray, shape (Cout, H, W), or (H, W, Cout) for HWC

    Raises
    ------
    TypeError, ValueError
        See `matmul`.
    """
    chosen, threads = _common(layout, kernel, arithmetic, cores, num_threads)
    check.tensor("w", w, chosen, ndim=2)
    c_out, c_in = w.shape
    check.tensor("x", x, chosen, shape=_shape(layout, c_in))
    out = np.empty(_like(x, layout, c_out), x.dtype)
    operations = bind_pointwise_forward(x, w, out, chosen, kernel, cores, layout, tile=tile)
    return run(operations, out, threads)


def pointwise_weight_grad(
    x: ndarray,
    dy: ndarray,
    *,
    layout: str = "CHW",
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Return the gradient of the weights of a 1x1 convolution.

    In HWC the firmware scrambles its input (docs/fidelity.md, defect 13); this is the gradient
    meant.

    Parameters
    ----------
    x : ndarray, shape (Cin, H, W), or (H, W, Cin) for HWC
    dy : ndarray, shape (Cout, H, W), or (H, W, Cout) for HWC
    layout, kernel, arithmetic, cores, num_threads, tile
        See `pointwise_forward`.

    Returns
    -------
    ndarray, shape (Cout, Cin)

    Raises
    ------
    TypeError, ValueError
        See `matmul`.
    """
    chosen, threads = _common(layout, kernel, arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    check.tensor("dy", dy, chosen, ndim=3)
    axis = 0 if layout == "CHW" else 2
    check.tensor("dy", dy, chosen, shape=_like(x, layout, dy.shape[axis]))
    dw = np.empty((dy.shape[axis], x.shape[axis]), x.dtype)
    operations = bind_pointwise_weight_grad(x, dy, dw, chosen, kernel, cores, layout, tile=tile)
    return run(operations, dw, threads)


def pointwise_input_grad(
    w: ndarray,
    dy: ndarray,
    *,
    layout: str = "CHW",
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Return the gradient of the input of a 1x1 convolution.

    Parameters
    ----------
    w : ndarray, shape (Cout, Cin)
    dy : ndarray, shape (Cout, H, W), or (H, W, Cout) for HWC
    layout, kernel, arithmetic, cores, num_threads, tile
        See `pointwise_forward`.

    Returns
    -------
    ndarray, shape (Cin, H, W), or (H, W, Cin) for HWC

    Raises
    ------
    TypeError, ValueError
        See `matmul`.
    """
    chosen, threads = _common(layout, kernel, arithmetic, cores, num_threads)
    check.tensor("w", w, chosen, ndim=2)
    c_out, c_in = w.shape
    check.tensor("dy", dy, chosen, shape=_shape(layout, c_out))
    dx = np.empty(_like(dy, layout, c_in), dy.dtype)
    operations = bind_pointwise_input_grad(w, dy, dx, chosen, kernel, cores, layout, tile=tile)
    return run(operations, dx, threads)


def _common(
    layout: str, kernel: str, arithmetic: str | Arithmetic, cores: int, num_threads: int | None
) -> tuple[Arithmetic, int]:
    check.choice("layout", layout, ("CHW", "HWC"))
    check.choice("kernel", kernel, MATMUL_KERNELS)
    check.integer("cores", cores, 1)
    return arithmetics.get(arithmetic), check.threads(num_threads)


def _shape(layout: str, channels: int | None) -> tuple[int | None, int | None, int | None]:
    return (channels, None, None) if layout == "CHW" else (None, None, channels)


def _like(x: ndarray, layout: str, channels: int) -> tuple[int, ...]:
    """Return the shape of ``x`` with another number of channels."""
    return (channels, *x.shape[1:]) if layout == "CHW" else (*x.shape[:2], channels)
