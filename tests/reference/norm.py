"""Instance normalisation, one mean and deviation per channel of a CHW tensor."""

import numpy as np

from .arith import ARITHMETICS, quiet
from .reduce import chain, total


def _column(v):
    return v[:, None]


@quiet
def _statistics(ar, x):
    """Mean and standard deviation of each row, in the working format."""
    count = ar.round(np.float64(x.shape[1]))
    inverse = ar.div(1.0, count)
    mean = ar.mul(total(ar, x.T, len(x)), inverse)
    square = ar.mul(chain(ar, zip(x.T, x.T, strict=True), len(x)), inverse)
    away = ar.sub(x, _column(mean))
    slow = chain(ar, ((t, inverse) for t in ar.mul(away, away).T), len(x))
    variance = np.where(square == np.inf, slow, ar.fma(-mean, mean, square))
    epsilon = ar.scalar(1e-10)  # 0 in binary16
    variance = ar.add(variance, epsilon)
    variance = np.where(variance < 0, epsilon, variance)
    return mean, ar.round(ar.in_float32().sqrt(variance))


def instance_norm_forward(
    x, gamma, beta, *, mean=None, std=None, arithmetic="fp16-fp32acc", cores=8, num_threads=None
):
    ar = ARITHMETICS[arithmetic]
    flat = ar.load(x).reshape(len(x), -1)
    if mean is None:
        mean, std = map(ar.store, _statistics(ar, flat))
    m, s = ar.load(mean), ar.load(std)
    scale = ar.div(ar.load(gamma), s)
    y = ar.fma(_column(scale), ar.sub(flat, _column(m)), _column(ar.load(beta)))
    return ar.store(y).reshape(x.shape), mean, std


def instance_norm_param_grad(
    x, dy, mean, std, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None
):
    ar = ARITHMETICS[arithmetic]
    flat, d = (ar.load(v).reshape(len(v), -1) for v in (x, dy))
    away = ar.sub(flat, _column(ar.load(mean)))
    dgamma = ar.div(chain(ar, zip(d.T, away.T, strict=True), len(x)), ar.load(std))
    return ar.store(dgamma), ar.store(total(ar, d.T, len(x)))


def instance_norm_input_grad(
    x, dy, gamma, mean, std, var, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None
):
    ar = ARITHMETICS[arithmetic]
    flat, d = (ar.load(v).reshape(len(v), -1) for v in (x, dy))
    gamma, mean, std, var = (ar.load(v) for v in (gamma, mean, std, var))
    count = ar.round(np.float64(flat.shape[1]))
    away = ar.sub(flat, _column(mean))
    gs = total(ar, -d.T, len(x))
    gp = chain(ar, zip(-away.T, d.T, strict=True), len(x))
    g = ar.fma(_column(gp), ar.div(away, _column(var)), _column(gs))
    g = ar.fma(count, d, g)
    dx = ar.div(ar.mul(g, _column(gamma)), _column(ar.mul(count, std)))
    return ar.store(dx).reshape(x.shape)
