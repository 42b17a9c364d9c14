"""Data movement: no arithmetic, the bits of every element are kept; padding is +0."""

import numpy as np


def pair(x):
    return tuple(x) if isinstance(x, (tuple, list)) else (x, x)


def four(padding):
    """(up, down, left, right)."""
    return tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4


def output_size(size, kernel, stride, before, after):
    return (size + before + after - kernel) // stride + 1


def transpose(x, axes, **_):
    return np.array(np.transpose(x, axes), order="C")


def chw_to_hwc(x, **_):
    return transpose(x, (1, 2, 0))


def hwc_to_chw(x, **_):
    return transpose(x, (2, 0, 1))


def pad(x, padding, *, layout, **_):
    up, down, left, right = four(padding)
    if layout == "HWC":
        return chw_to_hwc(pad(hwc_to_chw(x), padding, layout="CHW"))
    c, h, w = x.shape
    y = np.zeros((c, h + up + down, w + left + right), x.dtype)
    y[:, up : up + h, left : left + w] = x
    return y


def im2row(x, kernel_size, *, stride=1, padding=0, layout, **_):
    """One row per output pixel: (c, kh, kw) order for CHW, (kh, kw, c) for HWC."""
    if layout == "HWC":
        x = hwc_to_chw(x)
    (kh, kw), padded = pair(kernel_size), pad(x, padding, layout="CHW")
    c, h, w = padded.shape
    sh, sw = pair(stride)
    ho, wo = (h - kh) // sh + 1, (w - kw) // sw + 1
    rows = np.empty((ho, wo, c, kh, kw), x.dtype)
    for i in range(ho):
        for j in range(wo):
            top, left = i * sh, j * sw
            rows[i, j] = padded[:, top : top + kh, left : left + kw]
    if layout == "HWC":
        rows = rows.transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(rows).reshape(ho * wo, -1)


def im2col(x, kernel_size, *, stride=1, padding=0, layout, **_):
    rows = im2row(x, kernel_size, stride=stride, padding=padding, layout=layout)
    return np.array(rows.T, order="C")


def block_transpose(w, *, layout, **_):
    """Weights for the input gradient: in and out channels swapped, kernel turned by 180 degrees."""
    if layout == "HWC":
        return np.array(w[:, ::-1, ::-1, :].transpose(3, 1, 2, 0), order="C")
    return np.array(w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3), order="C")


def spread(dy, kernel_size, input_size, stride, padding):
    """The output gradient (CHW), spread by the stride, with zeros around it.

    A stride-1, unpadded unroll of the result has one row per input pixel. The border above and to
    the left is k - 1 - padding (a padding beyond k - 1 crops instead); below and to the right it is
    whatever the input's size asks for, rows that the stride never reached included.
    """
    (kh, kw), (h, w), (up, _, left, _) = pair(kernel_size), pair(input_size), four(padding)
    (sh, sw), (c, ho, wo) = pair(stride), dy.shape
    out = np.zeros((c, h + kh - 1, w + kw - 1), dy.dtype)
    for i in range(ho):
        for j in range(wo):
            y, x = kh - 1 - up + i * sh, kw - 1 - left + j * sw
            if 0 <= y < out.shape[1] and 0 <= x < out.shape[2]:
                out[:, y, x] = dy[:, i, j]
    return out
