"""Defects of im2row, im2col and the convolutions."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyodl.fidelity._call import Call, Defect, Found, Window
from pyodl.fidelity._products import product

__all__ = ["bias_grad", "forward", "im2col", "im2row", "input_grad", "weight_grad"]

_UNSIGNED = 2**32  # the firmware compares positions as unsigned 32-bit integers


@dataclass(frozen=True)
class _Axis:
    """What unrolling makes of the positions along one axis, counted from the image's first."""

    kept: frozenset[int]  # copied from the image
    lost: bool  # whether some of the image is zeroed
    size: int

    @property
    def right(self) -> bool:
        """Whether exactly the padding is zeroed."""
        return (
            not self.lost
            and 0 <= min(self.kept, default=0) <= max(self.kept, default=0) < self.size
        )


def _zeroed(taps: Sequence[int], before: int, limit: int, *, pairs: bool) -> list[bool]:
    """Return which taps of a window are zeroed; of a pair it is the first that asks for it."""
    zeroed = [p < before or p > limit for p in taps]
    if pairs:
        for first in range(0, len(taps) - 1, 2):
            if zeroed[first] and zeroed[first + 1]:
                # Left goes before right; both taps of a pair on one side zero the first alone.
                second = taps[first] > limit and taps[first + 1] < before
                zeroed[first], zeroed[first + 1] = not second, second
    return zeroed


def _unrolled(axis: tuple[int, int, int, int, int], limit: int, *, pairs: bool) -> _Axis:
    """Walk the windows along an axis as the firmware does."""
    n, k, stride, before, after = axis
    kept, lost = set(), False
    for first in range(0, n + before + after - k + 1, stride):
        taps = range(first, first + k)
        for position, zero in zip(taps, _zeroed(taps, before, limit, pairs=pairs), strict=True):
            if not zero:
                kept.add(position - before)
            elif 0 <= position - before < n:
                lost = True
    return _Axis(frozenset(kept), lost, n)


def _rows(call: Call, window: Window, channels: int, tensor: str) -> Found:
    """Yield the defects of unrolling a padded image into one row per output pixel."""
    if not any(window.padding):
        return
    if call.layout == "HWC":
        what = "padding is not implemented in HWC: the buffer keeps what it held"
        yield Defect("wrong result", tensor, what, 6)
        return
    vertical, horizontal = window.axes
    limits = [(n - k + 1 + after) % _UNSIGNED for n, k, _, _, after in window.axes]
    yield from _wrong_padding(
        _unrolled(vertical, limits[0], pairs=False),
        _unrolled(horizontal, limits[1], pairs=True),
        channels,
        tensor,
    )


def _wrong_padding(rows: _Axis, columns: _Axis, channels: int, tensor: str) -> Found:
    if rows.right and columns.right:
        return
    what = "wrong limits of the padding: pixels of the image are zeroed, or neighbours leak in"
    yield Defect("wrong result", tensor, what, 5)
    width, pixels = columns.size, rows.size * columns.size
    first = min(rows.kept, default=0) * width + min(columns.kept, default=0)
    last = max(rows.kept, default=0) * width + max(columns.kept, default=0)
    if first < 0 or last + (channels - 1) * pixels >= channels * pixels:
        what = "wrong limits of the padding: what lies before or after the image leaks in"
        yield Defect("out-of-bounds", "x", what, 5)


def _uneven(window: Window, *, writes: bool) -> Found:
    if not window.divides:
        what = "the stride does not divide the size: the buffer of rows is not filled"
        yield Defect("wrong result", "out", what, 18)
        if writes:
            yield Defect("out-of-bounds", "out", f"{what}, and results land beyond the tensor", 18)


def im2row(call: Call) -> Found:
    """Yield the defects of `im2row`."""
    x = call.shape(0, 3)
    window = call.window(call.size(x), call.pair("kernel_size"))
    yield from _rows(call, window, call.channels(x), "out")
    yield from _uneven(window, writes=False)


def im2col(call: Call) -> Found:
    """Yield the defects of `im2col`, whose limits in CHW are others than im2row's."""
    x = call.shape(0, 3)
    window = call.window(call.size(x), call.pair("kernel_size"))
    if any(window.padding) and call.layout == "CHW":
        rows, columns = (
            _unrolled(axis, (axis[0] + 1 - axis[4]) % _UNSIGNED, pairs=False)
            for axis in window.axes
        )
        yield from _wrong_padding(rows, columns, call.channels(x), "out")
    else:
        yield from _rows(call, window, call.channels(x), "out")
    yield from _uneven(window, writes=False)


def forward(call: Call) -> Found:
    """Yield the defects of `conv2d_forward`."""
    x, w = call.shape(0, 3), call.shape(1, 4)
    window = call.window(call.size(x), call.size(w[1:]))
    if call.direct:
        return
    c_out, pixels, channels = w[0], window.out, call.channels(x)
    k = channels * window.kernel[0] * window.kernel[1]
    n, m = (c_out, pixels) if call.layout == "CHW" else (pixels, c_out)
    yield from product(call, n, k, m, transposed=True)
    yield from _rows(call, window, channels, "x")
    yield from _uneven(window, writes=True)
    if not call.has_bias:
        return
    what = "the bias is added twice, the first time along an axis left to chance"
    yield Defect("wrong result", "out", what, 1)
    if pixels > c_out:
        what = "the bias is read beyond its end when the axis left to chance is that of pixels"
        yield Defect("out-of-bounds", "bias", what, 1)
    if call.cores > 1 and (call.layout == "HWC" or not window.divides):
        yield Defect("race", "out", "cores add the bias to results of other cores", 1)


def weight_grad(call: Call) -> Found:
    """Yield the defects of `conv2d_weight_grad`, with the bias gradient's if there is a bias."""
    x, dy = call.shape(0, 3), call.shape(1, 3)
    window = call.window(call.size(x), call.pair("kernel_size"))
    if call.direct:
        if call.has_bias:
            yield from _direct_bias_grad(window)
        return
    taps = call.channels(x) * window.kernel[0] * window.kernel[1]
    c_out = call.channels(dy)
    yield from product(call, c_out, window.out, taps, transposed=call.layout == "HWC")
    if call.layout == "HWC":
        yield from _rows(call, window, call.channels(x), "x")
    elif any(window.padding):
        what = "padding is ignored: the last rows that are summed are leftovers of the buffer"
        yield Defect("wrong result", "out", what, 7)
    yield from _uneven(window, writes=False)
    if call.has_bias:
        yield Defect("wrong result", "out", "the old bias gradient is added to it", 3)
        yield from bias_grad(call)


def bias_grad(call: Call) -> Found:
    """Yield the defects of `conv2d_bias_grad` with im2row.

    Those of the direct algorithm depend on the geometry, which `weight_grad` has.
    """
    if call.direct:
        return
    what = "the weight gradient is taken for the output gradient, and its size from the stack"
    yield Defect("wrong result", "bias gradient", what, 3)
    yield Defect("out-of-bounds", "bias gradient", what, 3)
    if call.cores > 1:
        yield Defect("race", "bias gradient", "it is used while other cores write it", 3)


def _direct_bias_grad(window: Window) -> Found:
    if window.kernel == (5, 5) and sum(window.padding) == 4 and sum(window.stride) == 4:
        what = "the kernel for 5x5 with stride 2 and padding 1 never writes it"
        yield Defect("wrong result", "bias gradient", what, 4)
        return
    for n, k, s, before, after in window.axes:
        last = (n + before + after - k) // s * s - before + k - 1
        if last >= n or k - 1 < before:
            what = "pixels whose last kernel tap is in the padding are left out of the sum"
            yield Defect("wrong result", "bias gradient", what, 4)


def input_grad(call: Call) -> Found:
    """Yield the defects of `conv2d_input_grad`."""
    w, dy = call.shape(0, 4), call.shape(1, 3)
    window = call.window(call.pair("input_size"), call.size(w[1:]))
    if call.direct:
        yield from _direct_input_grad(window)
        return
    pixels = window.size[0] * window.size[1]
    k = call.channels(dy) * window.kernel[0] * window.kernel[1]
    c_in = call.channels(w[1:])
    n, m = (c_in, pixels) if call.layout == "CHW" else (pixels, c_in)
    yield from product(call, n, k, m, transposed=True)
    if not window.plain:
        what = "the output gradient is always unrolled as if there were no stride and no padding"
        yield Defect("wrong result", "out", what, 8)


def _direct_input_grad(window: Window) -> Found:
    if window.plain:
        if any(k not in (1, 3) for k in window.kernel):
            what = (
                "the upper limit holds for 1x1 and 3x3 only: rows and columns are lost or made up"
            )
            yield Defect("wrong result", "out", what, 9)
        if 2 in window.kernel:
            yield Defect("out-of-bounds", "dy", "the upper limit is one too far for size 2", 9)
    elif window.padding[0] != window.padding[2]:
        yield Defect("wrong result", "out", "upper and left padding change places", 9)
