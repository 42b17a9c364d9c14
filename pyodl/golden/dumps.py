"""What a device dumped: the bits of tensors, by the names that vectors have for them.

`read_dump` reads, for the tensors of given `pyodl.golden.Vectors`,

raw binary
    Little-endian, with a description beside it: ``dump.json`` for ``dump.bin``, which has for each
    tensor its ``dtype``, its ``shape`` and its ``offset`` in bytes::

        {"y": {"dtype": "float16", "shape": [16, 32, 32], "offset": 0}}

``.npz``
    Arrays of the storage format, or of unsigned integers that are its bits.
text (`pyodl.golden._hex_text`)
    Hexadecimal as a firmware prints it: ``y: 3c00 bc01 ...``.
a directory of vectors
    As `pyodl.golden.write` writes it.

A tensor may be named as the vectors name it, as C does ("step0_activation_conv1"), or either with
the prefix of the C headers. What a dump does not hold is not there in the result; what it holds
must fit: nothing is cut, filled up or guessed.

`write_dump` writes the first three, for a device that is simulated in Python.
"""

import json
import os
import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy import ndarray

from pyodl._files import whole_file
from pyodl.formats import FORMATS, to_bits
from pyodl.golden._headers import identifier
from pyodl.golden._hex_text import read_text
from pyodl.golden.export import Tensor, Vectors, read

__all__ = ["files_of", "read_dump", "write_dump"]

_MOST_TEXT = 1 << 30  # bytes of a log
_TEXT_SUFFIXES = (".txt", ".log", ".hex")
_PER_LINE = 16


def read_dump(
    path: str | os.PathLike[str], vectors: Vectors, prefix: str | None = None
) -> dict[str, ndarray]:
    """Read the tensors that a device dumped.

    Parameters
    ----------
    path : str or path
        Raw binary with its ``.json``, ``.npz``, hexadecimal text, or a directory of vectors.
    vectors : Vectors
        What the device should have computed: the names, shapes and format of its tensors.
    prefix : str or None
        What names begin with, as in C headers; None takes the primitive's or the model's name.

    Returns
    -------
    dict of ndarray of uint16 or uint32
        Bits by the vectors' names and in their order, in the tensors' shapes; at least one.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If it is none of these, holds none of the tensors, holds a tensor that the vectors do not
        have, or one that is shorter, longer or of another shape or dtype than it must be. The
        message names the file and the tensor.
    """
    source = Path(path)
    names = _Names(vectors, prefix)
    try:
        found = _reader(source)(source, names)
        if not found:
            raise ValueError(f"it holds none of the tensors {names.some()}")  # noqa: TRY301
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return {name: found[name] for name in vectors.tensors if name in found}


def write_dump(path: str | os.PathLike[str], tensors: Mapping[str, ndarray]) -> None:
    """Write tensors as a device dumps them, in the form that the path's suffix names.

    Parameters
    ----------
    path : str or path
        With ``.npz``; ``.txt``, ``.log`` or ``.hex`` for hexadecimal text; or any other suffix for
        raw binary, with its description as ``.json`` beside it. Each file is written whole or not
        at all.
    tensors : mapping of str to ndarray of float16, bfloat16 or float32
        At least one, by the vectors' names.

    Raises
    ------
    OSError
        If a file cannot be written.
    TypeError
        If a tensor has another dtype.
    ValueError
        If there is no tensor, or the path has the suffix of the description.
    """
    target = Path(path)
    if not tensors:
        raise ValueError("tensors is empty; a dump holds at least one")
    if target.suffix == ".json":
        raise ValueError(f"path is {target}; .json is the suffix of a raw dump's description")
    for name, tensor in tensors.items():
        if tensor.dtype.name not in FORMATS:
            raise TypeError(
                f"{name} has dtype {tensor.dtype}; it must be one of {', '.join(FORMATS)}"
            )
    bits = {name: np.asarray(to_bits(tensor)) for name, tensor in tensors.items()}
    if target.suffix == ".npz":
        with whole_file(target) as file:
            np.savez(file, allow_pickle=False, **bits)
    elif target.suffix in _TEXT_SUFFIXES:
        with whole_file(target) as file:
            file.writelines(line.encode() for name in bits for line in _lines(name, bits[name]))
    else:
        _write_raw(target, tensors, bits)


def _lines(name: str, bits: ndarray) -> Iterator[str]:
    """Yield a tensor as text."""
    yield f"{name}:\n"
    words = [f"{word:0{2 * bits.dtype.itemsize}x}" for word in bits.reshape(-1).tolist()]
    for start in range(0, len(words), _PER_LINE):
        yield " ".join(words[start : start + _PER_LINE]) + "\n"


def _write_raw(target: Path, tensors: Mapping[str, ndarray], bits: Mapping[str, ndarray]) -> None:
    """Write raw binary and its description."""
    described, offset = {}, 0
    for name, tensor in tensors.items():
        shape = list(tensor.shape)
        described[name] = {"dtype": tensor.dtype.name, "shape": shape, "offset": offset}
        offset += tensor.nbytes
    with whole_file(target) as file:
        for words in bits.values():
            file.write(words.astype(words.dtype.newbyteorder("<")).tobytes())
    with whole_file(target.with_suffix(".json")) as file:
        file.write(json.dumps(described, indent=1).encode())


def files_of(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Return the files that a dump is read from: it, and the description of raw binary."""
    source = Path(path)
    if source.is_file() and _reader(source) is _read_raw:
        return source, source.with_suffix(".json")
    return (source,)


class _Names:
    """The tensors that a dump may hold, by every name that they may have there."""

    def __init__(self, vectors: Vectors, prefix: str | None) -> None:
        described = vectors.case.to_json()
        own = described.get("primitive") or described["model"]
        prefix = prefix or (own if isinstance(own, str) else "network")
        self._names = list(vectors.tensors)
        self.tensors = dict(vectors.tensors)
        for name, tensor in vectors.tensors.items():
            plain = identifier(name)
            for alias in (plain, f"{prefix}/{name}", f"{prefix}_{plain}"):
                self.tensors.setdefault(alias, tensor)

    def get(self, name: str) -> Tensor:
        """Return the tensor of this name; raise ValueError if there is none."""
        if name not in self.tensors:
            raise ValueError(f"it holds {name!r}; it may hold {self.some()}")
        return self.tensors[name]

    def some(self) -> str:
        """Return the names that the vectors have, but not hundreds."""
        shown = ", ".join(self._names[:8])
        rest = len(self._names) - 8
        return f"{shown} and {rest} others" if rest > 0 else shown


def _reader(source: Path) -> Any:
    """Return the function that reads a file, or a directory, of this kind."""
    if source.is_dir():
        return _read_vectors
    if not stat.S_ISREG(source.stat().st_mode):
        raise ValueError("it is no regular file; write what comes from a pipe into one first")
    with source.open("rb") as file:
        start = file.read(1 << 12)
    if source.suffix == ".npz" or start.startswith(b"PK\3\4"):
        return _read_npz
    if source.suffix not in _TEXT_SUFFIXES:
        if source.suffix != ".json" and source.with_suffix(".json").exists():
            return _read_raw
        if b"\0" in start:
            raise ValueError(
                f"there is no {source.with_suffix('.json').name} beside it that describes it, and "
                "it is neither text nor .npz"
            )
    return _read_hex


def _read_vectors(source: Path, names: _Names) -> dict[str, ndarray]:
    """Read a directory of vectors."""
    found = {}
    for name, tensor in read(source).tensors.items():
        _check(names.get(name), tensor.format.name, tensor.shape)
        found[name] = tensor.bits
    return found


def _read_hex(source: Path, names: _Names) -> dict[str, ndarray]:
    """Read hexadecimal text."""
    size = source.stat().st_size
    if size > _MOST_TEXT:
        raise ValueError(f"it has {size} bytes; a text may have {_MOST_TEXT}")
    return read_text(source.read_text(encoding="utf-8", errors="replace"), names.tensors)


def _once(name: str, tensor: Tensor, found: dict[str, Any]) -> None:
    if tensor.name in found:
        raise ValueError(f"it holds {name} twice")


def _check(tensor: Tensor, dtype: str, shape: tuple[int, ...]) -> None:
    """Check that a tensor in a dump is one of these."""
    if dtype != tensor.format.name:
        raise ValueError(f"{tensor.name} has dtype {dtype}; it must be {tensor.format.name}")
    if shape != tensor.shape:
        raise ValueError(f"{tensor.name} has shape {shape}; it must be {tensor.shape}")


def _read_raw(source: Path, names: _Names) -> dict[str, ndarray]:
    """Read raw binary by its description."""
    described = _described(source.with_suffix(".json"))
    size = source.stat().st_size
    places: dict[str, tuple[int, int]] = {}
    for name, item in described.items():
        tensor = names.get(name)
        _once(name, tensor, places)
        offset = _offset(name, item, tensor)
        end = offset + tensor.bits.nbytes
        if end > size:
            raise ValueError(
                f"it is truncated: {name} has the bytes {offset} to {end - 1}, the file has {size}"
            )
        places[tensor.name] = (offset, end)
    _check_places(places, size)
    found = {}
    with source.open("rb") as file:
        for name, (offset, end) in places.items():
            tensor = names.get(name)
            file.seek(offset)
            little = np.frombuffer(
                file.read(end - offset), tensor.format.bits_dtype.newbyteorder("<")
            )
            found[name] = little.astype(tensor.format.bits_dtype).reshape(tensor.shape)
    return found


def _described(path: Path) -> dict[str, Any]:
    """Read the description of a raw dump."""
    try:
        described = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}, which describes it, is no JSON: {error}") from error
    if not isinstance(described, dict):
        raise ValueError(  # noqa: TRY004 - of the file's content, not of an argument
            f"{path.name}, which describes it, is no object that has a member for each tensor"
        )
    return described


def _offset(name: str, item: Any, tensor: Tensor) -> int:
    """Check the description of a tensor; return its offset in bytes."""
    if not isinstance(item, dict) or not {"dtype", "shape", "offset"} <= item.keys():
        raise ValueError(f"{name} is not described by its dtype, shape and offset")
    shape, offset = item["shape"], item["offset"]
    if not isinstance(shape, list) or any(type(n) is not int for n in shape):
        raise ValueError(f"the shape of {name} is {shape!r}; it must be {list(tensor.shape)}")
    _check(tensor, str(item["dtype"]), tuple(shape))
    if type(offset) is not int or offset < 0:
        raise ValueError(f"the offset of {name} is {offset!r}; it must be a number of bytes")
    return offset


def _check_places(places: dict[str, tuple[int, int]], size: int) -> None:
    """Check that tensors do not overlap and that nothing follows the last."""
    last = 0
    for name, (offset, end) in sorted(places.items(), key=lambda item: item[1]):
        if offset < last:
            raise ValueError(f"{name} begins at byte {offset}, inside another tensor")
        last = end
    if places and size > last:
        raise ValueError(f"it is too long: {size - last} bytes follow the last tensor")


def _read_npz(source: Path, names: _Names) -> dict[str, ndarray]:
    """Read the arrays of an .npz file."""
    found: dict[str, ndarray] = {}
    try:
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                tensor = names.get(name)
                _once(name, tensor, found)
                with archive.open(member) as file:
                    found[tensor.name] = _member(file, tensor)
    except ValueError:
        raise
    except Exception as error:  # whatever a reader of archives makes of foreign bytes
        raise ValueError(f"it is no .npz file that can be read: {error}") from error
    return found


def _member(file: IO[bytes], tensor: Tensor) -> ndarray:
    """Read an array; never more of it than the tensor has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd headers, which are read all the same
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if header is None:
            raise ValueError(f"{tensor.name} is an array of version {version}, which is not read")
        shape, fortran, dtype = header(file)
    format = tensor.format
    own = "V2" if format.name == "bfloat16" else format.name  # as NumPy writes it
    if dtype.newbyteorder("=") not in (format.bits_dtype, np.dtype(own)):
        raise ValueError(
            f"{tensor.name} has dtype {dtype}; it must be {format.name} or {format.bits_dtype}"
        )
    if shape != tensor.shape:
        raise ValueError(f"{tensor.name} has shape {shape}; it must be {tensor.shape}")
    data = file.read(tensor.bits.nbytes + 1)
    if len(data) != tensor.bits.nbytes:
        kind = "truncated" if len(data) < tensor.bits.nbytes else "too long"
        raise ValueError(f"{tensor.name} is {kind}: it must have {tensor.bits.nbytes} bytes")
    order: Literal["<", ">"] = ">" if dtype.str.startswith(">") else "<"
    words = np.frombuffer(data, format.bits_dtype.newbyteorder(order))
    return words.astype(format.bits_dtype).reshape(shape, order="F" if fortran else "C")
