"""Data movement: im2row, im2col, block transpose, padding, transposes, layouts. Bits are kept.

These functions take any 16- or 32-bit storage dtype and no arithmetic. ``cores`` and
``num_threads`` share the copying; no bit depends on them.
"""

import numpy as np
from numpy import ndarray

from pyodl.primitives import _check as check
from pyodl.primitives._run import run
from pyodl.primitives._staging import bind_copy

__all__ = [
    "block_transpose",
    "chw_to_hwc",
    "hwc_to_chw",
    "im2col",
    "im2row",
    "pad",
    "transpose",
]

Pair = int | tuple[int, int]
Sides = int | tuple[int, int, int, int]
_LAYOUTS = ("CHW", "HWC")


def im2row(
    x: ndarray,
    kernel_size: Pair,
    *,
    stride: Pair = 1,
    padding: Sides = 0,
    layout: str = "CHW",
    arithmetic: object = None,
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Unroll an image: one row per output pixel (TrainLib ``pulp_im2row_fp16``).

    Parameters
    ----------
    x : ndarray, shape (C, H, W), or (H, W, C) for HWC
        Of a 16- or 32-bit dtype.
    kernel_size : int or (Kh, Kw)
    stride : int or (int, int)
    padding : int or (up, down, left, right)
        Filled with +0.
    layout : {"CHW", "HWC"}
        A row is in (c, kh, kw) order for CHW and in (kh, kw, c) order for HWC.
    arithmetic : object
        Not used: data movement has none. Taken so that every primitive may be called alike.
    cores, num_threads
        See `matmul`.

    Returns
    -------
    ndarray, shape (Ho * Wo, C * Kh * Kw)

    Raises
    ------
    TypeError
        If an argument is of another type or ``x`` of another dtype.
    ValueError
        If the kernel is larger than the padded image, or ``x`` is empty or not C-contiguous.
    """
    return _unrolled(x, kernel_size, stride, padding, layout, cores, num_threads, as_rows=True)


def im2col(
    x: ndarray,
    kernel_size: Pair,
    *,
    stride: Pair = 1,
    padding: Sides = 0,
    layout: str = "CHW",
    arithmetic: object = None,
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Unroll an image: one column per output pixel, the transpose of `im2row`.

    Parameters
    ----------
    x, kernel_size, stride, padding, layout, arithmetic, cores, num_threads
        See `im2row`.

    Returns
    -------
    ndarray, shape (C * Kh * Kw, Ho * Wo)

    Raises
    ------
    TypeError, ValueError
        See `im2row`.
    """
    return _unrolled(x, kernel_size, stride, padding, layout, cores, num_threads, as_rows=False)


def _unrolled(
    x: ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Sides,
    layout: str,
    cores: int,
    num_threads: int | None,
    *,
    as_rows: bool,
) -> ndarray:
    """Pad, then copy windows of the padded image: one strided copy."""
    check.storage_tensor("x", x, ndim=3)
    check.choice("layout", layout, _LAYOUTS)
    (kh, kw), (sh, sw) = check.pair("kernel_size", kernel_size, 1), check.pair("stride", stride, 1)
    padded = pad(x, padding, layout=layout, cores=cores, num_threads=num_threads)
    size = padded.shape[1:] if layout == "CHW" else padded.shape[:2]
    check.fits("kernel_size", (kh, kw), (size[0], size[1]))
    axes = (1, 2) if layout == "CHW" else (0, 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=axes)
    if layout == "CHW":  # c, ho, wo, kh, kw -> ho, wo, c, kh, kw
        windows = windows[:, ::sh, ::sw].transpose(1, 2, 0, 3, 4)
    else:  # ho, wo, c, kh, kw -> ho, wo, kh, kw, c
        windows = windows[::sh, ::sw].transpose(0, 1, 3, 4, 2)
    if not as_rows:
        windows = windows.transpose(2, 3, 4, 0, 1)
    out = np.empty(windows.shape, x.dtype)
    copied = run([bind_copy(padded, windows, out, out, cores)], out, check.threads(num_threads))
    outer = windows.shape[:2] if as_rows else windows.shape[:3]
    return copied.reshape(int(np.prod(outer)), -1)


def block_transpose(
    w: ndarray,
    *,
    layout: str = "CHW",
    arithmetic: object = None,
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Exchange output and input channels and flip the kernel: weights of the input gradient.

    Parameters
    ----------
    w : ndarray, shape (Cout, Cin, Kh, Kw), or (Cout, Kh, Kw, Cin) for HWC
        Of a 16- or 32-bit dtype.
    layout : {"CHW", "HWC"}
    arithmetic, cores, num_threads
        See `im2row`.

    Returns
    -------
    ndarray, shape (Cin, Cout, Kh, Kw), or (Cin, Kh, Kw, Cout) for HWC

    Raises
    ------
    TypeError, ValueError
        See `im2row`.
    """
    check.storage_tensor("w", w, ndim=4)
    check.choice("layout", layout, _LAYOUTS)
    if layout == "CHW":
        view = w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    else:
        view = w.transpose(3, 1, 2, 0)[:, ::-1, ::-1]
    return _copied(w, view, cores, num_threads)


def pad(
    x: ndarray,
    padding: Sides,
    *,
    layout: str = "CHW",
    arithmetic: object = None,
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Surround an image with +0.

    Parameters
    ----------
    x : ndarray, shape (C, H, W), or (H, W, C) for HWC
        Of a 16- or 32-bit dtype.
    padding : int or (up, down, left, right)
    layout : {"CHW", "HWC"}
    arithmetic, cores, num_threads
        See `im2row`.

    Returns
    -------
    ndarray
        A new array, with rows and columns added.

    Raises
    ------
    TypeError, ValueError
        See `im2row`.
    """
    check.storage_tensor("x", x, ndim=3)
    check.choice("layout", layout, _LAYOUTS)
    check.integer("cores", cores, 1)
    threads = check.threads(num_threads)
    up, down, left, right = check.padding(padding)
    rows = 1 if layout == "CHW" else 0
    shape = list(x.shape)
    shape[rows] += up + down
    shape[rows + 1] += left + right
    out = np.zeros(shape, x.dtype)
    inside = [slice(None)] * 3
    inside[rows] = slice(up, up + x.shape[rows])
    inside[rows + 1] = slice(left, left + x.shape[rows + 1])
    return run([bind_copy(x, x, out, out[tuple(inside)], cores)], out, threads)


def chw_to_hwc(
    x: ndarray, *, arithmetic: object = None, cores: int = 8, num_threads: int | None = None
) -> ndarray:
    """Move channels last.

    Parameters
    ----------
    x : ndarray, shape (C, H, W)
        Of a 16- or 32-bit dtype.
    arithmetic, cores, num_threads
        See `im2row`.

    Returns
    -------
    ndarray, shape (H, W, C)

    Raises
    ------
    TypeError, ValueError
        See `im2row`.
    """
    check.storage_tensor("x", x, ndim=3)
    return _copied(x, x.transpose(1, 2, 0), cores, num_threads)


def hwc_to_chw(
    x: ndarray, *, arithmetic: object = None, cores: int = 8, num_threads: int | None = None
) -> ndarray:
    """Move channels first.

    Parameters
    ----------
    x : ndarray, shape (H, W, C)
        Of a 16- or 32-bit dtype.
    arithmetic, cores, num_threads
        See `im2row`.

    Returns
    -------
    ndarray, shape (C, H, W)

    Raises
    ------
    TypeError, ValueError
        See `im2row`.
    """
    check.storage_tensor("x", x, ndim=3)
    return _copied(x, x.transpose(2, 0, 1), cores, num_threads)


def transpose(
    x: ndarray,
    axes: tuple[int, ...],
    *,
    arithmetic: object = None,
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Permute the axes of a tensor, as ``numpy.transpose`` does, into a new array.

    Parameters
    ----------
    x : ndarray
        Of a 16- or 32-bit dtype and up to 5 dimensions.
    axes : tuple of int
        A permutation of the axes.
    arithmetic, cores, num_threads
        See `im2row`.

    Returns
    -------
    ndarray

    Raises
    ------
    TypeError, ValueError
        See `im2row`; also if ``axes`` is not a permutation.
    """
    check.storage_tensor("x", x, ndim=(1, 2, 3, 4, 5))
    if not isinstance(axes, tuple | list):
        raise TypeError(f"axes must be a tuple, not {type(axes).__name__}")
    if sorted(check.integer("axes", axis, 0) for axis in axes) != list(range(x.ndim)):
        raise ValueError(f"axes is {axes!r}; it may be a permutation of 0 to {x.ndim - 1}")
    return _copied(x, x.transpose(axes), cores, num_threads)


def _copied(x: ndarray, view: ndarray, cores: int, num_threads: int | None) -> ndarray:
    check.integer("cores", cores, 1)
    threads = check.threads(num_threads)
    out = np.empty(view.shape, x.dtype)
    return run([bind_copy(x, view, out, out, cores)], out, threads)
