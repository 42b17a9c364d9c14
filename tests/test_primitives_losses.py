"""Losses and their gradients, bit for bit."""

import numpy as np
import pytest
from agreement import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import ARITHMETICS
from strategies import environments, sizes, small, threads

LOSSES = ["cross_entropy", "mse", "l1", "berhu"]
shapes = st.one_of(st.tuples(st.integers(1, 6)), st.tuples(sizes))


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=150)
@given(environments(with_cores=False), shapes, st.booleans(), threads)
def test_loss(loss, environment, shape, close, num_threads):
    common, array = environment
    common["num_threads"] = num_threads
    output = array(*shape)
    target = output.copy() if close else array(*shape)
    agree(loss, output, target, **common)
    agree(loss + "_grad", output, target, **common)


@given(environments(with_cores=False), st.tuples(small, small, small))
def test_regression_losses_of_images(environment, shape):
    common, array = environment
    output, target = array(*shape), array(*shape)
    for loss in LOSSES[1:]:
        agree(loss, output, target, **common)
        agree(loss + "_grad", output, target, **common)


@given(environments(with_cores=False), shapes, st.floats(0, 4, width=32))
def test_berhu_threshold(environment, shape, alpha):
    common, array = environment
    output, target = array(*shape), array(*shape)
    agree("berhu", output, target, alpha=alpha, **common)
    agree("berhu_grad", output, target, alpha=alpha, **common)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_cross_entropy_of_one_hot_targets(arithmetic):
    ar, rng = ARITHMETICS[arithmetic], np.random.default_rng(8)
    for scale in (0.1, 1, 10, 100):
        for label in range(10):
            logits = ar.store(rng.normal(0, scale, 10))
            target = ar.store(np.arange(10) == label)
            agree("cross_entropy", logits, target, arithmetic=arithmetic)
            agree("cross_entropy_grad", logits, target, arithmetic=arithmetic)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_cross_entropy_is_negated_after_its_last_rounding(arithmetic):
    ar = ARITHMETICS[arithmetic]
    sign = 1 << (8 * ar.storage.bits.itemsize - 1)
    nan = agree("cross_entropy", ar.store([np.nan]), ar.store([1.0]), arithmetic=arithmetic)
    zero = agree("cross_entropy", ar.store([0.0]), ar.store([1.0]), arithmetic=arithmetic)
    assert np.asarray(nan).view(ar.storage.bits) == sign | ar.storage.canonical_nan
    assert np.asarray(zero).view(ar.storage.bits) == sign
