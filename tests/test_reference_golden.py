"""The reference against the recorded firmware bits, so that the other tests may trust it."""

from fractions import Fraction

import numpy as np
import pytest
import reference
from golden_cases import IEEE, arrays, differing, ieee_differences, results
from golden_runs import differing_in_run, run_names
from reference import FLOAT32, arith


@pytest.mark.parametrize("family, flavour", results(), ids=map("-".join, results()))
def test_has_the_firmware_bits(family, flavour):
    wrong, compared = differing(reference, results()[family, flavour])
    assert not wrong, f"{len(wrong)} of {compared}: {wrong[:10]}"
    assert compared


@pytest.mark.parametrize("name, flavour", run_names(), ids=map("-".join, run_names()))
def test_has_the_firmware_bits_of_a_training_run(name, flavour):
    wrong, compared = differing_in_run(reference, name, flavour)
    assert not wrong, f"{len(wrong)} of {compared}: {wrong[:10]}"
    assert compared


@pytest.mark.parametrize("operation", IEEE)
def test_has_the_ieee_bits(operation):
    assert ieee_differences(reference.formats, operation).size == 0


@pytest.mark.parametrize("flavour, key", [("fp16-fma", "a221"), ("fp16-muladd", "a222")])
def test_fast_exponential_has_the_firmware_bits(flavour, key):
    data, ar = arrays("activations.npz"), reference.ARITHMETICS[flavour]
    x = ar.load(data["a214"].view(np.float16))
    got = ar.store(reference.fast_exp(ar, x)).view(np.uint16)
    assert np.array_equal(got, data[key])


def _rounded(exact, fmt):
    """Round a Fraction by integer arithmetic alone: the definition, to check the vector code."""
    if exact == 0:
        return 0.0
    exponent = fmt.emin
    while abs(exact) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - fmt.precision + 1)
    value = round(exact / unit) * unit  # Python rounds a Fraction half to even
    return (
        float(value) if abs(value) <= Fraction(fmt.largest) else np.inf * (1 if exact > 0 else -1)
    )


@pytest.mark.parametrize("fmt", reference.FORMATS.values(), ids=lambda f: f.name)
def test_operations_agree_with_fractions(fmt):
    rng = np.random.default_rng(11)
    bits = rng.integers(0, 1 << (8 * fmt.bits.itemsize), (3, 600), dtype=np.uint64)
    a, b, c = np.where(np.isfinite(x := reference.decode(bits.astype(fmt.bits), fmt)), x, 1.5)
    c[::2] = reference.round_value(-a * b * (1 + 2.0**-9), fmt)[::2]  # cancellation
    c[~np.isfinite(c)] = fmt.largest
    b[b == 0] = 1.0
    ar = arith.Arithmetic("test", fmt, fmt, True)
    for got, operation in [
        (ar.add(a, c), lambda x, y, z: x + z),
        (ar.sub(a, c), lambda x, y, z: x - z),
        (ar.mul(a, b), lambda x, y, z: x * y),
        (ar.div(a, b), lambda x, y, z: x / y),
        (ar.fma(a, b, c), lambda x, y, z: x * y + z),
    ]:
        want = [_rounded(operation(*map(Fraction, v)), fmt) for v in zip(a, b, c, strict=True)]
        assert np.array_equal(got, want)


@pytest.mark.parametrize("function, exact", [("expf", "exp"), ("logf", "ln")])
def test_transcendental_functions_are_correctly_rounded(function, exact):
    """Against 60 digits, random arguments and some that lie next to a tie of binary32."""
    rng = np.random.default_rng(12)
    x = rng.normal(0, 20, 500).astype(np.float32)
    if function == "logf":
        x = np.abs(x)
    x = np.concatenate([x, np.float32([2.0**-24, 1.0, 88.72283, 1 + 2.0**-23, 2.0**-126])])
    got = getattr(reference, function)(x.astype(np.float64))
    with arith.localcontext() as context:
        context.prec = 60
        want = [arith._decimal_to_float32(getattr(arith.Decimal(float(v)), exact)()) for v in x]
    assert np.array_equal(got, want)
    assert np.array_equal(reference.round_value(got, FLOAT32), got)


def test_exponential_uses_decimals_where_float64_cannot_tell():
    """exp(-2^-25) = 1 - 2^-25 + 2^-51: a tie but for the last term, which float64 may get wrong."""
    assert reference.expf(np.float64(-(2.0**-25))) == 1.0
    assert reference.expf(np.float64(-(2.0**-25) - 2.0**-48)) == 1 - 2.0**-24
