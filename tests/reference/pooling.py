"""Average and maximum pooling of CHW tensors; no padding."""

import numpy as np

from .arith import ARITHMETICS, quiet
from .layout import pair
from .reduce import total


def _windows(size, kernel, stride):
    """Slices of the windows in (ho, wo) order, and the output's size."""
    (h, w), (kh, kw), (sh, sw) = pair(size), pair(kernel), pair(stride)
    ho, wo = (h - kh) // sh + 1, (w - kw) // sw + 1
    at = [
        (slice(i * sh, i * sh + kh), slice(j * sw, j * sw + kw))
        for i in range(ho)
        for j in range(wo)
    ]
    return at, (ho, wo)


def avg_pool_forward(
    x, kernel_size, stride, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None
):
    ar = ARITHMETICS[arithmetic]
    values, (kh, kw) = ar.load(x), pair(kernel_size)
    windows, out = _windows(x.shape[1:], kernel_size, stride)
    count = ar.round(np.float64(kh * kw))
    elements = np.stack([values[:, i, j].reshape(len(x), -1) for i, j in windows])
    sums = total(ar, np.moveaxis(elements, 2, 0), elements.shape[:2])
    return ar.store(ar.div(sums, count).T.reshape(-1, *out))


def avg_pool_backward(
    dy, input_size, kernel_size, stride, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None
):
    ar = ARITHMETICS[arithmetic]
    (kh, kw), gradient = pair(kernel_size), np.zeros((len(dy), *pair(input_size)))
    share = ar.div(ar.load(dy), ar.round(np.float64(kh * kw))).reshape(len(dy), -1)
    windows, _ = _windows(input_size, kernel_size, stride)
    for n, (i, j) in enumerate(windows):
        gradient[:, i, j] = ar.add(gradient[:, i, j], share[:, n, None, None])
    return ar.store(gradient)


@quiet
def _first_maxima(elements):
    """Index along the last axis: the first element, replaced only by a strictly greater one."""
    best = np.zeros(elements.shape[:-1], int)
    largest = elements[..., 0]
    for k in range(1, elements.shape[-1]):
        greater = elements[..., k] > largest
        best = np.where(greater, k, best)
        largest = np.where(greater, elements[..., k], largest)
    return best


def max_pool_forward(
    x, kernel_size, stride, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None
):
    values = ARITHMETICS[arithmetic].load(x)
    windows, out = _windows(x.shape[1:], kernel_size, stride)
    y = np.empty((len(x), len(windows)), x.dtype)
    for n, (i, j) in enumerate(windows):
        best = _first_maxima(values[:, i, j].reshape(len(x), -1))
        y[:, n] = x[:, i, j].reshape(len(x), -1)[np.arange(len(x)), best]
    return y.reshape(-1, *out)


def max_pool_backward(
    x, dy, kernel_size, stride, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None
):
    ar = ARITHMETICS[arithmetic]
    values, dy = ar.load(x), ar.load(dy).reshape(len(x), -1)
    gradient = np.zeros(x.shape)
    windows, _ = _windows(x.shape[1:], kernel_size, stride)
    for n, (i, j) in enumerate(windows):
        elements = values[:, i, j].reshape(len(x), -1)
        mask = np.arange(elements.shape[1]) == _first_maxima(elements)[:, None]
        mask = mask.astype(np.float64).reshape(gradient[:, i, j].shape)
        gradient[:, i, j] = ar.fma(mask, dy[:, n, None, None], gradient[:, i, j])
    return ar.store(gradient)
