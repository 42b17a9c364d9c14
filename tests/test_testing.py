"""The pytest plug-in: what an assertion says, and vectors in a suite of its own."""

import ml_dtypes
import numpy as np
import pytest

from pyodl.formats import from_bits
from pyodl.testing import assert_bits_equal

pytest_plugins = ["pytester"]

SMALLEST = "0x00000001  1.4012985e-45"


def message(actual, expected, **options):
    with pytest.raises(AssertionError) as caught:
        assert_bits_equal(actual, expected, **options)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.uint16])
def test_equal_bits_pass(dtype):
    x = np.arange(12).reshape(3, 4).astype(dtype)
    assert_bits_equal(x, x.copy())
    assert_bits_equal(x.T, np.ascontiguousarray(x.T))
    assert_bits_equal(x[0, 1], x[0, 1])


def test_equal_nans_pass():
    nans = from_bits([0x7E00, 0xFE01, 0x7D01], "float16")
    assert_bits_equal(nans, nans.copy())


def test_the_first_mismatch_is_shown():
    want = np.ones((2, 3), np.float16)
    got = want.copy()
    got[1, 0] = 1.002
    got[1, 2] = -1
    assert message(got, want) == (
        "2 of 6 elements differ\n"
        "  first at [1, 0]\n"
        "  actual   0x3c02  1.0019531\n"
        "  expected 0x3c00  1\n"
        "  distance 2 ULP"
    )
    assert message(got, want, name="dw").startswith("dw: 2 of 6 elements differ\n")


@pytest.mark.parametrize(
    "bits, format, lines",
    [
        ((0x8000, 0x0000), "float16", ("0x8000  -0", "0x0000  0", "0 ULP")),
        ((0x7E00, 0x3C00), "float16", ("0x7e00  nan", "0x3c00  1", "none: one is NaN")),
        ((0x7E00, 0xFE00), "float16", ("0x7e00  nan", "0xfe00  nan", "0 ULP")),
        ((0x7C00, 0x7BFF), "float16", ("0x7c00  inf", "0x7bff  65504", "1 ULP")),
        ((0x3F80, 0x3F81), "bfloat16", ("0x3f80  1", "0x3f81  1.0078125", "1 ULP")),
        ((0x80000001, 1), "float32", ("0x80000001  -1.4012985e-45", SMALLEST, "2 ULP")),
    ],
)
def test_special_numbers_are_shown(bits, format, lines):
    got, want = (from_bits(np.array([pattern]), format) for pattern in bits)
    shown = message(got, want).splitlines()[2:]
    labels = ("  actual   ", "  expected ", "  distance ")
    assert shown == [label + line for label, line in zip(labels, lines, strict=True)]


def test_bits_and_scalars_are_shown_too():
    assert message(np.array([1, 2], np.uint16), np.array([1, 3], np.uint16)) == (
        "1 of 2 elements differ\n  first at [1]\n  actual   0x0002\n  expected 0x0003"
    )
    assert "first" not in message(np.float16(1), np.float16(2))


def test_other_dtypes_and_shapes_are_named():
    one = np.ones(3, np.float16)
    assert message(one.astype(np.float32), one) == "dtype is float32, expected float16"
    assert message(one[:2], one, name="y") == "y: shape is (2,), expected (3,)"
    with pytest.raises(TypeError, match="expected has dtype float64; it must be one of float16"):
        assert_bits_equal(np.ones(3), np.ones(3))


SUITE = """
import json
import pytest
from pyodl import golden
from pyodl.testing import assert_bits_equal

def test_exports(export_vectors):
    how = dict(out_channels=4, kernel_size=3, arithmetic="fp16-fma", seed=5)
    exported = export_vectors("conv2d_forward", (3, 6, 6), **how)
    again = golden.read(exported.directory)
    assert again.case == golden.case_of("conv2d_forward", (3, 6, 6), **how)
    y = exported.vectors.tensors["y"].values
    assert_bits_equal(again.case.run()["y"], y)
    other = export_vectors(golden.StepCase("tiny_cnn"))
    assert other.directory != exported.directory
    assert (other.directory / "tiny_cnn_step0.h").exists()
    with pytest.raises(TypeError, match="a case is given alone"):
        export_vectors(again.case, seed=3)

def test_differs(export_vectors):
    exported = export_vectors("relu_forward", (5,), data="ties")
    y = exported.vectors.tensors["y"].values
    assert_bits_equal(-y, y, "relu")
"""


def test_a_suite_exports_vectors_and_sees_what_differs(pytester):
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess("-p", "pyodl.testing", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*AssertionError: relu: 5 of 5 elements differ", "*first at [[]0[]]"]
    )
    result.stdout.no_fnmatch_line("*raise AssertionError*")  # the traceback ends in the test


def test_the_plug_in_is_declared():
    from importlib.metadata import entry_points

    declared = [entry.value for entry in entry_points(group="pytest11", name="pyodl.testing")]
    assert declared in ([], ["pyodl.testing"])  # none: the package is not installed
