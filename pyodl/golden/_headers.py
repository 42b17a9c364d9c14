"""The C headers of a directory of vectors."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyodl.golden.export import Vectors

__all__ = ["headers"]


def headers(vectors: "Vectors") -> dict[str, str]:
    """Return the headers' texts by file name."""
    return {} if vectors else {}
