"""All pairs of a 4,096-value grid through the kernels of the primitives.

`test_formats` compares every pair with exact arithmetic for the operations of `pyodl.formats`. The
primitives compute on vector registers with code of their own; here it is held against those.
"""

import numpy as np
import pytest
from agreement import assert_same
from reference import ARITHMETICS
from strategies import grid

from pyodl import formats
from pyodl import primitives as P

SIXTEEN_BITS = [name for name, ar in ARITHMETICS.items() if ar.storage.bits == np.uint16]
every_arithmetic = pytest.mark.parametrize("arithmetic", SIXTEEN_BITS)


def pairs(arithmetic):
    """-> name of the format, column and row of the grid: together, every pair of its values."""
    storage = ARITHMETICS[arithmetic].storage
    values = grid(storage)
    return storage.name, values.reshape(-1, 1).copy(), values.reshape(1, -1).copy()


def everywhere(column, row):
    """-> both spread over all pairs."""
    return tuple(np.ascontiguousarray(x) for x in np.broadcast_arrays(column, row))


def plus_zero(x, name):
    """An accumulator that began with +0 after one value: -0 has become +0."""
    return formats.add(x, formats.round_to(0.0, name), name)


@every_arithmetic
def test_sums(arithmetic):
    """With a binary32 accumulator too there is one rounding that counts."""
    name, column, row = pairs(arithmetic)
    a, b = everywhere(column, row)
    assert_same(P.add(a, b, arithmetic=arithmetic), formats.add(column, row, name), "add")


def multiply_add(a, b, c, arithmetic):
    """a * b + (1 * c + 0), rounded as the arithmetic rounds and stored."""
    name = ARITHMETICS[arithmetic].storage.name
    if arithmetic == "fp16-muladd":
        return formats.add(formats.mul(a, b, name), plus_zero(c, name), name)
    if arithmetic.endswith("fma"):
        return formats.fma(a, b, plus_zero(c, name), name)
    a, b, c = (formats.round_to(x, "float32") for x in (a, b, c))  # exact
    return formats.round_to(formats.fma(a, b, plus_zero(c, "float32"), "float32"), name)


@every_arithmetic
def test_products(arithmetic):
    """K = 1: naive writes the rounded product, the other kernels add it to +0."""
    name, column, row = pairs(arithmetic)
    got = P.matmul(column, row, kernel="naive", arithmetic=arithmetic)
    assert_same(got, formats.mul(column, row, name), "naive")
    got = P.matmul(column, row, kernel="naive_m", arithmetic=arithmetic)
    zero = formats.round_to(0.0, name)
    assert_same(got, multiply_add(column, row, zero, arithmetic), "naive_m")


@every_arithmetic
def test_multiply_adds(arithmetic):
    """K = 2, the first product is 1 * c: every pair meets a c drawn from the grid."""
    name, column, row = pairs(arithmetic)
    c = np.random.default_rng(1).permutation(column)
    one = np.full_like(row, formats.round_to(1.0, name))
    got = P.matmul(np.hstack([c, column]), np.vstack([one, row]), arithmetic=arithmetic)
    assert_same(got, multiply_add(column, row, c, arithmetic), "naive")


@every_arithmetic
def test_multiply_adds_of_bounded_values(arithmetic):
    """The same of values of which no sum comes near to overflow, which may be rounded sooner."""
    name, column, row = pairs(arithmetic)
    few = abs(column.astype(np.float32)) <= 90
    column = column[few].reshape(-1, 1)
    row = np.ascontiguousarray(column.T)
    c = np.random.default_rng(2).permutation(column)
    one = np.full_like(row, formats.round_to(1.0, name))
    got = P.matmul(np.hstack([c, column]), np.vstack([one, row]), arithmetic=arithmetic)
    assert_same(got, multiply_add(column, row, c, arithmetic), "naive")


@every_arithmetic
def test_gradients_of_relu_and_leaky_relu(arithmetic):
    """Where x > 0 the bits of dy pass, a NaN's payload with them."""
    name, column, row = pairs(arithmetic)
    x, dy = everywhere(column, row)
    passes = column.astype(np.float32) > 0
    zero = formats.round_to(0.0, name)
    got = P.relu_backward(x, dy, arithmetic=arithmetic)
    assert_same(got, np.where(passes, row, zero), "relu_backward")
    scaled = formats.mul(formats.round_to(0.01, name), row, name)
    got = P.leaky_relu_backward(x, dy, 0.01, arithmetic=arithmetic)
    assert_same(got, np.where(passes, row, scaled), "leaky_relu_backward")


@every_arithmetic
def test_gradient_of_sigmoid(arithmetic):
    """dy * (y * (1 - y)), of which 1 - y and the inner product are float in all arithmetics."""
    name, column, row = pairs(arithmetic)
    y, dy = (formats.round_to(x, "float32") for x in (column, row))  # exact
    slope = formats.mul(y, formats.sub(np.ones_like(y), y, "float32"), "float32")
    if arithmetic.endswith("fp32acc"):
        want = formats.round_to(formats.mul(slope, dy, "float32"), name)
    else:
        want = formats.mul(formats.round_to(slope, name), row, name)
    got = P.sigmoid_backward(*everywhere(column, row), arithmetic=arithmetic)
    assert_same(got, want, "sigmoid_backward")
