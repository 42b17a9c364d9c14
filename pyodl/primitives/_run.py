"""Run what a primitive has bound."""

from collections.abc import Iterable
from typing import TypeVar

from pyodl._kernels import Operation

__all__ = ["run"]

T = TypeVar("T")


def run(operations: Iterable[Operation], result: T, num_threads: int) -> T:
    """Run operations in order and return ``result``, which they have filled."""
    for operation in operations:
        operation.run(num_threads)
    return result
