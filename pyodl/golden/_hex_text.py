"""Hexadecimal text as a firmware prints it.

A line that begins a tensor has its name and ``:`` or ``=``; words follow there and on the next
lines, with or without 0x, with commas, semicolons and braces, or as the initialiser of an array of
C. What stands before the name, such as a time or a core, may stand before the other lines, too,
with other digits; so may an address before a colon. Lines that are none of this, such as a log's or
what pyodl_check prints, are passed over.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray

from pyodl.golden.export import Tensor

__all__ = ["read_text"]

_LABEL = re.compile(r"([A-Za-z_][\w./]*)\s*(?:\[[^\]]*\]\s*)*[:=]")
_ADDRESS = re.compile(r"\s*\+?(?:0x)?[0-9A-Fa-f]+:\s")
_DECORATION = re.compile(r"/\*.*?\*/|//.*$|[,;{}()]")
_DIGITS = re.compile(r"\d+")
_CHECKER = "pyodl: "  # what pyodl_check prints before a name
_SHOWN = 40  # characters of a line in a message


@dataclass
class _Open:
    """A tensor that is being read."""

    tensor: Tensor
    prefix: str
    line: int
    words: list[int] = field(default_factory=list)
    passed: str = ""  # the first line in it that was passed over

    @property
    def pattern(self) -> re.Pattern[str]:
        """What its other lines may begin with: the prefix with any digits."""
        return re.compile(_DIGITS.sub(r"\\d+", re.escape(self.prefix)))


def read_text(text: str, tensors: Mapping[str, Tensor]) -> dict[str, ndarray]:
    """Read tensors from hexadecimal text.

    Parameters
    ----------
    text : str
    tensors : mapping of str to Tensor
        By every name that they may have.

    Returns
    -------
    dict of ndarray of uint16 or uint32
        Bits by the tensors' own names.

    Raises
    ------
    ValueError
        If a tensor has too few or too many words, or is there twice.
    """
    found: dict[str, ndarray] = {}
    current: _Open | None = None
    for number, line in enumerate(text.splitlines(), 1):
        started = _start(line, number, tensors)
        if started is not None:
            _close(current, found)
            current, rest = started
            words = _words(rest, current.tensor)
            if words is None:
                raise ValueError(f"line {number} is no hexadecimal: {_short(rest)!r}")
            current.words += words
        elif current is not None and not _continue(current, line, number):
            _close(current, found)
            current = None
    _close(current, found)
    return found


def _start(line: str, number: int, tensors: Mapping[str, Tensor]) -> tuple[_Open, str] | None:
    """Return the tensor that a line begins, and the rest of the line."""
    for label in _LABEL.finditer(line):
        if label[1] in tensors and not line[: label.start()].endswith(_CHECKER):
            rest = line[label.end() :].lstrip(" =")
            return _Open(tensors[label[1]], line[: label.start()], number), rest
    return None


def _continue(current: _Open, line: str, number: int) -> bool:
    """Take the words of a further line; return whether the tensor may go on after it."""
    prefix = current.pattern.match(line)
    rest = line[prefix.end() :] if prefix else line
    address = _ADDRESS.match(rest)
    words = _words(rest[address.end() :] if address else rest, current.tensor)
    if words is not None:
        current.words += words
        most = current.tensor.bits.size
        if len(current.words) > most:
            raise ValueError(
                f"line {number}: {current.tensor.name} has more than the {most} words that it must "
                "have"
            )
        return True
    if _LABEL.match(rest):  # of something else
        return False
    current.passed = current.passed or f"line {number}: {_short(line)!r}"
    return True


def _words(text: str, tensor: Tensor) -> list[int] | None:
    """Return the numbers of a line, all of which must be words of the tensor's width."""
    width = tensor.format.bits // 4
    numbers = []
    for word in _DECORATION.sub(" ", text).split():
        digits = word[2:] if word[:2] in ("0x", "0X") else word
        bare = digits is word
        if not digits or len(digits) > width or (bare and len(digits) != width):
            return None
        if not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return None
        numbers.append(int(digits, 16))
    return numbers


def _close(current: _Open | None, found: dict[str, ndarray]) -> None:
    """Check a tensor that was read and add it."""
    if current is None:
        return
    tensor = current.tensor
    if tensor.name in found:
        raise ValueError(f"line {current.line}: it holds {tensor.name} twice")
    if len(current.words) != tensor.bits.size:
        passed = f"; passed over {current.passed}" if current.passed else ""
        raise ValueError(
            f"line {current.line}: {tensor.name} has {len(current.words)} words; it must have "
            f"{tensor.bits.size}{passed}"
        )
    bits = np.array(current.words, tensor.format.bits_dtype)
    found[tensor.name] = bits.reshape(tensor.shape)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
