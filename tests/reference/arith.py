"""Formats, rounding and scalar operations: every value is a float64, every rounding is explicit.

float64 holds each value of the three storage formats exactly, and the product of any two of them.
A sum may need more bits than that: `add_exactly` then returns its round-to-odd neighbour, from
which rounding to 51 bits or fewer gives what rounding the exact sum would give.
"""

from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from functools import wraps

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: p significant bits, exponents emin to emax, subnormals."""

    name: str
    dtype: np.dtype
    bits: np.dtype
    precision: int
    emin: int
    emax: int
    canonical_nan: int

    @property
    def largest(self):
        return (2.0 - 2.0 ** (1 - self.precision)) * 2.0**self.emax


FLOAT16 = Format("float16", np.dtype(np.float16), np.dtype(np.uint16), 11, -14, 15, 0x7E00)
BFLOAT16 = Format(
    "bfloat16", np.dtype(ml_dtypes.bfloat16), np.dtype(np.uint16), 8, -126, 127, 0x7FC0
)
FLOAT32 = Format("float32", np.dtype(np.float32), np.dtype(np.uint32), 24, -126, 127, 0x7FC00000)
FORMATS = {f.name: f for f in (FLOAT16, BFLOAT16, FLOAT32)}


def quiet(function):
    """No floating-point warnings inside: infinities and NaNs are data here."""

    @wraps(function)
    def wrapped(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return wrapped


@quiet
def round_value(x, fmt):
    """Round float64 values to nearest, ties to even, on the grid of `fmt`, or to infinity."""
    _, exponent = np.frexp(x)
    last_bit = np.maximum(exponent, fmt.emin + 1) - fmt.precision
    y = np.ldexp(np.rint(np.ldexp(x, -last_bit)), last_bit)
    return np.where(np.abs(y) > fmt.largest, np.copysign(np.inf, y), y)


@quiet
def add_exactly(a, b):
    """a + b in float64, rounded to odd: exact where it can be, else sticky in the last bit."""
    total = np.asarray(a + b)
    part = total - a
    error = (a - (total - part)) + (b - part)  # Knuth's TwoSum: exact for every finite a, b
    even = (total.view(np.int64) & 1) == 0
    nudge = np.isfinite(total) & (error != 0) & even
    if not nudge.any():
        return total
    return np.where(nudge, np.nextafter(total, np.copysign(np.inf, error)), total)


@quiet
def decode(bits, fmt):
    """Bit patterns -> float64 values."""
    if fmt is BFLOAT16:
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return bits.view(fmt.dtype).astype(np.float64)


@quiet
def encode(values, fmt):
    """Values that lie on the grid of `fmt` -> bit patterns; every NaN becomes the canonical one."""
    if fmt is BFLOAT16:
        bits = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    else:
        bits = values.astype(fmt.dtype).view(fmt.bits)
    return np.where(np.isnan(values), np.array(fmt.canonical_nan, fmt.bits), bits)


def values_of(x, fmt):
    """An array of the storage dtype -> float64 values, exact."""
    x = np.ascontiguousarray(x)
    assert x.dtype == fmt.dtype, f"{x.dtype} is not {fmt.name}"
    return decode(x.view(fmt.bits), fmt)


def array_of(values, fmt):
    """float64 values -> an array of the storage dtype, each rounded once."""
    return encode(round_value(np.asarray(values, np.float64), fmt), fmt).view(fmt.dtype)


@dataclass(frozen=True)
class Arithmetic:
    """A named arithmetic. `working` is the format of the accumulator and of every intermediate."""

    name: str
    storage: Format
    working: Format
    fused: bool

    def load(self, x):
        return values_of(x, self.storage)

    def store(self, values):
        return array_of(values, self.storage)

    def stored(self, values):
        """What is read back after a store."""
        return round_value(np.asarray(values, np.float64), self.storage)

    def scalar(self, x):
        """A scalar parameter as the device holds it: rounded to the storage format."""
        return float(round_value(np.float64(x), self.storage))

    def round(self, values):
        return round_value(values, self.working)

    def add(self, a, b):
        return self.round(add_exactly(a, b))

    def sub(self, a, b):
        return self.add(a, -np.asarray(b, np.float64))

    @quiet
    def mul(self, a, b):
        return self.round(np.multiply(a, b))

    @quiet
    def div(self, a, b):
        # 53 >= 2 * 24 + 2 bits: rounding the float64 quotient again is harmless.
        return self.round(np.divide(a, b, dtype=np.float64))

    @quiet
    def sqrt(self, a):
        return self.round(np.sqrt(a))  # 53 >= 2 * 24 + 2 bits here too

    @quiet
    def fma(self, a, b, c):
        """a * b + c: one rounding where the arithmetic fuses, else two."""
        product = np.multiply(a, b)
        return self.add(product if self.fused else self.round(product), c)

    def in_float32(self):
        """The same contraction rule in binary32, for the steps that the device makes in float."""
        return replace(self, working=FLOAT32)

    @property
    def wide(self):
        """True where the accumulator is wider than, or equal to, binary32."""
        return self.working is FLOAT32


ARITHMETICS = {
    a.name: a
    for a in (
        Arithmetic("fp16-fp32acc", FLOAT16, FLOAT32, True),
        Arithmetic("fp16-fma", FLOAT16, FLOAT16, True),
        Arithmetic("fp16-muladd", FLOAT16, FLOAT16, False),
        Arithmetic("bf16-fp32acc", BFLOAT16, FLOAT32, True),
        Arithmetic("bf16-fma", BFLOAT16, BFLOAT16, True),
        Arithmetic("fp32", FLOAT32, FLOAT32, True),
    )
}


@quiet
def _correctly_rounded(x, approximate, exact):
    """Round a float64 approximation (wrong by a few units at most) to binary32, surely right."""
    x = np.asarray(x, np.float64)
    y = np.asarray(approximate(x))
    low = round_value(y * (1 - 2.0**-50), FLOAT32)
    high = round_value(y * (1 + 2.0**-50), FLOAT32)
    result = np.array(round_value(y, FLOAT32))
    doubtful = np.isfinite(x) & np.isfinite(y) & (y != 0) & (low != high)
    with localcontext() as context:
        context.prec = 60
        for i in np.flatnonzero(doubtful):
            result.flat[i] = _decimal_to_float32(exact(Decimal(float(x.flat[i]))))
    return result


def _decimal_to_float32(value):
    """Round a 60-digit decimal to binary32 through a float64 that is rounded to odd."""
    near = float(value)
    if Decimal(near) != value and not np.float64(near).view(np.int64) & 1:
        near = np.nextafter(near, np.inf if value > Decimal(near) else -np.inf)
    return round_value(np.float64(near), FLOAT32)


def expf(x):
    """The correctly rounded binary32 exponential."""
    return _correctly_rounded(x, np.exp, Decimal.exp)


def logf(x):
    """The correctly rounded binary32 natural logarithm."""
    return _correctly_rounded(x, np.log, Decimal.ln)


def _operation(name):
    """A correctly rounded operation on arrays of one format, which the last argument names."""

    def operation(*operands):
        *operands, fmt = operands
        fmt = FORMATS[fmt]
        arithmetic = Arithmetic(name, fmt, fmt, True)
        return arithmetic.store(getattr(arithmetic, name)(*map(arithmetic.load, operands)))

    operation.__name__ = name
    return operation


add, sub, mul, div, sqrt, fma = map(_operation, ["add", "sub", "mul", "div", "sqrt", "fma"])


@quiet
def round_to(x, fmt):
    """An array of any of the formats, or of float64, converted with one rounding."""
    x = np.ascontiguousarray(x)
    known = {f.dtype: f for f in FORMATS.values()}
    return array_of(values_of(x, known[x.dtype]) if x.dtype in known else x, FORMATS[fmt])
