"""Reader of the binary version of CIFAR-10, unpacked or as the archive."""

import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["read"]

META = "batches.meta.txt"
PARTS = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
FOLDER = "cifar-10-batches-bin"
RECORD = 1 + 3 * 32 * 32  # the label, then the red, green and blue planes
MOST = 10_000  # records in a published file: more are a mistake, fewer may be a selection


def read(path: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Read one part.

    Parameters
    ----------
    path : Path
        The folder with the ``.bin`` files, a folder with that folder in it, or the archive.
    part : {"train", "test"}
        Which files to read.

    Returns
    -------
    images : ndarray, shape (n, 3, 32, 32), uint8
        Red, green and blue planes.
    labels : ndarray, shape (n,), int64
        Index into `classes`.
    classes : tuple of str
        The ten names of ``batches.meta.txt``.

    Raises
    ------
    FileNotFoundError
        If `path` or one of the files is missing.
    ValueError
        If `part` is none of the two, or a file is not in the format.
    """
    if part not in PARTS:
        raise ValueError(f"part must be 'train' or 'test', not {part!r}")
    wanted = (*PARTS[part], META)
    if path.is_dir():
        where, found = _from_folder(path, wanted)
    elif path.exists():
        where, found = path, _from_archive(path, wanted)
    else:
        raise FileNotFoundError(
            f"{path} does not exist: expected the folder {FOLDER} of the binary version of "
            "CIFAR-10, or its archive cifar-10-binary.tar.gz"
        )
    for name in wanted:
        if name not in found:
            raise FileNotFoundError(
                f"{name} is missing in {where}: the binary version of CIFAR-10 has there "
                f"data_batch_1.bin to data_batch_5.bin, test_batch.bin and {META}"
            )
    classes = _names(found.pop(META), f"{where}: {META}")
    parts = [_records(found[name], f"{where}: {name}") for name in PARTS[part]]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    return images, labels, classes


def _from_folder(path: Path, wanted: Iterable[str]) -> tuple[Path, dict[str, bytes]]:
    where = path / FOLDER if (path / FOLDER).is_dir() else path
    found = {}
    for name in wanted:
        if (where / name).is_file():
            _check_size((where / name).stat().st_size, f"{where}: {name}")
            found[name] = (where / name).read_bytes()
    return where, found


def _from_archive(path: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    names, found = set(wanted), {}
    with path.open("rb") as packed:
        try:
            # As a stream: to go back in a compressed archive is to unpack it from its start.
            with tarfile.open(fileobj=packed, mode="r|*") as archive:
                for member in archive:
                    name = Path(member.name).name
                    file = archive.extractfile(member) if name in names else None
                    if file is not None:
                        _check_size(member.size, f"{path}: {name}")
                        found[name] = file.read()
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise ValueError(f"{path} is not a tar archive, or is damaged: {error}") from error
    return found


def _check_size(size: int, where: str) -> None:
    """Refuse a size that cannot be, before reading so much; the meta file is not of records."""
    if where.endswith(".bin") and (size == 0 or size % RECORD or size > MOST * RECORD):
        raise ValueError(
            f"{where} has {size} bytes, and must have a whole number of records of {RECORD} bytes "
            f"(label and 3 x 32 x 32 pixels), from 1 to {MOST}; as published it has "
            f"{MOST * RECORD} bytes"
        )


def _records(data: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    _check_size(len(data), where)  # again: a damaged archive can hold less than it says
    table = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    labels = table[:, 0].astype(np.int64)
    if labels.max() > 9:
        record = int(np.argmax(labels > 9))
        raise ValueError(
            f"{where} has the label {labels[record]} in record {record}, and labels are 0 to 9"
        )
    return table[:, 1:].reshape(-1, 3, 32, 32), labels


def _names(data: bytes, where: str) -> tuple[str, ...]:
    names = tuple(data.decode("utf-8", "replace").split())
    if len(names) != 10:
        raise ValueError(f"{where} names {len(names)} classes, and must name 10, one on each line")
    return names
