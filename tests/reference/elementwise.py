"""Activations, softmax, residual sum and SGD."""

import numpy as np

from .arith import ARITHMETICS, FLOAT32, decode, expf, quiet, round_value
from .reduce import blocks, chain, maximum, total


@quiet
def relu_forward(x, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    return np.where(ARITHMETICS[arithmetic].load(x) > 0, x, np.zeros_like(x))


@quiet
def relu_backward(x, dy, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    return np.where(ARITHMETICS[arithmetic].load(x) > 0, dy, np.zeros_like(dy))


def leaky_relu_forward(x, slope, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    return leaky_relu_backward(x, x, slope, arithmetic=arithmetic)


@quiet
def leaky_relu_backward(x, dy, slope, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    scaled = ar.store(ar.mul(ar.scalar(slope), ar.load(dy)))
    return np.where(ar.load(x) > 0, dy, scaled)


def sigmoid_forward(x, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    s = ar.round(ar.in_float32().add(1.0, expf(-ar.load(x))))
    return ar.store(ar.div(1.0, s))


def sigmoid_backward(y, dy, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    f32, y = ar.in_float32(), ar.load(y)
    slope = ar.round(f32.mul(y, f32.sub(1.0, y)))
    return ar.store(ar.mul(ar.load(dy), slope))


@quiet
def fast_exp(ar, x):
    """The bit trick: a binary32 whose bits are a linear function of x. Result in binary32."""
    scale, offset = round_value(np.float64([12102203.17, 1064986823.01]), FLOAT32)
    t = ar.in_float32().fma(scale, x, offset)
    t = np.where(t < 8388608.0, 0.0, np.where(t > 2139095040.0, 2139095040.0, t))
    bits = np.where(np.isnan(t), 0xFFFFFFFF, np.where(np.isnan(t), 0, t).astype(np.int64))
    return decode(bits.astype(np.uint32), FLOAT32)


def _softmax_fast(ar, x, cores):
    """The maximum starts at the lowest finite value, so a NaN never becomes the maximum."""
    largest = maximum(x, np.full(x.shape[1:], -ar.storage.largest))
    e = ar.round(fast_exp(ar, ar.sub(x, largest)))
    return ar.div(e, total(ar, e, x.shape[1:]))


def _softmax_expf(ar, x, cores):
    """Each row is shared by the cores: a maximum and a partial sum per block, in core order."""
    parts = [x[b] for b in blocks(len(x), cores) if b.start < b.stop]
    maxima = [maximum(part[1:], part[0]) for part in parts]
    largest = maximum(maxima[1:], maxima[0])
    exponentials = [ar.round(expf(ar.sub(part, largest))) for part in parts]
    sums = [total(ar, e, x.shape[1:]) for e in exponentials]
    return ar.div(np.concatenate(exponentials), total(ar, sums, x.shape[1:]))


@quiet
def softmax_forward(x, exp="expf", *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    softmax = {"fast": _softmax_fast, "expf": _softmax_expf}[exp]
    columns = ar.load(x).reshape(-1, x.shape[-1]).T
    return ar.store(softmax(ar, columns, cores).T.reshape(x.shape))


def softmax_backward(y, dy, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    y_, dy_ = (ar.load(v).reshape(-1, v.shape[-1]).T for v in (y, dy))
    s = chain(ar, zip(dy_, y_, strict=True), y_.shape[1:])
    return ar.store(ar.mul(ar.sub(dy_, s), y_).T.reshape(y.shape))


def add(a, b, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    ar = ARITHMETICS[arithmetic]
    return ar.store(ar.add(ar.load(a), ar.load(b)))


def sgd(w, grad, lr, weight_decay=0.0, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    """-> (new weights, new gradient); the gradient changes only when there is weight decay."""
    ar = ARITHMETICS[arithmetic]
    w_, g, new = ar.load(w), ar.load(grad), grad.copy()
    decay = ar.scalar(weight_decay)
    if decay != 0:
        g = ar.stored(ar.fma(decay, w_, g))
        new = ar.store(g)
    return ar.store(ar.fma(-ar.scalar(lr), g, w_)), new
