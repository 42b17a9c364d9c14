"""Where arrays lie in memory, and such as begin with a cache line."""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy import ndarray
from numpy.typing import DTypeLike

__all__ = ["address_of", "zeros"]

_LINE = 64  # bytes of a cache line


def address_of(array: ndarray) -> int:
    """Return where an array's first element lies in memory."""
    return int(array.__array_interface__["data"][0])


def zeros(shape: int | Sequence[int], dtype: DTypeLike) -> ndarray:
    """Return zeros as `numpy.zeros` does, from the beginning of a cache line on.

    Parameters
    ----------
    shape : int or sequence of int
    dtype : dtype

    Returns
    -------
    ndarray
        C-contiguous, writable; a view of memory of its own.
    """
    item = np.dtype(dtype).itemsize
    size = prod(shape) if isinstance(shape, Sequence) else shape
    spare = np.zeros(size + _LINE // item, dtype)
    first = -(address_of(spare) // item) % (_LINE // item)
    return spare[first : first + size].reshape(shape)
