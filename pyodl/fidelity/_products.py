"""Defects of the matmul and matrix-vector kernels, and of the layers that are one product."""

from pyodl.fidelity._call import Call, Defect, Found, blocks, down
from pyodl.primitives._orders import MATVEC_KERNELS, resolve

__all__ = [
    "linear_forward",
    "linear_input_grad",
    "linear_weight_grad",
    "matmul",
    "matvec",
    "pointwise_forward",
    "pointwise_input_grad",
    "pointwise_weight_grad",
    "product",
]


def product(call: Call, n: int, k: int, m: int, *, transposed: bool) -> Found:
    """Yield the defects of the call's matmul kernel on (N, K) x (K, M)."""
    cores = call.cores
    kernel = resolve(call.kernel, n, k, m, cores)
    if kernel in ("m_simd_2x4", "m_simd_4x8"):
        step = 2 if kernel == "m_simd_2x4" else 4
        whole = down(m, step)
        yield from _column_groups(kernel, n, m, whole, _end(whole, cores, step), transposed)
    elif kernel in ("simd_4x8", "unroll_2x1"):
        yield from _beyond(kernel, n, cores)
    elif kernel in ("unroll_4x1", "unroll_8x1"):
        step = 4 if kernel == "unroll_4x1" else 8
        if _end(down(n, step), cores, step) > n:
            what = (
                f"{kernel} walks each core's rows {step} at a time and writes rows after the last"
            )
            yield Defect("out-of-bounds", "out", what, 11)


def _end(size: int, cores: int, step: int) -> int:
    """Return where the last group of ``step`` ends when blocks are walked in such groups."""
    own = [(start, stop) for start, stop in blocks(size, cores) if start < stop]
    return max(start - (start - stop) // step * step for start, stop in own)


def _column_groups(kernel: str, n: int, m: int, whole: int, end: int, transposed: bool) -> Found:
    """Yield what columns that run over the end of their block do, the last ending at ``end``."""
    if end > m:
        what = f"{kernel}: the last core's columns run over the end of the row"
        yield Defect("out-of-bounds", "out", f"{what}; after the last row, of the tensor", 10)
        if n > 1:
            what += " into the first columns of the next one, which core 0 writes too"
            yield Defect("race", "out", what, 10)
            yield Defect("wrong result", "out", what, 10)
    elif end > whole and transposed:
        what = f"{kernel}: the last core's columns overlap the leftover ones, summed in other order"
        yield Defect("race", "out", what, 10)


def _beyond(kernel: str, n: int, cores: int) -> Found:
    """Yield what a core does whose block starts beyond the end: an odd count writes one row."""
    if any(start > n and (start - n) % 2 for start, _ in blocks(n, cores)):
        what = f"{kernel}: a core whose rows begin after the last one still writes a row"
        yield Defect("out-of-bounds", "out", what, 11)


def matmul(call: Call) -> Found:
    """Yield the defects of `matmul`."""
    (n, k), b = call.shape(0, 2), call.shape(1, 2)
    transposed = call.flag("transpose_b")
    yield from product(call, n, k, b[0] if transposed else b[1], transposed=transposed)


def matvec(call: Call) -> Found:
    """Yield the defects of `matvec`; a small block falls to a narrower kernel."""
    kernel = call.choice("kernel", *MATVEC_KERNELS)
    n, k = call.shape(0, 2)
    widest = {"simd_2x1": 2, "simd_4x1": 4, "simd_8x1": 8}[kernel]
    if widest == 2:
        yield from _beyond(kernel, n, call.cores)
    beyond = leftover = False
    for start, stop in blocks(n, call.cores):
        rows, width = stop - start, widest
        if rows < 2:
            continue
        while width > rows:
            width //= 2
        end = start - (start + 1 - stop) // width * width
        beyond |= end > n
        leftover |= end < stop
    if beyond:
        what = f"{kernel} walks a core's rows in groups and writes rows after the last"
        yield Defect("out-of-bounds", "out", what, 12)
    if leftover and k % 2:
        what = f"{kernel}: an odd row multiplies in one element too many of the matrix and vector"
        yield Defect("out-of-bounds", "a", what, 12)
        yield Defect("wrong result", "out", what, 12)


def pointwise_forward(call: Call) -> Found:
    """Yield the defects of `pointwise_forward`."""
    rows, columns = call.size(call.shape(0, 3))
    c_out, c_in = call.shape(1, 2)
    yield from _pointwise(call, c_out, c_in, rows * columns)


def pointwise_input_grad(call: Call) -> Found:
    """Yield the defects of `pointwise_input_grad`."""
    rows, columns = call.size(call.shape(1, 3))
    c_out, c_in = call.shape(0, 2)
    yield from _pointwise(call, c_in, c_out, rows * columns)


def _pointwise(call: Call, c_to: int, c_from: int, pixels: int) -> Found:
    if call.layout == "CHW":
        yield from product(call, c_to, c_from, pixels, transposed=False)
    else:
        yield from product(call, pixels, c_from, c_to, transposed=True)


def pointwise_weight_grad(call: Call) -> Found:
    """Yield the defects of `pointwise_weight_grad`."""
    x, dy = call.shape(0, 3), call.shape(1, 3)
    rows, columns = call.size(x)
    c_in, c_out, pixels = call.channels(x), call.channels(dy), rows * columns
    yield from product(call, c_out, pixels, c_in, transposed=True)
    # A transposition with exchanged dimensions moves nothing wrongly in vectors and squares.
    if call.layout == "HWC" and 1 not in (c_in, pixels) and c_in != pixels:
        what = "the input is transposed with its dimensions exchanged, which scrambles it"
        yield Defect("wrong result", "out", what, 13)


def linear_forward(call: Call) -> Found:
    """Yield the defects of `linear_forward`."""
    n, k = call.shape(1, 2)
    yield from product(call, n, k, 1, transposed=False)
    if call.has_bias:
        what = "the bias is added twice, the first time along an axis left to chance"
        yield Defect("wrong result", "out", what, 1)
        if call.cores > 1 and n > 1:
            what = "core 0 adds the bias to every row without waiting for the others"
            yield Defect("race", "out", what, 1)


def linear_weight_grad(call: Call) -> Found:
    """Yield the defects of `linear_weight_grad`."""
    (m,), (n,) = call.shape(0, 1), call.shape(1, 1)
    yield from product(call, n, 1, m, transposed=False)
    if call.has_bias:
        what = "the old bias gradient is added to it, along an axis left to chance"
        yield Defect("wrong result", "out", what, 2)
        if m > n:
            yield Defect("out-of-bounds", "bias gradient", "it is read beyond its end", 2)
        if call.cores > 1 and n > 1:
            yield Defect("race", "out", "the bias gradient is used while core 0 writes it", 2)


def linear_input_grad(call: Call) -> Found:
    """Yield the defects of `linear_input_grad`."""
    k, m = call.shape(0, 2)
    yield from product(call, 1, k, m, transposed=False)
