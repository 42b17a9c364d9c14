"""For the tests of those who compare with pyodl: a pytest plug-in, loaded where it is installed.

`assert_bits_equal` compares two tensors, and the fixture `export_vectors` writes vectors, C headers
included, into the test's temporary directory::

    def test_our_convolution(export_vectors):
        exported = export_vectors(
            "conv2d_forward", (16, 32, 32), out_channels=16, kernel_size=3, padding=1,
            kernel="simd_4x8", arithmetic="fp16-fma",
        )
        ours = run_on_the_simulator(exported.directory)
        assert_bits_equal(ours, exported.vectors.tensors["y"].values)
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from pyodl.golden import Case, StepCase, Vectors

__all__ = ["Exported", "assert_bits_equal", "export_vectors"]


def assert_bits_equal(actual: "np.ndarray", expected: "np.ndarray", name: str = "") -> None:
    """Assert that two tensors have the same dtype, the same shape and the same bits.

    NaNs are compared as bits, too, and +0 is not -0.

    Parameters
    ----------
    actual, expected : array
        Of float16, bfloat16 or float32; or both of uint16 or uint32, which are taken as bits of
        which the format is not known.
    name : str
        For the message.

    Raises
    ------
    AssertionError
        If they differ. The message has the first element that does: its place, both bits in
        hexadecimal, both values and their distance in ULP, and how many elements differ in all.
    TypeError
        If ``expected`` has another dtype than these.

    Examples
    --------
    >>> import numpy as np
    >>> assert_bits_equal(np.float16([1.0, 2.0]), np.float16([1.0, 2.001]))
    Traceback (most recent call last):
        ...
    AssertionError: 1 of 2 elements differ
      first at [1]
      actual   0x4000  2
      expected 0x4001  2.0019531
      distance 1 ULP
    """
    import numpy as np  # noqa: PLC0415 - pytest loads this module at every start

    from pyodl.formats import FORMATS  # noqa: PLC0415

    __tracebackhide__ = True
    got, want = np.asarray(actual), np.asarray(expected)
    if want.dtype.name not in (*FORMATS, "uint16", "uint32"):
        raise TypeError(f"expected has dtype {want.dtype}; it must be one of {', '.join(FORMATS)}")
    subject = f"{name}: " if name else ""
    if got.dtype != want.dtype:
        raise AssertionError(f"{subject}dtype is {got.dtype}, expected {want.dtype}")
    if got.shape != want.shape:
        raise AssertionError(f"{subject}shape is {got.shape}, expected {want.shape}")
    differs = _bits(got) != _bits(want)
    if differs.any():
        raise AssertionError(subject + _first_difference(got, want, differs))


def _bits(array: "np.ndarray") -> "np.ndarray":
    """Return the bits as unsigned integers."""
    from pyodl.formats import to_bits  # noqa: PLC0415

    return array if array.dtype.kind == "u" else to_bits(array)


def _first_difference(got: "np.ndarray", want: "np.ndarray", differs: "np.ndarray") -> str:
    """Describe the first difference in C order."""
    import numpy as np  # noqa: PLC0415

    from pyodl.formats import ulp_distance  # noqa: PLC0415

    place = np.unravel_index(int(np.argmax(differs)), differs.shape)
    lines = [f"{np.count_nonzero(differs)} of {differs.size} elements differ"]
    if place:
        lines.append(f"first at [{', '.join(str(int(i)) for i in place)}]")
    digits = 2 * want.dtype.itemsize
    for label, array in (("actual  ", got), ("expected", want)):
        value = "" if array.dtype.kind == "u" else f"  {_value(array[place])}"
        lines.append(f"{label} 0x{int(_bits(array)[place]):0{digits}x}{value}")
    if want.dtype.kind != "u":
        distance = int(ulp_distance(got[place], want[place]))
        far = distance == 1 << (8 * want.dtype.itemsize)
        lines.append(f"distance {'none: one is NaN' if far else f'{distance} ULP'}")
    return "\n  ".join(lines)


def _value(number: Any) -> str:
    """Return a number with as many digits as tell it from its neighbours."""
    import numpy as np  # noqa: PLC0415

    with np.errstate(invalid="ignore"):  # a signalling NaN
        return f"{float(number):.8g}"


@dataclass(frozen=True)
class Exported:
    """Vectors on disk.

    Parameters
    ----------
    directory : Path
        With ``vectors.npz``, ``manifest.json`` and C headers; see `pyodl.golden.export`.
    vectors : Vectors
        What is in it.
    """

    directory: Path
    vectors: "Vectors"


@pytest.fixture
def export_vectors(tmp_path: Path) -> "Callable[..., Exported]":
    """Return a function that writes vectors below ``tmp_path``.

    It takes a `pyodl.golden.Case`, a `pyodl.golden.StepCase`, or the arguments of
    `pyodl.golden.case_of`, and returns an `Exported`. Each call has a directory of its own.
    """
    from pyodl import golden  # noqa: PLC0415

    count = 0

    def export(what: "str | Case | StepCase", *size: Any, **parameters: Any) -> Exported:
        nonlocal count
        if isinstance(what, str):
            what = golden.case_of(what, *size, **parameters)
        elif size or parameters:
            raise TypeError("a case is given alone; case.replace() changes it")
        directory = tmp_path / f"vectors{count}"
        count += 1
        return Exported(directory, golden.write(directory, what))

    return export
