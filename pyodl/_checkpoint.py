"""Networks in .npz files: one member of JSON, and the bits of every parameter."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy import ndarray

from pyodl._files import whole_file
from pyodl.formats import Format, from_bits

__all__ = ["as_values", "read", "write"]

_HEADER = "pyodl"
_PREFIX = "parameter/"
_VERSION = 1


def write(
    path: str | os.PathLike[str], description: dict[str, Any], parameters: dict[str, ndarray]
) -> None:
    """Write a network's description and its parameters' bits, whole or not at all.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError, ValueError
        If the description is none for JSON.
    """
    header = json.dumps({"version": _VERSION, **description}, allow_nan=False)
    bits = {
        _PREFIX + name: array.view(f"uint{8 * array.itemsize}")
        for name, array in parameters.items()
    }
    with whole_file(path) as file:
        np.savez(file, allow_pickle=False, **{_HEADER: np.array(header)}, **bits)


def read(
    path: str | os.PathLike[str], what: str = "network"
) -> tuple[dict[str, Any], dict[str, ndarray]]:
    """Return the description and the parameters' bits of a file that `write` wrote.

    ``what`` is what the file should be, for the message.

    Raises
    ------
    OSError
        If the file cannot be read; FileNotFoundError if there is none.
    ValueError
        If it is not such a file, or is damaged.
    """
    with Path(path).open("rb") as file:
        try:
            return _read(file)
        except OSError:
            raise
        except Exception as error:  # whatever readers make of foreign bytes
            raise ValueError(f"{os.fspath(path)} is not a pyodl {what}: {error}") from error


def _read(file: BinaryIO) -> tuple[dict[str, Any], dict[str, ndarray]]:
    """Read as `read` does; raise ValueError, or anything else that the readers raise."""
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"its member {damaged} is damaged")
    file.seek(0)
    with np.load(file, allow_pickle=False) as members:
        arrays = {name: members[name] for name in members.files}
    header = json.loads(arrays.pop(_HEADER).item())
    if header["version"] != _VERSION:
        raise ValueError(f"its version is {header['version']!r}, not {_VERSION}")
    return header, {name.removeprefix(_PREFIX): array for name, array in arrays.items()}


def as_values(
    bits: dict[str, ndarray], shapes: dict[str, tuple[int, ...]], storage: Format
) -> dict[str, ndarray]:
    """Return parameters from their bits, which must be those of ``shapes`` exactly.

    Raises
    ------
    ValueError
        If a parameter is missing, unknown, or of another shape or width.
    """
    if bits.keys() != shapes.keys():
        raise ValueError(f"its parameters are {sorted(bits)}, not {sorted(shapes)}")
    for name, array in bits.items():
        if array.shape != shapes[name] or array.dtype != storage.bits_dtype:
            raise ValueError(
                f"{name} has shape {array.shape} and dtype {array.dtype}, not {shapes[name]} and "
                f"{storage.bits_dtype}"
            )
    return {name: from_bits(array, storage) for name, array in bits.items()}
