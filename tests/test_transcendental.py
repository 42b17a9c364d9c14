"""expf and logf of the kernels are correctly rounded; tools/transcendental.py tries every argument.

Where binary64 is far from a tie of binary32, NumPy's function decides. The arguments whose exact
values come nearest to a tie are listed with their results, computed with mpmath in 200 bits.
"""

import importlib

import numpy as np
import pytest
import reference
from reference import BFLOAT16, FLOAT16

from pyodl import _kernels

FUNCTIONS = {"exp": np.exp, "log": np.log}
NEAR_TIES = {
    "exp": [
        (0xC16912CD, 0x34FD331B),
        (0xBBF0EDF1, 0x3F7E1FE9),
        (0xBAE0E25C, 0x3F7F8FA7),
        (0xB3000000, 0x3F800000),
        (0x377EFF81, 0x3F800080),
        (0x40315B33, 0x417FA47D),
        (0x4001B249, 0x40F2CD14),
        (0x39C6BE5B, 0x3F800C6D),
    ],
    "log": [
        (0x65D890D3, 0x4254D1F9),
        (0x4C5D65A5, 0x418F034B),
        (0x4D604EBE, 0x419A352C),
        (0x66A8C860, 0x42595E46),
        (0x1F116AB8, 0xC233B53E),
        (0x41178FEB, 0x400FE5E7),
        (0x3C413D3A, 0xC08E158F),
        (0x6F31A8EC, 0x42845A89),
    ],
}
SPECIAL = {  # -0, +0, inf, -inf, NaN, signalling NaN, -1, largest, smallest
    "exp": [0x3F800000, 0x3F800000, 0x7F800000, 0, 0x7FC00000, 0x7FC00000, 0x3EBC5AB2,
            0x7F800000, 0x3F800000],
    "log": [0xFF800000, 0xFF800000, 0x7F800000, 0x7FC00000, 0x7FC00000, 0x7FC00000, 0x7FC00000,
            0x42B17218, 0xC2CE8ED0],
}  # fmt: skip
SPECIAL_ARGUMENTS = [0x80000000, 0, 0x7F800000, 0xFF800000, 0xFFC12345, 0x7F800001, 0xBF800000,
                     0x7F7FFFFF, 1]  # fmt: skip


def kernels_of(isa):
    package = "pyodl._kernels" if isa == "baseline" else f"pyodl._kernels.{isa}"
    return importlib.import_module(f"{package}._scalar").KERNELS


BUILDS = [pytest.param(kernels_of(isa), id=isa) for isa in _kernels.available_isas()]


def apply(kernels, name, x, *sizes):
    x, y = np.ascontiguousarray(x, np.float32), np.empty(x.size, np.float32)
    _kernels.Operation(name, kernels[name], [x], [y], [x.size, *sizes]).run()
    return y


def from_bits(bits):
    return np.array(bits, np.uint32).view(np.float32)


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_near_ties_and_special_values(kernels, name):
    arguments, results = zip(*NEAR_TIES[name], strict=True)
    got = apply(kernels, f"{name}_float", from_bits([*arguments, *SPECIAL_ARGUMENTS]))
    assert [hex(b) for b in got.view(np.uint32)] == [hex(b) for b in (*results, *SPECIAL[name])]


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("format", [FLOAT16, BFLOAT16], ids=lambda f: f.name)
def test_every_value_of_sixteen_bits(format, name, kernels):
    """No value is left out: the reference takes decimals where binary64 cannot tell."""
    x = reference.decode(np.arange(1 << 16, dtype=np.uint16), format)
    want = getattr(reference, f"{name}f")(x)
    with np.errstate(invalid="ignore"):
        got = apply(kernels, f"{name}_float", x.astype(np.float32))
    bits = np.where(np.isnan(want), np.uint32(0x7FC00000), want.astype(np.float32).view(np.uint32))
    assert np.array_equal(got.view(np.uint32), bits)


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_is_correctly_rounded(kernels, name):
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    stride = np.arange(0, 1 << 32, 1009, dtype=np.int64).astype(np.uint32).view(np.float32)
    x = np.concatenate([halves, stride, np.linspace(-104.5, 89.5, 100_000, dtype=np.float32)])
    with np.errstate(all="ignore"):
        value = FUNCTIONS[name](x.astype(np.float64))
        want = value.astype(np.float32)
        # An error of 8 units of binary64 changes nothing but next to a tie.
        slack = value * 2.0**-49
        clear = (value + slack).astype(np.float32) == (value - slack).astype(np.float32)
    clear |= ~np.isfinite(value)
    assert clear.mean() > 0.999
    got = apply(kernels, f"{name}_float", x)
    same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
    assert not np.count_nonzero(clear & ~same)


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("fused", [0, 1])
def test_fast_exp(kernels, fused):
    """In binary64 the fused sum is exact, or so small beside the offset that it cannot matter."""
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    scale, offset = np.float32(12102203.17), np.float32(1064986823.01)
    with np.errstate(invalid="ignore", over="ignore"):
        product = scale.astype(np.float64) * x  # exact
        t = np.float32(product + np.float64(offset)) if fused else np.float32(product) + offset
        t = np.where(t < 8388608, np.float32(0), np.minimum(t, np.float32(2139095040)))
        want = np.where(np.isnan(x), 0xFFFFFFFF, np.nan_to_num(t).astype(np.int64))
    got = apply(kernels, "fast_exp_float", x, fused)
    assert np.array_equal(got.view(np.uint32), want.astype(np.uint32))
