"""2-D convolution: im2row with any matmul kernel, or the direct loops.

TrainLib's ``pulp_conv2d_fp16_*``.
"""

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check
from pyodl.primitives._convolution import BoundConvolution
from pyodl.primitives._geometry import Convolution
from pyodl.primitives._matmul import bind_pixel_sums
from pyodl.primitives._orders import MATMUL_KERNELS
from pyodl.primitives._run import run
from pyodl.primitives._staging import Stager
from pyodl.primitives._tiling import TileLike, checked
from pyodl.primitives.elementwise import bind_add_bias

__all__ = ["conv2d_bias_grad", "conv2d_forward", "conv2d_input_grad", "conv2d_weight_grad"]

Pair = int | tuple[int, int]
Sides = int | tuple[int, int, int, int]
_LAYOUTS = ("CHW", "HWC")
_ALGORITHMS = ("im2row", "direct")


def conv2d_forward(
    x: ndarray,
    w: ndarray,
    bias: ndarray | None = None,
    *,
    stride: Pair = 1,
    padding: Sides = 0,
    layout: str = "CHW",
    algorithm: str = "im2row",
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Convolve an image (paper, section 3; docs/numerics.md, section 5).

    Parameters
    ----------
    x : ndarray, shape (Cin, H, W), or (H, W, Cin) for HWC
        In the storage dtype of ``arithmetic``.
    w : ndarray, shape (Cout, Cin, Kh, Kw), or (Cout, Kh, Kw, Cin) for HWC
    bias : ndarray, shape (Cout,), or None
        Added once, to the stored result.
    stride : int or (int, int)
        Where it does not divide the image, the last rows and columns are left over.
    padding : int or (up, down, left, right)
        im2row multiplies the padding's zeros, the direct loops skip them: signs of zero and NaNs
        from infinite weights tell the two apart, nothing else does.
    layout : {"CHW", "HWC"}
        im2row sums in the order of its rows: (c, kh, kw) in CHW, (kh, kw, c) in HWC. The direct
        loops are (c, kh, kw) in both.
    algorithm : {"im2row", "direct"}
    kernel : str
        The matmul kernel of im2row, see `matmul`.
    arithmetic, cores, num_threads
        See `matmul`.
    tile : Tile, (channels, rows[, k]) or None
        See `matmul`. Output channels by rows of pixels; a weight gradient's rows are input
        channels, in HWC the kernel's rows.

    Returns
    -------
    ndarray, shape (Cout, Ho, Wo), or (Ho, Wo, Cout) for HWC

    Raises
    ------
    TypeError
        If an argument is of another type or an array of another dtype.
    ValueError
        If shapes do not fit, the kernel is larger than the padded image, an array is empty or not
        C-contiguous, or a name is unknown.
    """
    chosen, threads = _common(layout, algorithm, kernel, arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    c_in = x.shape[0 if layout == "CHW" else 2]
    check.tensor("w", w, chosen, shape=_weight_shape(layout, None, c_in))
    conv = _geometry(
        "w", _size(x, layout), c_in, w.shape[0], _kernel_of(w, layout), stride, padding, layout
    )
    if bias is not None:
        check.tensor("bias", bias, chosen, shape=(conv.out_channels,))
    out = np.empty(conv.output_shape, x.dtype)
    bound = BoundConvolution(conv, Stager(chosen, cores), algorithm=algorithm, kernel=kernel)
    operations = bound.forward(x, w, out, checked(tile))
    if bias is not None:
        chw = layout == "CHW"
        rows = conv.out_channels if chw else conv.pixels
        operations.append(bind_add_bias(bias, out, chosen, cores, rows=rows, along_columns=not chw))
    return run(operations, out, threads)


def conv2d_weight_grad(
    x: ndarray,
    dy: ndarray,
    kernel_size: Pair,
    *,
    stride: Pair = 1,
    padding: Sides = 0,
    layout: str = "CHW",
    algorithm: str = "im2row",
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Return the gradient of a convolution's weights, summed over output pixels in row order.

    Parameters
    ----------
    x : ndarray, shape (Cin, H, W), or (H, W, Cin) for HWC
    dy : ndarray, shape (Cout, Ho, Wo), or (Ho, Wo, Cout) for HWC
    kernel_size : int or (Kh, Kw)
    stride, padding, layout, algorithm, kernel, arithmetic, cores, num_threads, tile
        See `conv2d_forward`.

    Returns
    -------
    ndarray, shape (Cout, Cin, Kh, Kw), or (Cout, Kh, Kw, Cin) for HWC

    Raises
    ------
    TypeError, ValueError
        See `conv2d_forward`.
    """
    chosen, threads = _common(layout, algorithm, kernel, arithmetic, cores, num_threads)
    check.tensor("x", x, chosen, ndim=3)
    check.tensor("dy", dy, chosen, ndim=3)
    axis = 0 if layout == "CHW" else 2
    size = check.pair("kernel_size", kernel_size, 1)
    channels = x.shape[axis], dy.shape[axis]
    conv = _geometry("kernel_size", _size(x, layout), *channels, size, stride, padding, layout)
    check.tensor("dy", dy, chosen, shape=conv.output_shape)
    dw = np.empty(conv.weight_shape, x.dtype)
    bound = BoundConvolution(conv, Stager(chosen, cores), algorithm=algorithm, kernel=kernel)
    return run(bound.weight_grad(x, dy, dw, checked(tile)), dw, threads)


def conv2d_input_grad(
    w: ndarray,
    dy: ndarray,
    input_size: Pair,
    *,
    stride: Pair = 1,
    padding: Sides = 0,
    layout: str = "CHW",
    algorithm: str = "im2row",
    kernel: str = "naive",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
    tile: TileLike = None,
) -> ndarray:
    """Return the gradient of a convolution's input.

    im2row spreads ``dy`` with zeros and multiplies them. With a 16-bit accumulator the direct loops
    of a stride above one or any padding go through a float at every step (docs/numerics.md,
    section 5).

    Parameters
    ----------
    w : ndarray, shape (Cout, Cin, Kh, Kw), or (Cout, Kh, Kw, Cin) for HWC
    dy : ndarray, shape (Cout, Ho, Wo), or (Ho, Wo, Cout) for HWC
    input_size : int or (H, W)
    stride, padding, layout, algorithm, kernel, arithmetic, cores, num_threads, tile
        See `conv2d_forward`.

    Returns
    -------
    ndarray, shape (Cin, H, W), or (H, W, Cin) for HWC

    Raises
    ------
    TypeError, ValueError
        See `conv2d_forward`.
    """
    chosen, threads = _common(layout, algorithm, kernel, arithmetic, cores, num_threads)
    check.tensor("w", w, chosen, ndim=4)
    size = check.pair("input_size", input_size, 1)
    c_in = w.shape[1 if layout == "CHW" else 3]
    kernel_size = _kernel_of(w, layout)
    conv = _geometry("w", size, c_in, w.shape[0], kernel_size, stride, padding, layout)
    check.tensor("dy", dy, chosen, shape=conv.output_shape)
    dx = np.empty(conv.input_shape, w.dtype)
    bound = BoundConvolution(conv, Stager(chosen, cores), algorithm=algorithm, kernel=kernel)
    return run(bound.input_grad(w, dy, dx, checked(tile)), dx, threads)


def conv2d_bias_grad(
    dy: ndarray,
    *,
    layout: str = "CHW",
    algorithm: str = "im2row",
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return the gradient of a convolution's bias: sums over output pixels in (ho, wo) order.

    Parameters
    ----------
    dy : ndarray, shape (Cout, Ho, Wo), or (Ho, Wo, Cout) for HWC
    layout, algorithm, arithmetic, cores, num_threads
        See `conv2d_forward`; the algorithm does not matter.

    Returns
    -------
    ndarray, shape (Cout,)

    Raises
    ------
    TypeError, ValueError
        See `conv2d_forward`.
    """
    chosen, threads = _common(layout, algorithm, "naive", arithmetic, cores, num_threads)
    check.tensor("dy", dy, chosen, ndim=3)
    db = np.empty(dy.shape[0 if layout == "CHW" else 2], dy.dtype)
    return run(bind_pixel_sums(dy, db, layout, Stager(chosen, cores)), db, threads)


def _common(
    layout: str,
    algorithm: str,
    kernel: str,
    arithmetic: str | Arithmetic,
    cores: int,
    num_threads: int | None,
) -> tuple[Arithmetic, int]:
    """Check what all steps take; return the arithmetic and the threads."""
    check.choice("layout", layout, _LAYOUTS)
    check.choice("algorithm", algorithm, _ALGORITHMS)
    check.choice("kernel", kernel, MATMUL_KERNELS)
    check.integer("cores", cores, 1)
    return arithmetics.get(arithmetic), check.threads(num_threads)


def _geometry(
    name: str,
    size: tuple[int, int],
    c_in: int,
    c_out: int,
    kernel_size: tuple[int, int],
    stride: Pair,
    padding: Sides,
    layout: str,
) -> Convolution:
    """Return the geometry, checked: the kernel fits into the padded image."""
    strides, sides = check.pair("stride", stride, 1), check.padding(padding)
    conv = Convolution(c_in, *size, c_out, kernel_size, strides, sides, layout)
    check.fits(name, kernel_size, conv.padded)
    return conv


def _size(x: ndarray, layout: str) -> tuple[int, int]:
    height, width = x.shape[1:] if layout == "CHW" else x.shape[:2]
    return height, width


def _kernel_of(w: ndarray, layout: str) -> tuple[int, int]:
    height, width = w.shape[2:] if layout == "CHW" else w.shape[1:3]
    return height, width


def _weight_shape(layout: str, c_out: int | None, c_in: int) -> tuple[int | None, ...]:
    return (c_out, c_in, None, None) if layout == "CHW" else (c_out, None, None, c_in)
