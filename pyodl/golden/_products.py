"""Calls as matrix products, for hypotheses about how a device adds them up.

Everything here is a plain model beside the primitives: a product is two matrices in the storage
format, and `summed` adds up in an order of the caller's choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl import primitives as P
from pyodl.formats import add, mul, round_to
from pyodl.golden.cases import Case
from pyodl.primitives._orders import MATVEC_KERNELS, Order, Region, matmul_regions, matvec_regions

__all__ = ["Accumulator", "Product", "Unfused", "kernel_of", "product_of", "summed"]

Inputs = Mapping[str, ndarray]


@dataclass(frozen=True, eq=False)
class Product:
    """A call as C = A x B.

    Parameters
    ----------
    a : ndarray, shape (N, K)
    b : ndarray, shape (M, K)
        Always stored transposed here; ``transpose_b`` tells whether the kernel sees it so.
    transpose_b : bool
    output : str
        The case's name of the result.
    arrange : callable
        Maps C, shape (N, M), to the result.
    """

    a: ndarray
    b: ndarray
    transpose_b: bool
    output: str
    arrange: Callable[[ndarray], ndarray]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, K and M."""
        return self.a.shape[0], self.a.shape[1], self.b.shape[0]

    def regions(self, case: Case) -> tuple[Region, ...]:
        """Return which element the case's kernel sums in which order."""
        n, k, m = self.sizes
        kernel = kernel_of(case)
        if kernel in MATVEC_KERNELS:
            return matvec_regions(n, k, cores=case.cores)
        how: dict[str, Any] = {"transpose_b": self.transpose_b, "cores": case.cores}
        return matmul_regions(kernel, n, k, m, **how)


def kernel_of(case: Case) -> str:
    """Return the matmul or matrix-vector kernel of a case."""
    default = "simd_2x1" if case.primitive == "matvec" else "naive"
    return str(case.parameters.get("kernel", default))


def _matrix(array: ndarray, rows: int) -> ndarray:
    return np.ascontiguousarray(array.reshape(rows, -1))


def _turned(array: ndarray, rows: int) -> ndarray:
    """Return a matrix of ``rows`` rows, transposed."""
    return np.ascontiguousarray(array.reshape(rows, -1).T)


def _matmul(case: Case, x: Inputs) -> Product:
    a, b = x["a"], x["b"]
    transposed = bool(case.parameters.get("transpose_b", False))
    return Product(a, b if transposed else np.ascontiguousarray(b.T), transposed, "c", lambda c: c)


def _matvec(_: Case, x: Inputs) -> Product:
    return Product(x["a"], _matrix(x["v"], 1), True, "c", lambda c: c[:, 0])


def _linear_forward(_: Case, x: Inputs) -> Product:
    return Product(x["w"], _matrix(x["x"], 1), False, "y", lambda c: c[:, 0])


def _linear_weight_grad(_: Case, x: Inputs) -> Product:
    return Product(_turned(x["dy"], 1), _turned(x["x"], 1), False, "dw", lambda c: c)


def _linear_input_grad(_: Case, x: Inputs) -> Product:
    w = x["w"]
    return Product(_matrix(x["dy"], 1), np.ascontiguousarray(w.T), False, "dx", lambda c: c[0])


def _channels_first(case: Case) -> bool:
    return bool(case.parameters.get("layout", "CHW") == "CHW")


def _pointwise_forward(case: Case, x: Inputs) -> Product:
    image, w = x["x"], x["w"]
    if _channels_first(case):
        shape = (w.shape[0], *image.shape[1:])
        return Product(w, _turned(image, w.shape[1]), False, "y", lambda c: c.reshape(shape))
    shape = (*image.shape[:2], w.shape[0])
    return Product(_pixels(image), w, True, "y", lambda c: c.reshape(shape))


def _pixels(image: ndarray) -> ndarray:
    """Return a channels-last image as (pixels, channels)."""
    return _matrix(image, image.shape[0] * image.shape[1])


def _pointwise_weight_grad(case: Case, x: Inputs) -> Product:
    image, dy = x["x"], x["dy"]
    if _channels_first(case):
        a, b = _matrix(dy, dy.shape[0]), _matrix(image, image.shape[0])
    else:
        a, b = (np.ascontiguousarray(_pixels(tensor).T) for tensor in (dy, image))
    return Product(a, b, True, "dw", lambda c: c)


def _pointwise_input_grad(case: Case, x: Inputs) -> Product:
    w, dy = x["w"], x["dy"]
    turned = np.ascontiguousarray(w.T)
    if _channels_first(case):
        shape = (w.shape[1], *dy.shape[1:])
        return Product(turned, _turned(dy, w.shape[0]), False, "dx", lambda c: c.reshape(shape))
    shape = (*dy.shape[:2], w.shape[1])
    return Product(_pixels(dy), turned, True, "dx", lambda c: c.reshape(shape))


def _unrolled(case: Case, image: ndarray, kernel: tuple[int, int], **how: Any) -> ndarray:
    """Return the rows of im2row: (output pixels, taps)."""
    layout = case.parameters.get("layout", "CHW")
    return P.im2row(image, kernel, layout=layout, **how)


def _moved(case: Case) -> dict[str, Any]:
    return {
        name: case.parameters[name] for name in ("stride", "padding") if name in case.parameters
    }


def _conv2d_forward(case: Case, x: Inputs) -> Product:
    w = x["w"]
    chw = _channels_first(case)
    rows = _unrolled(case, x["x"], w.shape[2:] if chw else w.shape[1:3], **_moved(case))
    weights = _matrix(w, w.shape[0])
    size = _output_size(case, x["x"], w.shape[2:] if chw else w.shape[1:3])
    if chw:
        return Product(weights, rows, True, "y", lambda c: c.reshape(w.shape[0], *size))
    return Product(rows, weights, True, "y", lambda c: c.reshape(*size, w.shape[0]))


def _output_size(case: Case, image: ndarray, kernel: Sequence[int]) -> tuple[int, int]:
    """Return the height and width of a convolution's output."""
    up, down, left, right = _four(case.parameters.get("padding", 0))
    across, along = _pair(case.parameters.get("stride", 1))
    height, width = image.shape[1:] if _channels_first(case) else image.shape[:2]
    return (
        (height + up + down - kernel[0]) // across + 1,
        (width + left + right - kernel[1]) // along + 1,
    )


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _four(value: Any) -> tuple[int, int, int, int]:
    return (value, value, value, value) if isinstance(value, int) else tuple(value)


def _conv2d_weight_grad(case: Case, x: Inputs) -> Product:
    image, dy = x["x"], x["dy"]
    kernel = _pair(case.parameters["kernel_size"])
    rows = np.ascontiguousarray(_unrolled(case, image, kernel, **_moved(case)).T)  # (taps, pixels)
    if _channels_first(case):
        shape = (dy.shape[0], image.shape[0], *kernel)
        return Product(_matrix(dy, dy.shape[0]), rows, False, "dw", lambda c: c.reshape(shape))
    shape = (dy.shape[2], *kernel, image.shape[2])
    return Product(
        np.ascontiguousarray(_pixels(dy).T), rows, True, "dw", lambda c: c.reshape(shape)
    )


def _conv2d_input_grad(case: Case, x: Inputs) -> Product:
    w, dy = x["w"], x["dy"]
    chw = _channels_first(case)
    kernel = w.shape[2:] if chw else w.shape[1:3]
    size = _pair(case.parameters["input_size"])
    rows = _unrolled(case, _spread(case, dy, kernel, size), kernel)
    turned = P.block_transpose(w, layout="CHW" if chw else "HWC")
    weights = _matrix(turned, turned.shape[0])
    if chw:
        return Product(weights, rows, True, "dx", lambda c: c.reshape(-1, *size))
    return Product(rows, weights, True, "dx", lambda c: c.reshape(*size, -1))


def _spread(case: Case, dy: ndarray, kernel: Sequence[int], size: tuple[int, int]) -> ndarray:
    """Return the output gradient spread by the stride, within the border that im2row unrolls."""
    chw = _channels_first(case)
    up, _, left, _ = _four(case.parameters.get("padding", 0))
    stride = _pair(case.parameters.get("stride", 1))
    whole = (size[0] + kernel[0] - 1, size[1] + kernel[1] - 1)
    pixels = dy if chw else dy.transpose(2, 0, 1)
    places = [
        origin + step * np.arange(count)
        for origin, step, count in zip(
            (kernel[0] - 1 - up, kernel[1] - 1 - left), stride, pixels.shape[1:], strict=True
        )
    ]
    inside = [(at >= 0) & (at < limit) for at, limit in zip(places, whole, strict=True)]
    out = np.zeros((pixels.shape[0], *whole), dy.dtype)
    rows, columns = (at[kept] for at, kept in zip(places, inside, strict=True))
    out[:, rows[:, None], columns] = pixels[:, inside[0]][:, :, inside[1]]
    return np.ascontiguousarray(out if chw else out.transpose(1, 2, 0))


_PRODUCTS: dict[str, Callable[[Case, Inputs], Product]] = {
    "matmul": _matmul,
    "matvec": _matvec,
    "linear_forward": _linear_forward,
    "linear_weight_grad": _linear_weight_grad,
    "linear_input_grad": _linear_input_grad,
    "pointwise_forward": _pointwise_forward,
    "pointwise_weight_grad": _pointwise_weight_grad,
    "pointwise_input_grad": _pointwise_input_grad,
    "conv2d_forward": _conv2d_forward,
    "conv2d_weight_grad": _conv2d_weight_grad,
    "conv2d_input_grad": _conv2d_input_grad,
}


def product_of(case: Case, inputs: Inputs) -> Product | None:
    """Return a call as a matrix product, without its bias; None if it is none."""
    known = _PRODUCTS.get(case.primitive)
    if known is None or case.parameters.get("algorithm", "im2row") != "im2row":
        return None
    return known(case, inputs)


class Accumulator:
    """Sums of an arithmetic before they are rounded to the storage format.

    Where the accumulator is wider than the storage, the whole sum runs in binary32.
    """

    def __init__(self, arithmetic: str) -> None:
        chosen = arithmetics.get(arithmetic)
        self.storage = chosen.storage.name
        self.format = chosen.accumulator.name
        self.arithmetic = arithmetic if self.format == self.storage else "fp32"

    def dot(self, a: ndarray, b: ndarray, terms: slice | ndarray) -> ndarray:
        """Return the sums over some of the terms, in order; none of them is +0."""
        left, right = (np.ascontiguousarray(round_to(x[:, terms], self.format)) for x in (a, b))
        if not left.shape[1]:
            return np.zeros((len(a), len(b)), left.dtype)
        # The kernel whose product of a single term has an accumulator.
        return P.matmul(
            left, right, transpose_b=True, kernel="naive_m", arithmetic=self.arithmetic, cores=1
        )

    def product(self, a: ndarray, b: ndarray) -> ndarray:
        """Return the products of a single term, which no accumulator takes: -0 stays."""
        left, right = (np.ascontiguousarray(round_to(x, self.format)) for x in (a, b))
        return np.asarray(mul(left, right.T, self.format))

    def plus(self, x: ndarray, y: ndarray) -> ndarray:
        """Return a sum, rounded."""
        return np.asarray(add(x, y, self.format))

    def stored(self, x: ndarray) -> ndarray:
        """Return values rounded to the storage format."""
        return np.asarray(round_to(x, self.storage))


class Unfused(Accumulator):
    """Sums whose products are rounded before they are added, term by term."""

    def dot(self, a: ndarray, b: ndarray, terms: slice | ndarray) -> ndarray:
        """Return the sums over some of the terms, in order; none of them is +0."""
        left, right = a[:, terms], b[:, terms]
        total = np.asarray(round_to(np.zeros((len(a), len(b))), self.format))
        for k in range(left.shape[1]):
            total = self.plus(total, self.product(left[:, k : k + 1], right[:, k : k + 1]))
        return total


def summed(
    product: Product,
    case: Case,
    sums: Callable[[Accumulator, ndarray, ndarray], ndarray],
    accumulator: Accumulator | None = None,
) -> ndarray:
    """Return C with ``sums`` where the kernel has two lanes, and as it is elsewhere.

    ``accumulator`` is that of the case's arithmetic if it is None.
    """
    n, _, m = product.sizes
    accumulator = accumulator or Accumulator(case.arithmetic)
    everywhere = slice(None)
    c = np.empty((n, m), product.a.dtype)
    for region in product.regions(case):
        rows, columns = slice(*region.rows), slice(*region.columns)
        a, b = product.a[rows], product.b[columns]
        if region.order in (Order.LANES_SPLIT, Order.LANES_INTO_0):
            c[rows, columns] = accumulator.stored(sums(accumulator, a, b))
        elif region.order is Order.PRODUCT:
            c[rows, columns] = accumulator.stored(accumulator.product(a, b))
        else:
            c[rows, columns] = accumulator.stored(accumulator.dot(a, b, everywhere))
    return c
