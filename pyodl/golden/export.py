"""Directories of vectors: the bits of every tensor, and a manifest that says what they are.

A directory holds

``vectors.npz``
    NumPy's format, without pickles: one member for each tensor, by its name in the manifest, with
    its *bits* as little-endian ``uint16`` (float16 and bfloat16) or ``uint32`` (float32), in the
    tensor's shape. Bits, because NaNs have payloads, and because NumPy has no bfloat16.
``manifest.json``
    ``format``   "pyodl-vectors"
    ``version``  of this format: 1
    ``pyodl``    version of the package that wrote it
    ``case``     every parameter, the seed included: `Case.to_json` or `StepCase.to_json`
    ``tensors``  a list in the order of computation, the inputs first, each with

        ``name``; ``role`` ("input" or "output"); ``dtype`` ("float16", "bfloat16" or "float32");
        ``shape``; ``layout``, the names of the axes, outermost first, as ["co", "ci", "kh", "kw"];
        ``step``, the training step that computed it, or null; ``sha256`` of its bits, little-endian
        in C order.
    ``files``    names of all files in the directory
``*.h``
    The same bits for C, and ``pyodl_check.h``; see `pyodl.golden._headers`.

A directory is written whole or not at all: it is made beside its place and renamed.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

import pyodl
from pyodl import arithmetic as arithmetics
from pyodl.formats import FORMATS, Format, from_bits, to_bits
from pyodl.golden._headers import check_prefix, headers
from pyodl.golden.cases import Case, from_json
from pyodl.golden.steps import StepCase
from pyodl.primitives import _check as check

__all__ = ["Tensor", "Vectors", "check_prefix", "check_target", "read", "vectors_of", "write"]

_FORMAT = "pyodl-vectors"
_VERSION = 1
_MANIFEST, _ARRAYS = "manifest.json", "vectors.npz"
_STEP = re.compile(r"step(\d+)/")
_FIELDS = {"name", "role", "dtype", "shape", "layout", "step", "sha256"}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a case, with what the manifest says of it.

    Parameters
    ----------
    name : str
    role : {"input", "output"}
    format : Format
    layout : tuple of str
        Names of the axes, outermost first.
    step : int or None
        Training step that computed it.
    bits : ndarray of uint16 or uint32
        In the tensor's shape.
    """

    name: str
    role: str
    format: Format
    layout: tuple[str, ...]
    step: int | None
    bits: ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, outermost axis first."""
        return self.bits.shape

    @property
    def values(self) -> ndarray:
        """The values that have these bits.

        Raises
        ------
        ImportError
            If they are bfloat16 and ml_dtypes is not installed.
        """
        return np.asarray(from_bits(self.bits, self.format))

    @property
    def sha256(self) -> str:
        """Digest of the bits, little-endian in C order."""
        little = self.bits.astype(self.bits.dtype.newbyteorder("<"))
        return hashlib.sha256(little.tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Vectors:
    """A case with its tensors.

    Parameters
    ----------
    case : Case or StepCase
    tensors : dict of Tensor
        By name, in the order of computation, the inputs first.
    version : str
        Of the pyodl that computed them.
    """

    case: Case | StepCase
    tensors: dict[str, Tensor]
    version: str

    def inputs(self) -> dict[str, ndarray]:
        """Return the inputs' values by name, as `Case.run` takes them."""
        return {name: t.values for name, t in self.tensors.items() if t.role == "input"}

    def outputs(self) -> dict[str, ndarray]:
        """Return the outputs' values by name, as `Case.run` returns them."""
        return {name: t.values for name, t in self.tensors.items() if t.role == "output"}


def vectors_of(case: Case | StepCase, inputs: Mapping[str, ndarray] | None = None) -> Vectors:
    """Run a case and return its inputs and outputs.

    Parameters
    ----------
    case : Case or StepCase
    inputs : mapping of str to ndarray, or None
        In the storage dtype of the arithmetic; None draws them.

    Returns
    -------
    Vectors

    Raises
    ------
    TypeError, ValueError
        As `Case.run`.
    """
    given = case.inputs() if inputs is None else dict(inputs)
    outputs = case.run(given)
    storage = arithmetics.get(case.arithmetic).storage
    tensors = {}
    for role, arrays in (("input", given), ("output", outputs)):
        for name, array in arrays.items():
            step = _STEP.match(name)
            tensors[name] = Tensor(
                *(name, role, storage, case.axes(name, array.ndim)),
                int(step[1]) if step else None,
                np.asarray(to_bits(array)),
            )
    return Vectors(case, tensors, pyodl.__version__)


def write(
    directory: str | os.PathLike[str],
    vectors: Vectors | Case | StepCase,
    *,
    c_headers: bool = True,
    prefix: str | None = None,
    force: bool = False,
) -> Vectors:
    """Write a directory of vectors, whole or not at all.

    Parameters
    ----------
    directory : str or path
        A directory of vectors that is there is replaced, one that holds anything else is not.
    vectors : Vectors, Case or StepCase
        A case is run first.
    c_headers : bool
        Whether to write C headers, too.
    prefix : str or None
        What their identifiers begin with; None takes the primitive's or the model's name.
    force : bool
        Replace a directory that holds files of others, but never one that has subdirectories.

    Returns
    -------
    Vectors
        What was written.

    Raises
    ------
    FileExistsError
        If something else is there; nothing was changed.
    ValueError
        If ``prefix`` is no identifier of C.
    OSError
        If the directory cannot be written; nothing was changed.
    """
    target = Path(directory)
    check_prefix(prefix)
    check_target(target, force=force)
    if not isinstance(vectors, Vectors):
        vectors = vectors_of(vectors)
    files = headers(vectors, prefix) if c_headers else {}
    manifest = _manifest(vectors, [_MANIFEST, _ARRAYS, *files])
    arrays = {
        name: tensor.bits.astype(tensor.bits.dtype.newbyteorder("<"))
        for name, tensor in vectors.tensors.items()
    }
    with _whole_directory(target) as folder:
        _write_arrays(folder / _ARRAYS, arrays)
        for name, text in {_MANIFEST: manifest, **files}.items():
            (folder / name).write_text(text, encoding="utf-8")
    return vectors


def _write_arrays(path: Path, arrays: dict[str, ndarray]) -> None:
    """Write an .npz whose bytes depend on nothing but the arrays: no time is stored."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def _manifest(vectors: Vectors, files: list[str]) -> str:
    """Return the manifest's text."""
    tensors = [
        {
            "name": tensor.name,
            "role": tensor.role,
            "dtype": tensor.format.name,
            "shape": list(tensor.shape),
            "layout": list(tensor.layout),
            "step": tensor.step,
            "sha256": tensor.sha256,
        }
        for tensor in vectors.tensors.values()
    ]
    head = {
        "format": _FORMAT,
        "version": _VERSION,
        "pyodl": vectors.version,
        "case": vectors.case.to_json(),
        "files": files,
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    rows = ",\n  ".join(json.dumps(tensor) for tensor in tensors)
    return "{\n" + ",\n".join(lines) + ',\n "tensors": [\n  ' + rows + "\n ]\n}\n"


def check_target(directory: str | os.PathLike[str], *, force: bool) -> None:
    """Check that a directory of vectors may be written here.

    Raises
    ------
    FileExistsError
        If something is there that is not ours.
    FileNotFoundError
        If the directory to write it into is missing.
    """
    target = Path(directory)
    if not target.parent.is_dir():
        raise FileNotFoundError(2, "there is no such directory", str(target.parent))
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise FileExistsError(f"{target} exists and is no directory; remove it first")
    present = list(target.iterdir())
    if any(path.is_dir() for path in present):
        raise FileExistsError(f"{target} has subdirectories, so it is not replaced")
    if force or not present:
        return
    try:
        manifest = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
        ours = manifest["format"] == _FORMAT and {p.name for p in present} <= {*manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise FileExistsError(
            f"{target} exists and holds other files than vectors; choose another directory, or "
            "replace all of it with --force (force=True)"
        )


@contextlib.contextmanager
def _whole_directory(target: Path) -> Iterator[Path]:
    """Make a directory that appears at ``target`` when all went well, and not before."""
    here = target.absolute()
    temporary, old = (here.with_name(f".{here.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if here.is_dir():
            here.rename(old)
        try:
            temporary.rename(here)
        except BaseException:
            if old.exists():
                old.rename(here)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read(directory: str | os.PathLike[str]) -> Vectors:
    """Return what `write` wrote, bit for bit.

    Parameters
    ----------
    directory : str or path

    Returns
    -------
    Vectors

    Raises
    ------
    OSError
        If the manifest or the vectors cannot be read; FileNotFoundError if there are none.
    ValueError
        If it is no such directory, or is damaged: every digest is checked.
    """
    folder = Path(directory)
    text = (folder / _MANIFEST).read_bytes()
    with (folder / _ARRAYS).open("rb") as file:
        try:
            manifest = json.loads(text)
            _check_head(manifest)
            with np.load(file, allow_pickle=False) as members:
                arrays = {name: members[name] for name in members.files}
            case = from_json(manifest["case"])
            tensors = {item["name"]: _tensor(item, arrays) for item in _rows(manifest)}
            _check_tensors(case, tensors)
        except OSError:
            raise
        except Exception as error:  # whatever readers make of foreign bytes
            raise ValueError(f"{folder} holds no pyodl vectors: {error}") from error
    return Vectors(case, tensors, str(manifest["pyodl"]))


def _check_head(manifest: Any) -> None:
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise ValueError(f"the manifest's format is not {_FORMAT!r}")
    if manifest.get("version") != _VERSION:
        raise ValueError(f"the manifest's version is {manifest.get('version')!r}, not {_VERSION}")


def _rows(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    rows = manifest["tensors"]
    if not isinstance(rows, list) or not rows:
        raise ValueError("the manifest names no tensors")
    for item in rows:
        if not isinstance(item, dict) or item.keys() != _FIELDS:
            raise ValueError(f"a tensor of the manifest has not {', '.join(sorted(_FIELDS))}")
    if len({item["name"] for item in rows}) != len(rows):
        raise ValueError("the manifest names a tensor twice")
    return rows


def _check_tensors(case: Case | StepCase, tensors: dict[str, Tensor]) -> None:
    """Check that these are the tensors of the case, in its storage format."""
    storage = arithmetics.get(case.arithmetic).storage
    for tensor in tensors.values():
        if tensor.format != storage:
            raise ValueError(f"{tensor.name} is {tensor.format.name}, not {storage.name}")
    given = {name for name, tensor in tensors.items() if tensor.role == "input"}
    if given != case.input_names or tensors.keys() - given != case.output_names:
        raise ValueError("the tensors are not the case's")


def _tensor(item: dict[str, Any], arrays: dict[str, ndarray]) -> Tensor:
    """Return a tensor whose bits are those that the manifest tells."""
    name, format = item["name"], FORMATS[check.choice("dtype", item["dtype"], FORMATS)]
    check.choice("role", item["role"], ("input", "output"))
    if name not in arrays:
        raise ValueError(f"there are no bits of {name}")
    bits = arrays[name]
    if bits.dtype.newbyteorder("=") != format.bits_dtype or list(bits.shape) != item["shape"]:
        raise ValueError(
            f"{name} has shape {bits.shape} and dtype {bits.dtype}, not {item['shape']} and "
            f"{format.bits_dtype}"
        )
    if not isinstance(item["layout"], list) or len(item["layout"]) != bits.ndim:
        raise ValueError(f"the layout of {name} is {item['layout']!r}, not {bits.ndim} axes")
    if item["step"] is not None and type(item["step"]) is not int:
        raise ValueError(f"the step of {name} is {item['step']!r}, not a number or null")
    tensor = Tensor(
        *(name, item["role"], format, tuple(map(str, item["layout"])), item["step"]),
        bits.astype(format.bits_dtype),
    )
    if tensor.sha256 != item["sha256"]:
        raise ValueError(f"the bits of {name} are not those that the manifest's digest tells")
    return tensor
