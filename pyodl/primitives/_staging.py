"""Strided copies as the kernels take them, and operands widened to binary32 by them.

Any copy is written as two NumPy views of the same shape, one of the source and one of the target;
the kernel walks their strides.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.arithmetic import Arithmetic

__all__ = ["SLACK", "Stager", "bind_copy"]

Copies = list[tuple[ndarray, ndarray]]

SLACK = 16  # floats that the widest register may read beyond the last element
_DIMENSIONS = 5


def _walk(view: ndarray, base: ndarray) -> tuple[list[int], int]:
    """Return the strides of ``view`` in elements, outermost first, and its offset in ``base``."""
    size = base.itemsize
    address = [array.__array_interface__["data"][0] for array in (view, base)]
    strides = [0] * (_DIMENSIONS - view.ndim) + [stride // size for stride in view.strides]
    return strides, (address[0] - address[1]) // size


def _bind_walk(
    kernel: str,
    source: ndarray,
    source_view: ndarray,
    target: ndarray,
    target_view: ndarray,
    code: int,
    cores: int,
    guard: ndarray | None = None,
) -> Operation:
    shape = [1] * (_DIMENSIONS - source_view.ndim) + list(source_view.shape)
    source_strides, source_offset = _walk(source_view, source)
    target_strides, target_offset = _walk(target_view, target)
    sizes = [*shape, *source_strides, *target_strides, source_offset, target_offset]
    outputs = [target] if guard is None else [target, guard]
    return bind(kernel, [source], outputs, [*sizes, target.itemsize], (), code, cores)


def bind_copy(
    source: ndarray, source_view: ndarray, target: ndarray, target_view: ndarray, cores: int
) -> Operation:
    """Bind a copy of bits between views of arrays of the same item size, of up to 5 dimensions."""
    return _bind_walk("copy", source, source_view, target, target_view, 0, cores)


def floats(*shape: int) -> tuple[ndarray, ndarray]:
    """Return zeros of ``shape`` as a view of a flat buffer that ends in slack, and the buffer."""
    size = int(np.prod(shape))
    buffer = np.zeros(size + SLACK, np.float32)
    return buffer[:size].reshape(shape), buffer


class Stager:
    """Widens operands to binary32, each of them once.

    What an earlier step has widened is not widened again: the forward step is bound and run before
    the backward steps that read the same tensors.

    Parameters
    ----------
    arithmetic : Arithmetic
    cores : int
        Cores of the device, which share the rows of a copy.
    """

    def __init__(self, arithmetic: Arithmetic, cores: int) -> None:
        self.arithmetic = arithmetic
        self.cores = cores
        self._staged: dict[tuple[str, int], ndarray] = {}

    def stage(
        self,
        kind: str,
        source: ndarray,
        shape: Sequence[int],
        copies: Callable[[ndarray], Copies],
        guard: ndarray | None = None,
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Return the buffer of ``shape`` that holds ``source`` and the operations that fill it.

        Parameters
        ----------
        kind : str
            Tells buffers of the same tensor apart.
        copies : callable
            Maps the shaped buffer to pairs of views, of the source and of the buffer.
        guard : ndarray or None
            One int32: the operations do nothing while it is zero.
        """
        key = (kind, source.__array_interface__["data"][0])
        if key in self._staged:
            return self._staged[key], ()
        view, buffer = floats(*shape)
        self._staged[key] = buffer
        code, cores = self.arithmetic.code, self.cores
        return buffer, tuple(
            _bind_walk("widen", source, taken, buffer, place, code, cores, guard)
            for taken, place in copies(view)
            if taken.size
        )

    def flat(self, source: ndarray) -> tuple[ndarray, tuple[Operation, ...]]:
        """Widen a tensor as it lies."""
        return self.stage("flat", source, [source.size], lambda view: [(source.reshape(-1), view)])

    def transposed(
        self, source: ndarray, rows: int, padded_rows: int | None = None
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Widen a tensor, taken as a matrix of ``rows`` rows, transposed; its rows become lanes."""
        matrix = source.reshape(rows, -1)
        shape = (matrix.shape[1], padded_rows or rows)
        kind = f"transposed to {shape[1]}"
        return self.stage(kind, source, shape, lambda view: [(matrix.T, view[:, :rows])])

    def panels(
        self, source: ndarray, matrix: ndarray, width: int
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Widen a (K, M) view of ``source`` in panels of ``width`` columns, each (K, width).

        A tile then reads one panel from end to end, whatever M is.
        """
        k, m = matrix.shape
        full = m // width

        def copies(view: ndarray) -> Copies:
            whole = matrix[:, : full * width].reshape(k, full, width).transpose(1, 0, 2)
            rest = matrix[:, full * width :]
            return [(whole, view[:full]), (rest, view[-1, :, : m - full * width])]

        return self.stage("panels", source, (-(-m // width), k, width), copies)
