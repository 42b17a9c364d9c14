"""Activations, softmax, residual sums and SGD, bit for bit."""

import numpy as np
import pytest
from agreement import agree, assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import ARITHMETICS, expf, logf
from strategies import environments, filled, sizes, small, threads

from pyodl import primitives

shapes = st.one_of(st.tuples(sizes), st.tuples(small, small), st.tuples(small, small, small))
scalars = st.one_of(
    st.sampled_from([0.01, 0.0, 1.0, 0.1, -0.5, 1e-9, 6e4, 1e-41]), st.floats(-2, 2, width=32)
)


@settings(max_examples=200)
@given(environments(), shapes, scalars, threads)
def test_activations(environment, shape, slope, num_threads):
    common, array = environment
    common["num_threads"] = num_threads
    x, dy = array(*shape), array(*shape)
    agree("relu_forward", x, **common)
    agree("relu_backward", x, dy, **common)
    agree("leaky_relu_forward", x, slope, **common)
    agree("leaky_relu_backward", x, dy, slope, **common)
    agree("sigmoid_forward", x, **common)
    agree("sigmoid_backward", x, dy, **common)


@settings(max_examples=300)
@given(
    environments(),
    st.one_of(st.tuples(sizes), st.tuples(st.integers(1, 9), sizes)),
    st.sampled_from(["expf", "fast"]),
    threads,
)
def test_softmax(environment, shape, exp, num_threads):
    common, array = environment
    common["num_threads"] = num_threads
    agree("softmax_forward", array(*shape), exp=exp, **common)
    agree("softmax_backward", array(*shape), array(*shape), **common)


@settings(max_examples=200)
@given(environments(), shapes, threads)
def test_add(environment, shape, num_threads):
    common, array = environment
    agree("add", array(*shape), array(*shape), num_threads=num_threads, **common)


@settings(max_examples=200)
@given(environments(), shapes, scalars, scalars, threads)
def test_sgd(environment, shape, lr, decay, num_threads):
    common, array = environment
    w, grad = array(*shape), array(*shape)
    agree("sgd", w, grad, lr, weight_decay=decay, num_threads=num_threads, **common)
    agree("sgd", w, grad, lr, num_threads=num_threads, **common)


def _all_values(ar):
    """Every 16-bit pattern; for binary32, as many patterns of every exponent and sign."""
    if ar.storage.bits == np.uint16:
        return np.arange(65536, dtype=np.uint16).view(ar.storage.dtype)
    drawn = np.random.default_rng(5).integers(0, 2**32, 65536, dtype=np.uint64)
    return drawn.astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_every_value_through_every_unary_function(arithmetic):
    ar, common = ARITHMETICS[arithmetic], {"arithmetic": arithmetic}
    x = _all_values(ar)
    dy = np.roll(x, 21845)
    agree("relu_forward", x, **common)
    agree("leaky_relu_forward", x, 0.01, **common)
    agree("sigmoid_forward", x, **common)
    agree("sigmoid_backward", x, dy, **common)
    agree("relu_backward", x, dy, **common)
    agree("leaky_relu_backward", x, dy, 0.01, **common)
    rows = np.stack([x, np.zeros_like(x), ar.store(np.ones(x.size))], 1)
    agree("softmax_forward", rows, exp="fast", **common)
    agree("softmax_forward", rows, exp="expf", **common, cores=2)


def _near_ties(function, x, keep):
    """Those x for which the exact result lies closest to a tie of binary32."""
    bits = function(x).view(np.int64)
    distance = np.abs((bits & ((1 << 29) - 1)) - (1 << 28))  # 29 bits are rounded away
    return x[np.argsort(distance)[:keep]]


def test_expf_is_correctly_rounded():
    """softmax([0, x]) is expf(x) itself in fp32 once x < -18: the sum stays 1."""
    x = -np.random.default_rng(6).uniform(18, 87, 1 << 20).astype(np.float32)
    x = np.concatenate([_near_ties(np.exp, x.astype(np.float64), 20000), x[:20000]])
    x = np.concatenate([x, np.linspace(-104.5, -87, 20000)]).astype(np.float32)
    rows = np.stack([np.zeros_like(x), x], 1)
    got = primitives.softmax_forward(rows, exp="expf", arithmetic="fp32", cores=1)
    want = expf(x.astype(np.float64)).astype(np.float32)
    assert_same(got[:, 1].copy(), want, "expf")


def test_logf_is_correctly_rounded():
    """The cross-entropy of [0, x] with target [1, 0] is logf(1 + expf(x)) in fp32."""
    x = np.random.default_rng(7).uniform(-17, 0, 1 << 18)
    x = x.astype(np.float32).astype(np.float64)
    total = ARITHMETICS["fp32"].add(1.0, expf(x))
    chosen = np.argsort(np.abs((np.log(total).view(np.int64) & ((1 << 29) - 1)) - (1 << 28)))
    x, total = x[chosen[:10000]], total[chosen[:10000]]
    target = np.array([1, 0], np.float32)
    got = [
        primitives.cross_entropy(np.array([0, v], np.float32), target, arithmetic="fp32") for v in x
    ]
    assert_same(np.array(got, np.float32), logf(total).astype(np.float32), "logf")


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("kind", ["special", "anybits", "tiny"])
def test_updates_of_whole_registers(arithmetic, kind):
    """NaNs with payloads among them, which the processor's own steps would keep."""
    storage = ARITHMETICS[arithmetic].storage
    w, g = (filled((200,), storage, kind, seed) for seed in (1, 2))
    for decay in (0.0, 0.1):
        agree("sgd", w.copy(), g, 0.01, weight_decay=decay, arithmetic=arithmetic)
