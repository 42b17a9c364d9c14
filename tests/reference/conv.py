"""Convolutions: direct (padding skipped), through im2row (padding multiplied), depthwise."""

import numpy as np

from .arith import ARITHMETICS, round_value
from .layout import (
    block_transpose,
    chw_to_hwc,
    four,
    hwc_to_chw,
    im2col,
    im2row,
    output_size,
    pair,
    spread,
)
from .reduce import matmul_values, part_of, total


def reach(size, out, tap, stride, before):
    """Output positions that a kernel tap takes from inside the input, and the inputs it takes."""
    outputs = [o for o in range(out) if 0 <= o * stride + tap - before < size]
    return outputs, [o * stride + tap - before for o in outputs]


def taps_inside(size, kernel, position, stride, before):
    """Kernel taps of one output position that fall inside the input, and the inputs they take."""
    taps = [t for t in range(kernel) if 0 <= position * stride + t - before < size]
    return taps, [position * stride + t - before for t in taps]


def _step(ar, a, b, acc):
    return ar.fma(a, b, acc)


def _float_step(ar, a, b, acc):
    """half(float32(w * d + acc)): two roundings, and the product not rounded on its own."""
    wide = ARITHMETICS["fp32"].fma(a, b, acc)
    return round_value(wide, ar.storage)


def _output_shape(h, w, kh, kw, stride, padding):
    up, down, left, right = padding
    sh, sw = pair(stride)
    return output_size(h, kh, sh, up, down), output_size(w, kw, sw, left, right)


def _direct_forward(ar, x, w, stride, padding, tile=None):
    (cin, h, wd), (cout, _, kh, kw), (up, _, left, _) = x.shape, w.shape, padding
    ho, wo = _output_shape(h, wd, kh, kw, stride, padding)
    acc, part = np.zeros((cout, ho, wo)), part_of(tile, cin * kh * kw)
    for c in range(cin):
        for i in range(kh):
            for j in range(kw):
                if ((c * kh + i) * kw + j) % part == 0:
                    acc = ar.stored(acc)
                (oy, iy), (ox, ix) = reach(h, ho, i, stride, up), reach(wd, wo, j, stride, left)
                at = np.ix_(range(cout), oy, ox)
                tap = x[c][np.ix_(iy, ix)]
                acc[at] = _step(ar, w[:, c, i, j, None, None], tap, acc[at])
    return acc


def _direct_weight_grad(ar, x, dy, kernel, stride, padding, tile=None):
    (cin, h, wd), (cout, ho, wo) = x.shape, dy.shape
    (kh, kw), (up, _, left, _) = kernel, padding
    acc, part = np.zeros((cout, cin, kh, kw)), part_of(tile, ho * wo)
    for i in range(ho):
        for j in range(wo):
            if (i * wo + j) % part == 0:
                acc = ar.stored(acc)
            ty, iy = taps_inside(h, kh, i, stride, up)
            tx, ix = taps_inside(wd, kw, j, stride, left)
            at = np.ix_(range(cout), range(cin), ty, tx)
            window = x[np.ix_(range(cin), iy, ix)]
            acc[at] = _step(ar, dy[:, i, j, None, None, None], window, acc[at])
    return acc


def _direct_input_grad(ar, w, dy, size, stride, padding, tile=None):
    (cout, cin, kh, kw), (up, _, left, _) = w.shape, padding
    _, ho, wo = dy.shape
    ordinary = ar.wide or (stride == 1 and not any(padding))
    step = _step if ordinary else _float_step
    acc, part = np.zeros((cin, *size)), part_of(tile, cout * kh * kw)
    for c in range(cout):
        if c * kh * kw % part == 0:
            acc = ar.stored(acc)
        for i in reversed(range(kh)):
            for j in reversed(range(kw)):
                oy, iy = reach(size[0], ho, i, stride, up)
                ox, ix = reach(size[1], wo, j, stride, left)
                at = np.ix_(range(cin), iy, ix)
                d = dy[c][np.ix_(oy, ox)]
                acc[at] = step(ar, w[c, :, i, j, None, None], d, acc[at])
    return acc


def _channels_first(t, layout):
    """The direct loops know channels first; in HWC they are the same loops on other addresses."""
    return t if layout == "CHW" else np.moveaxis(t, -1, -3)


def _as_laid_out(t, layout):
    return t if layout == "CHW" else np.moveaxis(t, -3, -1)


def conv2d_forward(
    x,
    w,
    bias=None,
    *,
    stride=1,
    padding=0,
    layout="CHW",
    algorithm="im2row",
    kernel="naive",
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    ar, padding = ARITHMETICS[arithmetic], four(padding)
    x, w = ar.load(x), ar.load(w)
    if algorithm == "direct":
        x, w = _channels_first(x, layout), _channels_first(w, layout)
        y = _as_laid_out(_direct_forward(ar, x, w, stride, padding, tile), layout)
    else:
        size = w.shape[2:] if layout == "CHW" else w.shape[1:3]
        rows = im2row(x, size, stride=stride, padding=padding, layout=layout)
        flat = w.reshape(len(w), -1)
        sizes = x.shape[1:] if layout == "CHW" else x.shape[:2]
        ho, wo = _output_shape(*sizes, *size, stride, padding)
        if layout == "CHW":
            y = matmul_values(ar, flat, rows, True, kernel, cores, tile).reshape(-1, ho, wo)
        else:
            y = matmul_values(ar, rows, flat, True, kernel, cores, tile).reshape(ho, wo, -1)
    y = ar.stored(y)
    if bias is not None:
        b = ar.load(bias)
        y = ar.add(y, b[:, None, None] if layout == "CHW" else b)
    return ar.store(y)


def conv2d_weight_grad(
    x,
    dy,
    kernel_size,
    *,
    stride=1,
    padding=0,
    layout="CHW",
    algorithm="im2row",
    kernel="naive",
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    ar, padding, size = ARITHMETICS[arithmetic], four(padding), pair(kernel_size)
    x, dy = ar.load(x), ar.load(dy)
    if algorithm == "direct":
        x, dy = _channels_first(x, layout), _channels_first(dy, layout)
        dw = _direct_weight_grad(ar, x, dy, size, stride, padding, tile)
        return ar.store(_as_laid_out(dw, layout))
    geometry = {"stride": stride, "padding": padding, "layout": layout}
    if layout == "CHW":
        rows = im2row(x, size, **geometry)
        dw = matmul_values(ar, dy.reshape(len(dy), -1), rows, False, kernel, cores, tile)
        return ar.store(dw.reshape(len(dy), len(x), *size))
    columns = im2col(x, size, **geometry)
    dw = matmul_values(
        ar, hwc_to_chw(dy).reshape(dy.shape[2], -1), columns, True, kernel, cores, tile
    )
    return ar.store(dw.reshape(dy.shape[2], *size, x.shape[2]))


def conv2d_bias_grad(
    dy, *, layout="CHW", algorithm="im2row", arithmetic="fp16-fp32acc", cores=8, num_threads=None
):
    ar = ARITHMETICS[arithmetic]
    dy = ar.load(dy)
    channels = dy.reshape(len(dy), -1).T if layout == "CHW" else dy.reshape(-1, dy.shape[2])
    return ar.store(total(ar, channels, channels.shape[1:]))


def conv2d_input_grad(
    w,
    dy,
    input_size,
    *,
    stride=1,
    padding=0,
    layout="CHW",
    algorithm="im2row",
    kernel="naive",
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    ar, padding, size = ARITHMETICS[arithmetic], four(padding), pair(input_size)
    w, dy = ar.load(w), ar.load(dy)
    if algorithm == "direct":
        w, dy = _channels_first(w, layout), _channels_first(dy, layout)
        dx = _direct_input_grad(ar, w, dy, size, stride, padding, tile)
        return ar.store(_as_laid_out(dx, layout))
    k = w.shape[2:] if layout == "CHW" else w.shape[1:3]
    wide = spread(dy if layout == "CHW" else hwc_to_chw(dy), k, size, stride, padding)
    turned = block_transpose(w, layout=layout)
    turned = turned.reshape(len(turned), -1)
    if layout == "CHW":
        rows = im2row(wide, k, layout="CHW")
        return ar.store(
            matmul_values(ar, turned, rows, True, kernel, cores, tile).reshape(-1, *size)
        )
    rows = im2row(chw_to_hwc(wide), k, layout="HWC")
    return ar.store(matmul_values(ar, rows, turned, True, kernel, cores, tile).reshape(*size, -1))


def depthwise_forward(
    x, w, *, stride=1, padding=0, arithmetic="fp16-fp32acc", cores=8, num_threads=None, tile=None
):
    ar, padding = ARITHMETICS[arithmetic], four(padding)
    x, w = ar.load(x), ar.load(w)
    y = [
        _direct_forward(ar, p[None], k[None, None], stride, padding)
        for p, k in zip(x, w, strict=True)
    ]
    return ar.store(np.concatenate(y))


def depthwise_weight_grad(
    x,
    dy,
    kernel_size,
    *,
    stride=1,
    padding=0,
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    ar, padding, size = ARITHMETICS[arithmetic], four(padding), pair(kernel_size)
    x, dy = ar.load(x), ar.load(dy)
    dw = [
        _direct_weight_grad(ar, p[None], d[None], size, stride, padding)
        for p, d in zip(x, dy, strict=True)
    ]
    return ar.store(np.concatenate(dw)[:, 0])


def depthwise_input_grad(
    w,
    dy,
    input_size,
    *,
    stride=1,
    padding=0,
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    """Ordinary steps whatever the stride and padding: no float step is recorded here."""
    ar, padding, size = ARITHMETICS[arithmetic], four(padding), pair(input_size)
    (up, _, left, _), w, dy = padding, ar.load(w), ar.load(dy)
    (channels, kh, kw), (_, ho, wo) = w.shape, dy.shape
    acc = np.zeros((channels, *size))
    for i in reversed(range(kh)):
        for j in reversed(range(kw)):
            (oy, iy), (ox, ix) = (
                reach(size[0], ho, i, stride, up),
                reach(size[1], wo, j, stride, left),
            )
            at, taken = np.ix_(range(channels), iy, ix), np.ix_(range(channels), oy, ox)
            acc[at] = _step(ar, w[:, i, j, None, None], dy[taken], acc[at])
    return ar.store(acc)


__all__ = [n for n in dir() if n.startswith(("conv2d_", "depthwise_"))]
