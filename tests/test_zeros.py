"""Terms with a zero operand may be left out where every sum is rounded: never with other bits."""

import numpy as np
import pytest
from agreement import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import FLOAT16
from strategies import KINDS, filled, kernels, seeds, threads

from pyodl._kernels import ISA
from pyodl.arithmetic import ARITHMETICS
from pyodl.primitives._steps import step_of

pytestmark = pytest.mark.usefixtures("every_operation_is_shared")

arithmetics = st.sampled_from(["fp16-fma", "fp16-muladd"])
densities = st.sampled_from([0.0, 0.1, 0.4, 0.7])
kinds = st.sampled_from(KINDS)
tiles = st.none() | st.tuples(
    st.integers(1, 100), st.integers(1, 40), st.none() | st.integers(1, 20)
)
conv_tiles = st.none() | st.tuples(
    st.integers(1, 8), st.sampled_from([1, 8, 16, 40]), st.none() | st.integers(9, 40)
)


def sparse(shape, kind, seed, density):
    """An array of a kind, with zeros of either sign in place of all but ``density`` of it."""
    rng = np.random.default_rng(seed + 1)
    zero = rng.choice(np.array([0.0, -0.0], np.float16), shape)
    return np.where(rng.random(shape) < density, filled(shape, FLOAT16, kind, seed), zero)


@settings(max_examples=400)
@given(
    arithmetics, st.integers(1, 40), st.sampled_from([1, 7, 8, 9, 31, 511, 512, 513, 1030]),
    st.integers(1, 90), kinds, kinds, seeds, densities, threads,
)  # fmt: skip
def test_matmul(arithmetic, n, k, m, kind, other, seed, density, num_threads):
    a, b = sparse((n, k), kind, seed, density), filled((k, m), FLOAT16, other, seed + 2)
    agree("matmul", a, b, arithmetic=arithmetic, cores=8, num_threads=num_threads)


@settings(max_examples=200)
@given(
    arithmetics, st.integers(1, 150), st.integers(1, 30), st.integers(1, 40), st.booleans(),
    kernels, tiles, kinds, kinds, seeds, densities, threads,
)  # fmt: skip
def test_matmul_in_any_order_and_tiles(
    arithmetic, n, k, m, transpose_b, kernel, tile, kind, other, seed, density, num_threads
):
    a = sparse((n, k), kind, seed, density)
    b = filled((m, k) if transpose_b else (k, m), FLOAT16, other, seed + 2)
    agree("matmul", a, b, transpose_b=transpose_b, kernel=kernel, tile=tile,
          arithmetic=arithmetic, cores=8, num_threads=num_threads)  # fmt: skip


@settings(max_examples=150)
@given(
    arithmetics, st.sampled_from(["CHW", "HWC"]), st.sampled_from([1, 3, 8, 12, 17, 64]),
    st.sampled_from([1, 7, 8, 16, 31, 33, 64]), st.sampled_from([(1, 0), (3, 1), (2, 0)]),
    st.integers(1, 3), st.integers(3, 11), conv_tiles, kinds, kinds, seeds, densities,
    threads,
)  # fmt: skip
def test_conv2d(
    arithmetic, layout, c_in, c_out, kernel, stride, size, tile, kind, other, seed, density,
    num_threads,
):  # fmt: skip
    taps, padding = kernel
    out = (size + 2 * padding - taps) // stride + 1

    def shaped(channels, side):
        return (channels, side, side) if layout == "CHW" else (side, side, channels)

    x = sparse(shaped(c_in, size), kind, seed, density)
    dy = sparse(shaped(c_out, out), kind, seed + 3, density)
    w_shape = (c_out, c_in, taps, taps) if layout == "CHW" else (c_out, taps, taps, c_in)
    w = filled(w_shape, FLOAT16, other, seed + 2)
    common = {
        "stride": stride, "padding": padding, "layout": layout, "tile": tile,
        "arithmetic": arithmetic, "cores": 8, "num_threads": num_threads,
    }  # fmt: skip
    agree("conv2d_forward", x, w, None, **common)
    agree("conv2d_weight_grad", x, dy, (taps, taps), **common)
    agree("conv2d_input_grad", w, dy, (size, size), **common)


@settings(max_examples=200)
@given(
    arithmetics, st.sampled_from(["CHW", "HWC"]), st.sampled_from([1, 8, 15, 40, 64]),
    st.sampled_from([1, 7, 8, 24, 64]), st.integers(1, 9), st.integers(1, 9), conv_tiles, kinds,
    kinds, seeds, densities, threads,
)  # fmt: skip
def test_pointwise(
    arithmetic, layout, c_in, c_out, height, width, tile, kind, other, seed, density, num_threads
):
    def shaped(channels):
        return (channels, height, width) if layout == "CHW" else (height, width, channels)

    x = sparse(shaped(c_in), kind, seed, density)
    dy = sparse(shaped(c_out), kind, seed + 3, density)
    w = filled((c_out, c_in), FLOAT16, other, seed + 2)
    common = {
        "layout": layout, "tile": tile, "arithmetic": arithmetic, "cores": 8,
        "num_threads": num_threads,
    }  # fmt: skip
    agree("pointwise_forward", x, w, **common)
    agree("pointwise_weight_grad", x, dy, **common)
    agree("pointwise_input_grad", w, dy, **common)


def test_terms_are_listed_where_every_sum_is_rounded():
    listed = {name for name, arithmetic in ARITHMETICS.items() if step_of(arithmetic).lists_terms}
    assert listed == (set() if ISA == "avx512_fp16" else {"fp16-fma", "fp16-muladd"})


TINY = 2.0**-24


@pytest.mark.parametrize("columns", [8, 16, 24, 32, 48, 64])
@pytest.mark.parametrize("zero, bits", [(0.0, 0x0000), (-0.0, 0x8000)])
def test_a_zero_product_makes_positive_zero_of_a_sum_that_underflowed(columns, zero, bits):
    """-0 + +0 is +0, so that a product with zero is not always without effect."""
    a = np.array([[TINY, zero, zero]] * 9, np.float16)
    b = np.full((3, columns), 1.0, np.float16)
    b[0] = -TINY
    c = agree("matmul", a, b, arithmetic="fp16-fma")
    assert (c.view(np.uint16) == bits).all()


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "fp16-muladd"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("k", [0, 7, 11])
@pytest.mark.parametrize("tile", [None, (9, 8)])
def test_zero_times_infinity_stays_a_nan(arithmetic, value, k, tile):
    a = np.zeros((9, 12), np.float16)
    a[:, 3] = 1
    b = np.ones((12, 40), np.float16)
    b[k, 17] = value
    c = agree("matmul", a, b, arithmetic=arithmetic, tile=tile)
    assert np.isnan(c[:, 17]).all()
    assert (np.delete(c, 17, axis=1) == 1).all()
