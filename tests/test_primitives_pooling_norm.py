"""Pooling and instance normalisation, bit for bit."""

from agreement import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import ARITHMETICS
from strategies import environments, filled, pools, seeds, small, threads


@settings(max_examples=200)
@given(environments(), pools(), threads)
def test_average_pool(environment, pool, num_threads):
    common, array = environment
    common["num_threads"] = num_threads
    channels, size, kernel, stride, out = pool
    agree("avg_pool_forward", array(channels, *size), kernel, stride, **common)
    agree("avg_pool_backward", array(channels, *out), size, kernel, stride, **common)


@settings(max_examples=200)
@given(environments(), pools(), threads)
def test_max_pool(environment, pool, num_threads):
    common, array = environment
    common["num_threads"] = num_threads
    channels, size, kernel, stride, out = pool
    x = array(channels, *size)
    agree("max_pool_forward", x, kernel, stride, **common)
    agree("max_pool_backward", x, array(channels, *out), kernel, stride, **common)


def test_large_windows():
    """More elements than binary16 counts exactly: the count is rounded before the division."""
    for arithmetic, ar in ARITHMETICS.items():
        x = filled((2, 47, 53), ar.storage, "normal", 1)
        agree("avg_pool_forward", x, (47, 53), (47, 53), arithmetic=arithmetic)
        dy = filled((2, 1, 1), ar.storage, "normal", 2)
        agree("avg_pool_backward", dy, (47, 53), (47, 53), 1, arithmetic=arithmetic)


images = st.one_of(st.tuples(small, small, small), st.tuples(small, st.just(7), st.just(9)))


@settings(max_examples=300)
@given(environments(), images, st.booleans(), threads)
def test_instance_norm_forward(environment, shape, given_statistics, num_threads):
    common, array = environment
    x, gamma, beta = array(*shape), array(shape[0]), array(shape[0])
    extra = {"mean": array(shape[0]), "std": array(shape[0])} if given_statistics else {}
    agree("instance_norm_forward", x, gamma, beta, num_threads=num_threads, **extra, **common)


@settings(max_examples=200)
@given(environments(), images, threads)
def test_instance_norm_backward(environment, shape, num_threads):
    common, array = environment
    common["num_threads"] = num_threads
    x, dy = array(*shape), array(*shape)
    gamma, mean, std, var = (array(shape[0]) for _ in range(4))
    agree("instance_norm_input_grad", x, dy, gamma, mean, std, var, **common)
    agree("instance_norm_param_grad", x, dy, mean, std, **common)


@given(st.sampled_from(list(ARITHMETICS)), seeds)
def test_instance_norm_of_squares_that_overflow(arithmetic, seed):
    """The sum of squares is infinite, the variance is not: the slow path of the firmware."""
    ar = ARITHMETICS[arithmetic]
    scale = ar.storage.largest**0.5
    x = ar.store(scale * (1 + 0.25 * ar.load(filled((2, 5, 6), ar.storage, "normal", seed))))
    gamma, beta = (filled((2,), ar.storage, "normal", seed + i) for i in (1, 2))
    agree("instance_norm_forward", x, gamma, beta, arithmetic=arithmetic)
