"""What several commands take: kinds of numbers and the names of the models."""

import argparse
from math import isfinite
from pathlib import Path

MODELS = ("resnet8", "ds_cnn", "tiny_cnn")


def natural(text: str) -> int:
    """Read a whole number from 0 on."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return value


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 0 < value < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return value


def rate(text: str) -> float:
    """Read a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (value > 0 and isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def output(arguments: argparse.Namespace, name: str) -> Path | None:
    """Return the path of an option, where a file can be made."""
    value = getattr(arguments, name)
    if value is None:
        return None
    path = Path(value)
    if not path.parent.is_dir():
        raise ValueError(f"--{name} {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"--{name} {path}: it is a folder")
    return path
