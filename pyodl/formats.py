"""The storage formats: one table of facts, bits and values, and IEEE operations on arrays.

Every operation here rounds once, to nearest with ties to even, keeps subnormals, and writes the
RISC-V canonical NaN (docs/numerics.md, section 1). None converts its operands: an operation in a
format takes arrays of that format, and only `round_to` moves values from one format to another.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyodl._kernels import bind

__all__ = [
    "BFLOAT16",
    "FLOAT16",
    "FLOAT32",
    "FORMATS",
    "Format",
    "add",
    "div",
    "fma",
    "from_bits",
    "get",
    "mul",
    "round_to",
    "sqrt",
    "sub",
    "to_bits",
    "ulp_distance",
]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format with subnormals, infinities and NaN.

    Parameters
    ----------
    name : str
        Name in this package and in NumPy.
    mcu_name : str
        Name of the C type on the microcontroller.
    bits : int
        Width of the storage.
    precision : int
        Bits of the significand, the leading one included.
    emin, emax : int
        Exponents of the smallest normal and of the largest finite number, as in 1.f x 2^e.
    canonical_nan : int
        The bits that an operation writes when its result is NaN.
    code : int
        Number that the kernels take (``enum pyodl_format``).
    """

    name: str
    mcu_name: str
    bits: int
    precision: int
    emin: int
    emax: int
    canonical_nan: int
    code: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype.

        Raises
        ------
        ImportError
            If it is bfloat16's and ml_dtypes is not installed.
        """
        return _dtype(self.name)

    @property
    def bits_dtype(self) -> np.dtype[Any]:
        """The unsigned integer dtype of the same width."""
        return np.dtype(f"uint{self.bits}")


FLOAT16 = Format("float16", "float16", 16, 11, -14, 15, 0x7E00, 0)
BFLOAT16 = Format("bfloat16", "float16alt", 16, 8, -126, 127, 0x7FC0, 1)
FLOAT32 = Format("float32", "float", 32, 24, -126, 127, 0x7FC00000, 2)
FORMATS = {format.name: format for format in (FLOAT16, BFLOAT16, FLOAT32)}


@cache
def _dtype(name: str) -> np.dtype[Any]:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        from ml_dtypes import bfloat16  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ImportError(
            "bfloat16 needs the package ml_dtypes: pip install 'pyodl[bfloat16]'"
        ) from error
    dtype: np.dtype[Any] = np.dtype(bfloat16)
    return dtype


def get(format: str | Format) -> Format:
    """Return the format called ``format``.

    Raises
    ------
    TypeError
        If it is neither a string nor a `Format`.
    ValueError
        If no format has that name.
    """
    if isinstance(format, Format):
        return format
    if not isinstance(format, str):
        raise TypeError(f"format must be a string, not {type(format).__name__}")
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; it may be one of {', '.join(FORMATS)}")
    return FORMATS[format]


def _format_of(name: str, array: NDArray[Any]) -> Format:
    format = FORMATS.get(array.dtype.name)
    if format is None or not array.dtype.isnative:
        raise TypeError(f"{name} has dtype {array.dtype}; it must be one of {', '.join(FORMATS)}")
    return format


def to_bits(x: ArrayLike) -> NDArray[Any]:
    """Return the bits of ``x`` as unsigned integers.

    Parameters
    ----------
    x : array of float16, bfloat16 or float32

    Returns
    -------
    ndarray of uint16 or uint32, of the shape of ``x``

    Raises
    ------
    TypeError
        If ``x`` has another dtype.
    """
    array = np.asarray(x)
    bits = array.astype(array.dtype).view(_format_of("x", array).bits_dtype)
    return bits[()]


def from_bits(bits: ArrayLike, format: str | Format) -> NDArray[Any]:
    """Return the values that have the given bits.

    Parameters
    ----------
    bits : array of unsigned integers or int
        Integers of any type whose values fit the format's width.
    format : {"float16", "bfloat16", "float32"}

    Returns
    -------
    ndarray in the format, of the shape of ``bits``

    Raises
    ------
    TypeError
        If ``bits`` are no integers.
    ValueError
        If ``bits`` do not fit, or there is no such format.
    """
    target = get(format)
    array = np.asarray(bits)
    if array.dtype.kind not in "iu":
        raise TypeError(f"bits have dtype {array.dtype}; they must be integers")
    if array.size and (array.min() < 0 or array.max() >= 1 << target.bits):
        raise ValueError(f"bits of {target.name} must be at least 0 and below 2**{target.bits}")
    return array.astype(target.bits_dtype).view(target.dtype)[()]


def ulp_distance(a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
    """Return how many steps from one number of a format to the next lie between ``a`` and ``b``.

    Parameters
    ----------
    a, b : arrays of one format, which broadcast

    Returns
    -------
    ndarray of int64
        0 where both are NaN; ``2**bits``, more than any two numbers are apart, where one is.
        Infinity is one step from the largest finite number, +0 none from -0.

    Raises
    ------
    TypeError
        If the dtypes differ or are not a format's.
    """
    x, y = np.asarray(a), np.asarray(b)
    format = _format_of("a", x)
    if y.dtype != x.dtype:
        raise TypeError(f"a has dtype {x.dtype} and b {y.dtype}; they must have the same")
    sign = 1 << (format.bits - 1)

    def position(array: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        bits = np.asarray(to_bits(array)).astype(np.int64)
        infinity = sign - (1 << (format.precision - 1))
        return np.where(bits & sign, sign - bits, bits), (bits & (sign - 1)) > infinity

    (p, p_nan), (q, q_nan) = position(x), position(y)
    distance = np.where(p_nan | q_nan, np.where(p_nan & q_nan, 0, 1 << format.bits), abs(p - q))
    return distance[()]


def _exact(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``x`` in binary64; integers that do not fit are rounded to odd, which hides nothing.

    A later rounding to a format of at most 51 bits then is the only one.
    """
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        odd = ((x >> 11) | ((x & 2047) != 0)).astype(np.float64) * 2048.0
        small = (x >> 53 == 0) | (x >> 53 == -1) if x.dtype.kind == "i" else x >> 53 == 0
        return np.where(small, x.astype(np.float64), odd)
    with np.errstate(invalid="ignore"):  # a signalling NaN is as good as any
        return x.astype(np.float64)


def round_to(x: ArrayLike, format: str | Format) -> NDArray[Any]:
    """Return ``x`` rounded once to a format, to nearest with ties to even.

    Parameters
    ----------
    x : array or number
        Of float16, bfloat16, float32, float64 or integers.
    format : {"float16", "bfloat16", "float32"}

    Returns
    -------
    ndarray in the format, of the shape of ``x``
        NaN becomes the canonical NaN.

    Raises
    ------
    TypeError
        If ``x`` has another dtype.
    ValueError
        If there is no such format.
    """
    target = get(format)
    array = np.asarray(x)
    if array.dtype.kind not in "iu" and array.dtype.name not in (*FORMATS, "float64"):
        raise TypeError(
            f"x has dtype {array.dtype}; "
            f"it must be integers, float64 or one of {', '.join(FORMATS)}"
        )
    values = np.ascontiguousarray(_exact(array))
    out = np.empty(array.shape, target.dtype)
    if out.size:
        bind("format_round", [values], [out], [out.size, target.code]).run()
    return out[()]


def _apply(operation: str, format: str | Format, **operands: ArrayLike) -> NDArray[Any]:
    """Run the kernel of one operation on operands that must be in the format already."""
    target = get(format)
    arrays = []
    for name, operand in operands.items():
        array = np.asarray(operand)
        if array.dtype != target.dtype:
            raise TypeError(
                f"{name} has dtype {array.dtype}; an operation in {target.name} takes "
                f"{target.dtype}: convert with round_to"
            )
        arrays.append(array)
    arrays = [np.ascontiguousarray(array) for array in np.broadcast_arrays(*arrays)]
    shape = np.broadcast_shapes(*(np.shape(operand) for operand in operands.values()))
    out = np.empty(shape, target.dtype)
    if out.size:
        bind(f"format_{operation}", arrays, [out], [out.size, target.code]).run()
    return out[()]


def add(a: ArrayLike, b: ArrayLike, format: str | Format) -> NDArray[Any]:
    """Return ``a + b``, rounded once to ``format``.

    Parameters
    ----------
    a, b : arrays in the format, which broadcast
    format : {"float16", "bfloat16", "float32"}

    Returns
    -------
    ndarray in the format

    Raises
    ------
    TypeError
        If an operand has another dtype: nothing is converted silently.
    ValueError
        If there is no such format or the operands do not broadcast.
    """
    return _apply("add", format, a=a, b=b)


def sub(a: ArrayLike, b: ArrayLike, format: str | Format) -> NDArray[Any]:
    """Return ``a - b``, rounded once to ``format``; see `add`."""
    return _apply("sub", format, a=a, b=b)


def mul(a: ArrayLike, b: ArrayLike, format: str | Format) -> NDArray[Any]:
    """Return ``a * b``, rounded once to ``format``; see `add`."""
    return _apply("mul", format, a=a, b=b)


def div(a: ArrayLike, b: ArrayLike, format: str | Format) -> NDArray[Any]:
    """Return ``a / b``, rounded once to ``format``; see `add`."""
    return _apply("div", format, a=a, b=b)


def sqrt(a: ArrayLike, format: str | Format) -> NDArray[Any]:
    """Return the square root of ``a``, rounded once to ``format``; see `add`."""
    return _apply("sqrt", format, a=a)


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike, format: str | Format) -> NDArray[Any]:
    """Return ``a * b + c`` with one rounding, to ``format``; see `add`."""
    return _apply("fma", format, a=a, b=b, c=c)
