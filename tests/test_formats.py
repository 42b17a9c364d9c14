"""Scalar operations of the three formats against recorded IEEE vectors and the reference."""

import numpy as np
import pytest
import reference
from agreement import assert_same
from golden_cases import IEEE, ieee_differences
from hypothesis import given
from hypothesis import strategies as st
from reference import FORMATS
from strategies import filled, grid, kinds, seeds

from pyodl import formats

BINARY = ["add", "sub", "mul", "div"]
sixteen_bits = pytest.mark.parametrize("name", ["float16", "bfloat16"])


@pytest.mark.parametrize("operation", IEEE)
def test_has_the_ieee_bits(operation):
    wrong = ieee_differences(formats, operation)
    assert wrong.size == 0, f"{wrong.size} differ, first operands at {wrong[:5]}"


def _every(name):
    return np.arange(65536, dtype=np.uint16).view(FORMATS[name].dtype)


@sixteen_bits
@pytest.mark.parametrize("operation", BINARY)
def test_every_pair_of_a_grid(operation, name):
    values = grid(FORMATS[name])
    assert np.unique(values.view(np.uint16)).size == 4096
    for chunk in np.split(values, 32):
        a, b = (np.ascontiguousarray(v) for v in np.broadcast_arrays(chunk[:, None], values))
        want = getattr(reference.formats, operation)(a, b, name)
        assert_same(getattr(formats, operation)(a, b, name), want, operation)


@sixteen_bits
def test_every_value_of_sixteen_bits(name):
    x = _every(name)
    assert_same(formats.sqrt(x, name), reference.formats.sqrt(x, name), "sqrt")
    for target in FORMATS:
        want = reference.formats.round_to(x, target)
        assert_same(formats.round_to(x, target), want, f"{name} -> {target}")
    assert_same(formats.from_bits(formats.to_bits(x), name), x, "from_bits(to_bits)")
    assert np.array_equal(formats.to_bits(x), np.arange(65536))


@pytest.mark.parametrize("name", FORMATS)
def test_rounding_around_every_tie(name):
    """float64 values on, just below and just above the midpoint of neighbouring values."""
    fmt = FORMATS[name]
    rng = np.random.default_rng(1)
    bits = np.arange(65535) if fmt.bits == np.uint16 else rng.integers(0, 2**32 - 1, 65535)
    low = reference.decode(bits.astype(fmt.bits), fmt)
    high = reference.decode((bits + 1).astype(fmt.bits), fmt)
    with np.errstate(all="ignore"):
        middle = low / 2 + high / 2
        x = np.concatenate([middle, np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf)])
    x = np.concatenate([x, [1e308, -1e308, 5e-324, -5e-324, np.inf, -np.inf, np.nan, -0.0]])
    x = np.concatenate([x, [fmt.largest, fmt.largest * (1 + 2.0**-30)]])
    assert_same(formats.round_to(x, name), reference.formats.round_to(x, name), "round_to")
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    want = reference.formats.round_to(single, name)
    assert_same(formats.round_to(single, name), want, "round_to from float32")


@pytest.mark.parametrize("name", FORMATS)
def test_fused_multiply_add_near_ties(name):
    """c cancels most of a * b, or leaves the sum next to the midpoint of two values."""
    fmt, n = FORMATS[name], 200_000
    a, b = (filled((n,), fmt, kind, seed) for kind, seed in (("mixed", 1), ("normal", 2)))
    any_c, rng = filled((n,), fmt, "mixed", 3), np.random.default_rng(4)
    with np.errstate(all="ignore"):
        product = reference.values_of(a, fmt) * reference.values_of(b, fmt)
        scale = 2.0 ** rng.integers(-2 * fmt.precision - 2, 2 * fmt.precision + 2, n)
        shift = rng.choice([-1.0, 1.0, 1.5, -0.5], n) * scale
        near = reference.array_of(product * shift, fmt)
        cancel = reference.array_of(-product, fmt)
    for c in (any_c, near, cancel):
        want = reference.formats.fma(a, b, c, name)
        assert_same(formats.fma(a, b, c, name), want, "fma")


@given(st.sampled_from(list(FORMATS)), kinds, kinds, kinds, seeds)
def test_every_operation(name, kind_a, kind_b, kind_c, seed):
    fmt = FORMATS[name]
    a, b, c = (filled((300,), fmt, k, seed + i) for i, k in enumerate((kind_a, kind_b, kind_c)))
    for operation in BINARY:
        want = getattr(reference.formats, operation)(a, b, name)
        assert_same(getattr(formats, operation)(a, b, name), want, operation)
    assert_same(formats.fma(a, b, c, name), reference.formats.fma(a, b, c, name), "fma")
    assert_same(formats.sqrt(a, name), reference.formats.sqrt(a, name), "sqrt")
    for target in FORMATS:
        want = reference.formats.round_to(a, target)
        assert_same(formats.round_to(a, target), want, f"{name} -> {target}")


@pytest.mark.parametrize("name", FORMATS)
def test_ulp_distance(name):
    fmt = FORMATS[name]
    one = np.array([0x3C00, 0x3F80, 0x3F800000][list(FORMATS).index(name)], fmt.bits)
    x = np.array([one, one, one, 1, 0], fmt.bits).view(fmt.dtype)
    sign = fmt.bits.type(1 << (8 * fmt.bits.itemsize - 1))
    y = np.array([one, one + 1, one - 3, 1 | sign, 5], fmt.bits).view(fmt.dtype)
    assert formats.ulp_distance(x, y).tolist() == [0, 1, 3, 2, 5]
    assert formats.ulp_distance(y, x).tolist() == [0, 1, 3, 2, 5]
