"""What the primitives demand of their arguments, each demand with its message.

Every function names the argument, says what it was and what it may be. Shapes, dtypes and layouts
are checked here and nowhere below: the kernels trust their callers.
"""

from collections.abc import Collection
from functools import cache, lru_cache
from math import copysign, inf, isfinite
from typing import Any

import numpy as np

from pyodl import arithmetic as arithmetics
from pyodl._kernels import processors
from pyodl.arithmetic import Arithmetic
from pyodl.formats import round_to

_STORAGE = ("float16", "bfloat16", "float32", "uint16", "uint32")
_LARGEST = 2**31 - 1  # the devices count in 32 bits, and so do loops over cores


def _dimensions(name: str, array: np.ndarray[Any, Any], ndim: int | tuple[int, ...] | None) -> None:
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and array.ndim not in allowed:
        wanted = " or ".join(str(n) for n in allowed)
        raise ValueError(f"{name} has shape {array.shape}; it must have {wanted} dimensions")
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; it must not be empty")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(
            f"{name} is not C-contiguous and aligned; pass numpy.ascontiguousarray({name})"
        )


def tensor(
    name: str,
    array: Any,
    arithmetic: Arithmetic,
    ndim: int | tuple[int, ...] | None = None,
    shape: tuple[int | None, ...] | None = None,
) -> np.ndarray[Any, Any]:
    """Return ``array`` if it is a tensor in the storage format of ``arithmetic``.

    Raises
    ------
    TypeError
        If it is no ndarray, or has another dtype.
    ValueError
        If it has another number of dimensions or shape, is empty or not C-contiguous.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, not {type(array).__name__}")
    dtype = arithmetic.storage.dtype
    if array.dtype != dtype:
        raise TypeError(
            f"{name} has dtype {array.dtype}; arithmetic {arithmetic.name!r} takes {dtype}"
        )
    _dimensions(name, array, ndim)
    if shape is not None and not _fits_shape(array.shape, shape):
        wanted = str(tuple("any" if n is None else n for n in shape)).replace("'", "")
        raise ValueError(f"{name} has shape {array.shape}; it must be {wanted}")
    return array


def _fits_shape(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        n is None or n == size for size, n in zip(shape, wanted, strict=True)
    )


def fits(name: str, size: tuple[int, int], space: tuple[int, int]) -> None:
    """Check that the windows of ``size`` that ``name`` tells fit into ``space``, both (h, w).

    Raises
    ------
    ValueError
        If it does not.
    """
    if size[0] > space[0] or size[1] > space[1]:
        raise ValueError(f"{name} spans {size}; it must fit into the padded input of {space}")


def flag(name: str, value: Any) -> bool:
    """Return ``value`` if it is a bool.

    Raises
    ------
    TypeError
        If it is none.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return bool(value)


def storage_tensor(
    name: str, array: Any, ndim: int | tuple[int, ...] | None = None
) -> np.ndarray[Any, Any]:
    """Return ``array`` if it is a tensor of any 16- or 32-bit storage dtype, to be moved as bits.

    Raises
    ------
    TypeError, ValueError
        As `tensor`.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, not {type(array).__name__}")
    if array.dtype.name not in _STORAGE or not array.dtype.isnative:
        raise TypeError(f"{name} has dtype {array.dtype}; it must be one of {', '.join(_STORAGE)}")
    _dimensions(name, array, ndim)
    return array


def integer(name: str, value: Any, minimum: int) -> int:
    """Return ``value`` as an int that is at least ``minimum``.

    Raises
    ------
    TypeError
        If it is no integer; a bool is none.
    ValueError
        If it is too small, or too large for 32 bits.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name} is {value}; it must be at least {minimum}")
    if value > _LARGEST:
        raise ValueError(f"{name} is {value}; it must be at most {_LARGEST}")
    return int(value)


def instance(name: str, value: Any, kind: Any, wanted: str) -> None:
    """Raise TypeError if ``value`` is not of a kind, which the message calls ``wanted``."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def generator(name: str, seed: Any) -> np.random.Generator:
    """Return the random generator of a seed, or the seed if it is one.

    Raises
    ------
    TypeError
        If it is no integer, generator or None.
    ValueError
        If it is negative.
    """
    if seed is not None and not isinstance(seed, np.random.Generator):
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise TypeError(
                f"{name} must be an integer, a numpy.random.Generator or None, "
                f"not {type(seed).__name__}"
            )
        if seed < 0:
            raise ValueError(f"{name} is {seed}; it must be at least 0")
    return np.random.default_rng(seed)


def pair(name: str, value: Any, minimum: int) -> tuple[int, int]:
    """Return (h, w) from one integer for both or from a pair of integers.

    Raises
    ------
    TypeError, ValueError
        As `integer`; ValueError if a tuple has not two items.
    """
    if not isinstance(value, tuple | list):
        both = integer(name, value, minimum)
        return both, both
    if len(value) != 2:
        raise ValueError(f"{name} has {len(value)} items; it must be an integer or a pair (h, w)")
    return integer(f"{name}[0]", value[0], minimum), integer(f"{name}[1]", value[1], minimum)


def padding(value: Any) -> tuple[int, int, int, int]:
    """Return (up, down, left, right) from one integer for all four sides or from those four.

    Raises
    ------
    TypeError, ValueError
        As `integer`; ValueError if a tuple has not four items.
    """
    if not isinstance(value, tuple | list):
        side = integer("padding", value, 0)
        return side, side, side, side
    if len(value) != 4:
        raise ValueError(
            f"padding has {len(value)} items; it must be an integer or (up, down, left, right)"
        )
    up, down, left, right = (integer(f"padding[{i}]", side, 0) for i, side in enumerate(value))
    return up, down, left, right


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return ``value`` if it is one of the strings ``allowed``.

    Raises
    ------
    TypeError
        If it is no string.
    ValueError
        If it is another string.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it may be one of {', '.join(allowed)}")
    return value


@cache
def _processors() -> int:
    return processors()


def threads(num_threads: Any) -> int:
    """Return the number of host threads; None is one per processor.

    Raises
    ------
    TypeError, ValueError
        As `integer`.
    """
    return _processors() if num_threads is None else integer("num_threads", num_threads, 1)


@lru_cache(maxsize=256)
def _rounded(value: float, _sign: float, storage: str) -> float:
    """Return a number rounded to a format; the sign tells -0 from the equal +0.

    Cached: every training step brings the same rates.
    """
    return float(round_to(value, storage))


def scalar(name: str, value: Any, arithmetic: Arithmetic, finite: bool = True) -> float:
    """Return ``value`` rounded to the storage format, as every scalar on the device is.

    Raises
    ------
    TypeError
        If it is no real number; a bool is none.
    ValueError
        If ``finite`` is asked for and the rounded value is infinite or NaN.
    """
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    # A bfloat16 scalar is none of these, but has its format's dtype.
    if not real and (getattr(value, "dtype", None) != arithmetic.storage.dtype or np.ndim(value)):
        raise TypeError(f"{name} must be a real number, not {type(value).__name__}")
    try:
        wide = float(value)
    except OverflowError:  # an int beyond binary64
        wide = inf if value > 0 else -inf
    number = _rounded(wide, copysign(1.0, wide), arithmetic.storage.name)
    if finite and not isfinite(number):
        raise ValueError(f"{name} is {value}; it must be finite in {arithmetic.storage.name}")
    return number


def common(arithmetic: Any, cores: Any, num_threads: Any) -> tuple[Arithmetic, int]:
    """Return the arithmetic and the host's threads of a call; check the device's cores.

    Raises
    ------
    TypeError, ValueError
        As `arithmetic.get` and `integer`.
    """
    integer("cores", cores, 1)
    return arithmetics.get(arithmetic), threads(num_threads)
