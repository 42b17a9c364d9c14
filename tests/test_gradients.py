"""Gradients against finite differences in fp32: here closeness is the point.

Each primitive's gradient of L = sum(r * y) is compared with central differences of L, evaluated in
float64 from the binary32 outputs. The layers are linear in each argument, so a large step costs
nothing; the other functions are smooth around the chosen points.
"""

import numpy as np
import pytest

from pyodl import primitives as P

COMMON = {"arithmetic": "fp32", "cores": 4}


def draw(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def differences(loss, x, step):
    """Central differences of a function of one array."""
    gradient = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i], down[i] = x[i] + step, x[i] - step
        moved = float(up[i]) - float(down[i])
        gradient[i] = (loss(up) - loss(down)) / moved
    return gradient


def close(got, loss, x, step=0.5, tolerance=2e-4):
    want = differences(loss, x, step)
    assert got.shape == x.shape
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * np.abs(want).max())


def weighted(r):
    return lambda y: float(np.sum(r.astype(np.float64) * y))


@pytest.mark.parametrize("path", ["CHW-im2row", "HWC-im2row", "CHW-direct"])
@pytest.mark.parametrize("stride, padding", [(1, 0), (1, 1), (2, 1), (2, (0, 1, 2, 1)), (3, 2)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 3), (1, 1)])
def test_conv2d(path, stride, padding, kernel):
    layout, algorithm = path.split("-")
    size, cin, cout = (7, 6), 2, 3
    hwc = layout == "HWC"
    x = draw(*((*size, cin) if hwc else (cin, *size)), seed=1)
    w = draw(*((cout, *kernel, cin) if hwc else (cout, cin, *kernel)), seed=2)
    bias = draw(cout, seed=3)
    named = {"layout": layout, "algorithm": algorithm, **COMMON}
    call = {"stride": stride, "padding": padding, **named}
    y = P.conv2d_forward(x, w, bias, **call)
    r = draw(*y.shape, seed=4)
    total = weighted(r)
    dw = P.conv2d_weight_grad(x, r, kernel, **call)
    close(dw, lambda v: total(P.conv2d_forward(x, v, bias, **call)), w)
    db = P.conv2d_bias_grad(r, **named)
    close(db, lambda v: total(P.conv2d_forward(x, w, v, **call)), bias)
    dx = P.conv2d_input_grad(w, r, size, **call)
    close(dx, lambda v: total(P.conv2d_forward(v, w, bias, **call)), x)


@pytest.mark.parametrize("stride, padding", [(1, 0), (1, 1), (2, 1), (2, (0, 1, 2, 1))])
def test_depthwise(stride, padding):
    x, w = draw(3, 7, 6, seed=1), draw(3, 3, 2, seed=2)
    call = {"stride": stride, "padding": padding, **COMMON}
    r = draw(*P.depthwise_forward(x, w, **call).shape, seed=4)
    total = weighted(r)
    dw = P.depthwise_weight_grad(x, r, (3, 2), **call)
    close(dw, lambda v: total(P.depthwise_forward(x, v, **call)), w)
    dx = P.depthwise_input_grad(w, r, (7, 6), **call)
    close(dx, lambda v: total(P.depthwise_forward(v, w, **call)), x)


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_pointwise(layout):
    x = draw(*((3, 4, 5) if layout == "CHW" else (4, 5, 3)), seed=1)
    w, call = draw(2, 3, seed=2), {"layout": layout, **COMMON}
    r = draw(*P.pointwise_forward(x, w, **call).shape, seed=4)
    total = weighted(r)
    dw = P.pointwise_weight_grad(x, r, **call)
    close(dw, lambda v: total(P.pointwise_forward(x, v, **call)), w)
    dx = P.pointwise_input_grad(w, r, **call)
    close(dx, lambda v: total(P.pointwise_forward(v, w, **call)), x)


def test_linear():
    x, w, bias, r = draw(5, seed=1), draw(4, 5, seed=2), draw(4, seed=3), draw(4, seed=4)
    total = weighted(r)
    dw = P.linear_weight_grad(x, r, **COMMON)
    close(dw, lambda v: total(P.linear_forward(x, v, bias, **COMMON)), w)
    db = P.linear_bias_grad(r, **COMMON)
    close(db, lambda v: total(P.linear_forward(x, w, v, **COMMON)), bias)
    dx = P.linear_input_grad(w, r, **COMMON)
    close(dx, lambda v: total(P.linear_forward(v, w, bias, **COMMON)), x)


def away_from_zero(x):
    return (x + np.copysign(0.2, x)).astype(np.float32)


def test_relu():
    x, r = away_from_zero(draw(20, seed=1)), draw(20, seed=2)
    total = weighted(r)
    dx = P.relu_backward(x, r, **COMMON)
    close(dx, lambda v: total(P.relu_forward(v, **COMMON)), x, step=0.1)
    dx = P.leaky_relu_backward(x, r, 0.25, **COMMON)
    close(dx, lambda v: total(P.leaky_relu_forward(v, 0.25, **COMMON)), x, step=0.1)


def test_sigmoid():
    x, r = draw(20, seed=1), draw(20, seed=2)
    total = weighted(r)
    dx = P.sigmoid_backward(P.sigmoid_forward(x, **COMMON), r, **COMMON)
    close(dx, lambda v: total(P.sigmoid_forward(v, **COMMON)), x, step=0.01, tolerance=1e-3)


@pytest.mark.parametrize("shape", [(6,), (3, 6)])
def test_softmax(shape):
    x, r = draw(*shape, seed=1), draw(*shape, seed=2)
    total = weighted(r)
    dx = P.softmax_backward(P.softmax_forward(x, exp="expf", **COMMON), r, **COMMON)

    def loss(v):
        return total(P.softmax_forward(v, exp="expf", **COMMON))

    close(dx, loss, x, step=0.01, tolerance=1e-3)


@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
def test_pools(stride):
    x = np.random.default_rng(1).permutation(2 * 7 * 6).reshape(2, 7, 6).astype(np.float32)
    call = ((3, 2), stride)
    r = draw(*P.avg_pool_forward(x, *call, **COMMON).shape, seed=2)
    total = weighted(r)
    dx = P.avg_pool_backward(r, (7, 6), *call, **COMMON)
    close(dx, lambda v: total(P.avg_pool_forward(v, *call, **COMMON)), x)
    dx = P.max_pool_backward(x, r, *call, **COMMON)
    close(dx, lambda v: total(P.max_pool_forward(v, *call, **COMMON)), x, step=0.25)


def test_instance_norm():
    x, gamma, beta = draw(2, 4, 5, seed=1), draw(2, seed=2), draw(2, seed=3)
    r = draw(2, 4, 5, seed=4)
    total = weighted(r)

    def loss(x, gamma, beta):
        return total(P.instance_norm_forward(x, gamma, beta, **COMMON)[0])

    _, mean, std = P.instance_norm_forward(x, gamma, beta, **COMMON)
    dgamma, dbeta = P.instance_norm_param_grad(x, r, mean, std, **COMMON)
    close(dgamma, lambda v: loss(x, v, beta), gamma)
    close(dbeta, lambda v: loss(x, gamma, v), beta)
    dx = P.instance_norm_input_grad(x, r, gamma, mean, std, std * std, **COMMON)
    close(dx, lambda v: loss(v, gamma, beta), x, step=0.02, tolerance=2e-3)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_smooth_losses(loss):
    output, target = draw(8, seed=1), np.abs(draw(8, seed=2))
    target /= target.sum()
    gradient = getattr(P, loss + "_grad")(output, target, arithmetic="fp32")

    def value(v):
        return float(getattr(P, loss)(v, target, arithmetic="fp32"))

    close(gradient, value, output, step=0.02, tolerance=1e-3)


def test_l1():
    """Away from the kink; the recorded gradient is never zero."""
    target = draw(8, seed=2)
    output = (target + away_from_zero(draw(8, seed=1))).astype(np.float32)
    gradient = P.l1_grad(output, target, arithmetic="fp32")
    close(gradient, lambda v: float(P.l1(v, target, arithmetic="fp32")), output, step=0.1)


def test_berhu():
    """The element with the largest error sets the threshold and is left out: c moves with it."""
    target, error = np.zeros(6, np.float32), np.float32([0.05, -0.1, 0.6, -0.7, 0.8, 2.0])
    gradient = P.berhu_grad(error, target, arithmetic="fp32")

    def loss(v):
        return float(P.berhu(np.append(v, error[-1:]), target, arithmetic="fp32"))

    close(gradient[:-1], loss, error[:-1].copy(), step=0.02, tolerance=1e-3)
    assert gradient[-1] > 0
