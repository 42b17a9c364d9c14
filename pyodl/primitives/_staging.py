"""Strided copies as the kernels take them, and operands staged by them for contractions.

Any copy is written as two NumPy views of the same shape, one of the source and one of the target;
the kernel walks their strides.
"""

from collections.abc import Callable, Hashable, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl._lines import address_of, zeros
from pyodl.arithmetic import Arithmetic
from pyodl.primitives._steps import Step, step_of

__all__ = ["SLACK", "Buffers", "Copy", "Stager", "allocate", "bind_copy"]


class Copy(NamedTuple):
    """A strided copy between two views of the same shape.

    Where ``row`` is not 0, rows of so many neighbours are dealt out: the views are of the elements
    with even numbers, and ``odd`` is where the others go, if anywhere.
    """

    source: ndarray
    target: ndarray
    odd: ndarray | None = None
    row: int = 0


SLACK = 32  # elements that the kernels may read beyond the last one
_DIMENSIONS = 5


def _walk(view: ndarray, base: ndarray) -> tuple[list[int], int]:
    """Return the strides of ``view`` in elements, outermost first, and its offset in ``base``."""
    size = base.itemsize
    strides = [0] * (_DIMENSIONS - view.ndim) + [stride // size for stride in view.strides]
    return strides, _distance(base, view)


def _distance(view: ndarray, other: ndarray | None) -> int:
    """Return how many elements another view lies beyond a view; 0 for none."""
    return 0 if other is None else (address_of(other) - address_of(view)) // view.itemsize


def _bind_walk(
    kernel: str,
    source: ndarray,
    source_view: ndarray,
    target: ndarray,
    target_view: ndarray,
    code: int,
    cores: int,
    guard: ndarray | None = None,
    dealing: tuple[int, int] = (0, 0),
) -> Operation:
    shape = [1] * (_DIMENSIONS - source_view.ndim) + list(source_view.shape)
    source_strides, source_offset = _walk(source_view, source)
    target_strides, target_offset = _walk(target_view, target)
    sizes = [*shape, *source_strides, *target_strides, source_offset, target_offset]
    outputs = [target] if guard is None else [target, guard]
    sizes += [target.itemsize, *dealing]
    return bind(kernel, [source], outputs, sizes, (), code, cores)


def bind_copy(
    source: ndarray, source_view: ndarray, target: ndarray, target_view: ndarray, cores: int
) -> Operation:
    """Bind a copy of bits between views of arrays of the same item size, of up to 5 dimensions."""
    return _bind_walk("copy", source, source_view, target, target_view, 0, cores)


def allocate(dtype: np.dtype, *shape: int) -> tuple[ndarray, ndarray]:
    """Return zeros of ``shape`` as a view of a flat buffer that ends in slack, and the buffer.

    The buffer begins with a cache line, so that whole registers from there on lie within lines.
    """
    size = prod(shape)
    buffer = zeros(size + SLACK, dtype)
    return buffer[:size].reshape(shape), buffer


class Buffers:
    """Buffers that go from layer to layer, still in the cache.

    Only buffers of one kind serve one another: their copies write the same elements, so that what
    is padding stays zero. Lanes that no output is stored from may hold what others left there.
    """

    def __init__(self) -> None:
        self._free: dict[Hashable, list[tuple[ndarray, ndarray]]] = {}

    def take(
        self, kind: Hashable, dtype: np.dtype, shape: Sequence[int]
    ) -> tuple[ndarray, ndarray]:
        """Return a buffer as `allocate` does, used before or new."""
        free = self._free.get((kind, dtype))
        return free.pop() if free else allocate(dtype, *shape)

    def give_back(self, kind: Hashable, taken: tuple[ndarray, ndarray]) -> None:
        """Leave a buffer to whoever takes one of its kind next."""
        self._free.setdefault((kind, taken[1].dtype), []).append(taken)


class Stager:
    """Stages the operands of one layer, each of them once: widened to binary32, or as they are.

    What an earlier step has staged is not staged again: the forward step is bound and run before
    the backward steps that read the same tensors.

    Parameters
    ----------
    arithmetic : Arithmetic
    cores : int
        Cores of the device, whose share of a matmul may decide its order.
    buffers : Buffers or None
        Shared with other layers, whose steps are bound in the order they run in.
    """

    def __init__(self, arithmetic: Arithmetic, cores: int, buffers: Buffers | None = None) -> None:
        self.arithmetic = arithmetic
        self.step = step_of(arithmetic)
        self.cores = cores
        self._buffers = buffers or Buffers()
        self._staged: dict[tuple[Hashable, np.dtype, int, int], tuple[ndarray, ndarray]] = {}

    def release(self) -> None:
        """Leave the buffers to other layers: the last step that reads them has been bound."""
        for (kind, *_), taken in self._staged.items():
            self._buffers.give_back(kind, taken)
        self._staged.clear()

    def stage(
        self,
        kind: Hashable,
        source: ndarray,
        shape: Sequence[int],
        copies: Callable[[ndarray], list[Copy]],
        guard: ndarray | None = None,
        step: Step | None = None,
        negative: bool = False,
        stored: bool = False,
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Return the buffer of ``shape`` that holds ``source`` and the operations that fill it.

        Parameters
        ----------
        kind : hashable
            Equal for buffers of the same shape of which the same elements are written.
        copies : callable
            Maps the shaped buffer to the copies between the source and it.
        guard : ndarray or None
            One int32: the operations do nothing while it is zero.
        step : Step or None
            Whose operand it is; None is the arithmetic's.
        negative : bool
            Whether what no copy writes is -0 instead of +0.
        stored : bool
            Whether elements stay as they are stored, in 16 bits, whatever a step takes.
        """
        dtype = source.dtype if stored else (self.step if step is None else step).operand
        key = (kind, dtype, address_of(source), 0 if guard is None else address_of(guard))
        for staged in ((*key[:3], 0), key):
            if staged in self._staged:
                return self._staged[staged][1], ()
        view, buffer = self._staged[key] = self._buffers.take(kind, dtype, shape)
        if negative:
            buffer[:] = -0.0
        code, cores = self.arithmetic.code, self.cores
        return buffer, tuple(
            _bind_walk(
                *("stage", source, copy.source, buffer, copy.target, code, cores, guard),
                (_distance(copy.target, copy.odd), copy.row),
            )
            for copy in copies(view)
            if copy.source.size
        )

    def scratch(self, number: int, dtype: np.dtype, *shape: int) -> ndarray:
        """Return a tensor for what a layer's steps hand on to one another; one for each number."""
        kind = "scratch", number, shape
        key = (kind, dtype, 0, 0)
        if key not in self._staged:
            self._staged[key] = self._buffers.take(kind, dtype, shape)
        return self._staged[key][0]

    def flat(
        self, source: ndarray, step: Step | None = None, guard: ndarray | None = None
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Stage a tensor as it lies."""

        def copies(view: ndarray) -> list[Copy]:
            return [Copy(source.reshape(-1), view)]

        return self.stage(("flat", source.size), source, [source.size], copies, guard, step)

    def left(
        self, source: ndarray, step: Step | None = None, guard: ndarray | None = None
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Stage a tensor as it lies for operand a, of which kernels read no more than its elements.

        It is not staged at all where the step takes what is stored.
        """
        if source.dtype == (self.step if step is None else step).operand:
            return source.reshape(-1), ()
        return self.flat(source, step, guard)

    def transposed(
        self,
        source: ndarray,
        rows: int,
        padded_rows: int | None = None,
        guard: ndarray | None = None,
        *,
        stored: bool = False,
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Stage a tensor, taken as a matrix of ``rows`` rows, transposed; its rows become lanes."""
        matrix = source.reshape(rows, -1)
        shape = (matrix.shape[1], padded_rows or rows)
        kind = "transposed", rows, *shape

        def copies(view: ndarray) -> list[Copy]:
            return [Copy(matrix.T, view[:, :rows])]

        return self.stage(kind, source, shape, copies, guard, stored=stored)

    def channels_last(
        self,
        weights: ndarray,
        step: Step | None = None,
        guard: ndarray | None = None,
        *,
        stored: bool = False,
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Stage weights (out channels, channels, kernel) with their input channels as lanes."""
        planes = weights.reshape(*weights.shape[:2], -1).transpose(0, 2, 1)
        kind = "channels last", *planes.shape

        def copies(view: ndarray) -> list[Copy]:  # one matrix after the other, transposed
            return [Copy(planes[:, None], view[:, None])]

        return self.stage(kind, weights, planes.shape, copies, guard, step, stored=stored)

    def panels(
        self, source: ndarray, matrix: ndarray, width: int, guard: ndarray | None = None
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Stage a (K, M) view of ``source`` in panels of ``width`` columns, each (K, width).

        A tile then reads one panel from end to end, whatever M is.
        """
        k, m = matrix.shape
        full = m // width

        def copies(view: ndarray) -> list[Copy]:
            whole = matrix[:, : full * width].reshape(k, full, width).transpose(1, 0, 2)
            rest = matrix[:, full * width :]
            return [Copy(whole, view[:full]), Copy(rest, view[-1, :, : m - full * width])]

        shape = (-(-m // width), k, width)
        return self.stage(("panels", k, m, width), source, shape, copies, guard)
