"""Losses over all elements of a tensor and their gradients."""

import numpy as np

from .arith import ARITHMETICS, expf, logf, quiet
from .reduce import chain, maximum, total


def _pair(ar, output, target):
    return ar.load(output).reshape(-1), ar.load(target).reshape(-1)


def _mean(ar, n):
    """One over the number of elements: a binary32 quotient, then a value of the storage format."""
    return ar.round(ar.in_float32().div(1.0, np.float64(n)))


def _stored_scalar(ar, value):
    return ar.store(value)[()]


def _softmax_parts(ar, z):
    f32, largest = ar.in_float32(), maximum(z[1:], z[0])
    e = expf(f32.sub(z, largest))
    return f32, largest, e, total(f32, e, ())


@quiet
def cross_entropy(logits, target, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    z, y = _pair(ar, logits, target)
    f32, largest, _, total_e = _softmax_parts(ar, z)
    lse = f32.add(logf(total_e), largest)
    dot, sum_y = chain(f32, zip(z, y, strict=True), ()), total(f32, y, ())
    value = ar.store(f32.fma(-lse, sum_y, dot))
    # Negated after the last rounding: a flip of the sign bit, of NaN and zero too.
    sign = ar.storage.bits.type(1 << (8 * ar.storage.bits.itemsize - 1))
    return (value.view(ar.storage.bits) ^ sign).view(ar.storage.dtype)[()]


@quiet
def cross_entropy_grad(logits, target, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    z, y = _pair(ar, logits, target)
    f32, _, e, total_e = _softmax_parts(ar, z)
    sum_y = total(f32, y, ())
    sum_y = 1.0 if sum_y == 0 else sum_y
    p = f32.mul(e, f32.div(1.0, total_e))
    return ar.store(f32.fma(p, sum_y, -y)).reshape(logits.shape)


def mse(output, target, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    d = ar.sub(*_pair(ar, output, target))
    return _stored_scalar(ar, chain(ar, zip(ar.mul(_mean(ar, d.size), d), d, strict=True), ()))


def mse_grad(output, target, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    d = ar.sub(*_pair(ar, output, target))
    return ar.store(ar.in_float32().mul(2 * _mean(ar, d.size), d)).reshape(output.shape)


def l1(output, target, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    d, mean = np.abs(ar.sub(*_pair(ar, output, target))), _mean(ar, output.size)
    return _stored_scalar(ar, chain(ar, ((mean, v) for v in d), ()))


@quiet
def l1_grad(output, target, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    """Never zero: equality gives +mean, and a NaN -mean."""
    ar = ARITHMETICS[arithmetic]
    d, mean = ar.sub(*_pair(ar, output, target)), _mean(ar, output.size)
    return ar.store(np.where(d >= 0, mean, -mean)).reshape(output.shape)


@quiet
def _threshold(ar, d, alpha):
    """c = alpha * max |d|; the maximum starts at +0, so NaNs are passed over."""
    return ar.mul(ar.scalar(alpha), maximum(np.abs(d), 0.0))


@quiet
def berhu(output, target, *, alpha=0.2, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    d = ar.sub(*_pair(ar, output, target))
    c, away = _threshold(ar, d, alpha), np.abs(d)
    square = ar.fma(away, away, -ar.mul(c, c))
    terms = np.where(away < c, away, ar.div(square, ar.mul(2.0, c)))
    return _stored_scalar(ar, ar.mul(total(ar, terms, ()), _mean(ar, d.size)))


@quiet
def berhu_grad(output, target, *, alpha=0.2, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    d = ar.sub(*_pair(ar, output, target))
    c, mean = _threshold(ar, d, alpha), _mean(ar, d.size)
    near = np.where(d > 0, mean, np.where(d < 0, -mean, 0.0))
    far = ar.div(ar.mul(mean, d), c)
    return ar.store(np.where(np.abs(d) < c, near, far)).reshape(output.shape)
