"""Devices by name, and in TOML files of the users' own."""

import os
import tomllib
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pyodl.device._device import DEVICES, FIELDS, Device, allowed

__all__ = ["get", "load"]


def load(path: str | os.PathLike[str]) -> Device:
    """Return the device that a TOML file describes.

    The file has one line for each field of `Device`. With ``base = "pulp-open"``, or another
    preset, it needs only ``name`` and what differs from that preset::

        base = "pulp-open"
        name = "mine"
        cores = 4
        l1_bytes = 32768

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Device

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no TOML, or a field is missing, unknown or out of its range. The message names the
        file, the field and what it may be.
    """
    where = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            values = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} is not TOML: {error}") from error
    try:
        return Device(**_complete(values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def _complete(values: dict[str, Any]) -> dict[str, Any]:
    """Return all fields: the file's, and those of its base."""
    fields = {name: value for name, value in values.items() if name != "base"}
    for name in fields:
        if name not in FIELDS:
            near = get_close_matches(name, (*FIELDS, "base"), n=1)
            hint = f"did you mean {near[0]} ({_range(near[0])})?" if near else _known()
            raise ValueError(f"{name} is no field of a device; {hint}")
    if "base" in values:
        base = values["base"]
        if not isinstance(base, str) or base not in DEVICES:
            raise ValueError(f"base is {base!r}; it must be {_range('base')}")
        inherited = asdict(DEVICES[base])
        del inherited["name"]
        fields = inherited | fields
    for name in FIELDS:
        if name not in fields:
            raise ValueError(f"{name} is missing; it must be {_range(name)}")
    return fields


def _range(name: str) -> str:
    return f"one of {', '.join(DEVICES)}" if name == "base" else allowed(name)


def _known() -> str:
    return f"its fields are {', '.join(FIELDS)}, and base"


def get(device: str | os.PathLike[str] | Device) -> Device:
    """Return a device by the name of a preset or the path of a TOML file, or the `Device` given.

    A string that ends in ``.toml`` is a path.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If no preset has that name, or the file is no device, see `load`.
    OSError
        If the file cannot be read.
    """
    if isinstance(device, Device):
        return device
    if isinstance(device, os.PathLike) or (isinstance(device, str) and device.endswith(".toml")):
        return load(device)
    if not isinstance(device, str):
        raise TypeError(f"device must be a string, a path or a Device, not {type(device).__name__}")
    if device not in DEVICES:
        raise ValueError(
            f"device is {device!r}; it may be one of {', '.join(DEVICES)}, or a file that ends in "
            ".toml"
        )
    return DEVICES[device]
