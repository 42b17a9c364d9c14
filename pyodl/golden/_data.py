"""Inputs from a seed: ordinary numbers, and the ones that tell implementations apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl.formats import Format, from_bits, round_to, to_bits

__all__ = ["DATA", "draw"]

Shape = tuple[int, ...]


def _normal(rng: np.random.Generator, shape: Shape, format: Format) -> ndarray:
    return round_to(rng.standard_normal(shape), format)


def _subnormals(rng: np.random.Generator, shape: Shape, format: Format) -> ndarray:
    """Return subnormals, and numbers whose products are subnormal or vanish."""
    middle = 2.0 ** ((format.emin - format.precision) // 2)
    near = rng.standard_normal(shape) * middle * 2.0 ** rng.integers(-4, 5, shape)
    tiny = rng.standard_normal(shape) * 2.0 ** (format.emin - 1.0 * rng.integers(0, 10, shape))
    return round_to(np.where(rng.random(shape) < 0.7, near, tiny), format)


def _overflow(rng: np.random.Generator, shape: Shape, format: Format) -> ndarray:
    """Return finite numbers whose products or sums overflow now and then."""
    largest = (2 - 2.0 ** (1 - format.precision)) * 2.0**format.emax
    exponent = rng.integers(format.emax // 2 - 3, format.emax + 1, shape)
    return round_to(np.clip(rng.standard_normal(shape) * 2.0**exponent, -largest, largest), format)


def _signed_zeros(rng: np.random.Generator, shape: Shape, format: Format) -> ndarray:
    zero = rng.choice([0.0, -0.0], shape)
    return round_to(np.where(rng.random(shape) < 0.7, zero, rng.standard_normal(shape)), format)


def _nan_inf(rng: np.random.Generator, shape: Shape, format: Format) -> ndarray:
    """Return normals, infinities, and NaNs of either sign and any payload."""
    bits = np.asarray(to_bits(_normal(rng, shape, format))).astype(np.int64).reshape(-1)
    sign, quiet = 1 << (format.bits - 1), 1 << (format.precision - 2)
    infinity = sign - (1 << (format.precision - 1))
    chance = rng.random(bits.size)
    signs = rng.choice([0, sign], bits.size)
    payload = rng.integers(1, 2 * quiet, bits.size)
    bits = np.where(chance < 0.03, signs | infinity | payload, bits)
    bits = np.where((chance >= 0.03) & (chance < 0.08), signs | infinity, bits)
    if bits.size > 1:  # a small tensor shall have one of each, too
        bits[rng.permutation(bits.size)[:2]] = [infinity, infinity | quiet]
    return from_bits(bits.reshape(shape), format)


def _ties(rng: np.random.Generator, shape: Shape, format: Format) -> ndarray:
    """Return numbers whose sums lie half-way between two others, and products just beside that."""
    ulp = 2.0 ** (1 - format.precision)
    numbers = [1.0, 1 + ulp, 1 - ulp / 2, ulp / 2, 1.5 * ulp, 1 / ulp, 0.5, 1.5, 2.0**-4]
    return round_to(rng.choice(numbers, shape) * rng.choice([-1.0, 1.0], shape), format)


def _leftovers(rng: np.random.Generator, shape: Shape, format: Format) -> ndarray:
    """Return normals whose last entry along each axis outweighs the rest.

    Which loop took the last element, and when it was added, shows in every output.
    """
    values = rng.standard_normal(shape)
    for axis, size in enumerate(shape):
        if size > 1:
            last = [slice(None)] * len(shape)
            last[axis] = slice(size - 1, size)
            values[tuple(last)] *= 32
    return round_to(values, format)


_KINDS: dict[str, Callable[[np.random.Generator, Shape, Format], ndarray]] = {
    "normal": _normal,
    "subnormals": _subnormals,
    "overflow": _overflow,
    "signed-zeros": _signed_zeros,
    "nan-inf": _nan_inf,
    "ties": _ties,
    "leftovers": _leftovers,
}
DATA = (*_KINDS, "hard")


def _hard(rng: np.random.Generator, shape: Shape, format: Format) -> ndarray:
    """Take each element from a kind of its own."""
    drawn = np.stack([np.asarray(to_bits(kind(rng, shape, format))) for kind in _KINDS.values()])
    which = rng.integers(0, len(drawn), shape)
    return from_bits(np.take_along_axis(drawn, which[None], 0)[0], format)


def draw(name: str, shape: Shape, format: Format, data: str, seed: int) -> ndarray:
    """Return the tensor ``name`` of a case; each tensor has a stream of its own.

    Weights and the left operand of a product ("w", "a") are scaled by 1/sqrt(fan-in), deviations
    and variances ("std", "var") are positive, and a "target" is one-hot, unless ``data`` asks for
    hard cases; a target is one-hot even then.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    if name == "target":
        target: ndarray[Any, Any] = np.zeros(int(np.prod(shape)))
        target[rng.integers(target.size)] = 1.0
        return round_to(target.reshape(shape), format)
    if data == "normal":
        values = rng.standard_normal(shape)
        if name in ("w", "a"):
            values = values / np.sqrt(values[0].size)
        elif name in ("std", "var"):
            values = 0.5 + np.abs(values)
        return np.asarray(round_to(values, format))
    make = _KINDS.get(data, _hard)
    return np.ascontiguousarray(make(rng, shape, format))
