"""From offsets to a bound contraction: registers of columns, tiles, and what padding means.

A primitive says where the operands of output (row, column) lie (`Offsets`) and in which order each
region of the output is summed; this module cuts the output into register tiles. Tiles never change
a bit: k is not cut, and every output has one owner.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import accumulate, product

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike

from pyodl._kernels import SHAPES, Operation, bind
from pyodl.arithmetic import Arithmetic
from pyodl.primitives._orders import Order, Region
from pyodl.primitives._steps import Step, step_of

__all__ = [
    "Offsets",
    "Padding",
    "Plan",
    "bind_contraction",
    "kernel_table",
    "plan",
]


class Padding(IntEnum):
    """What a contraction does about padding; the numbers are the kernel's."""

    MULTIPLIED = 0
    SKIPPED_IN_A = 1
    SKIPPED_IN_B = 2
    LEFT_OUT = 3


class Finish(IntEnum):
    """How a tile may be stored; the numbers are ``enum pyodl_finish``'s."""

    APART = 0
    STRAIGHT = 1
    TRANSPOSED = 2
    SCATTERED = 3


@dataclass(frozen=True)
class Offsets:
    """Where the operands and results of a contraction lie, in elements of the three buffers.

    ``out[out_row[i] + out_column[j]]`` is the sum over k of
    ``a[a_row[i] + a_k[k]] * b[b_column[j] + b_k[k]]``.

    ``b_column`` increases. ``lane_stride`` is the distance in the output of columns that are
    neighbours in b. ``real`` marks the elements of the padded operand that are not padding.
    """

    a_row: ndarray
    a_k: ndarray
    b_column: ndarray
    b_k: ndarray
    out_row: ndarray
    out_column: ndarray
    lane_stride: int = 1
    padding: Padding = Padding.MULTIPLIED
    real: ndarray | None = None


@dataclass(frozen=True)
class Plan:
    """A contraction cut into tiles: everything but the operands."""

    offsets: Offsets
    regions: tuple[Region, ...]
    tables: tuple[ndarray, ...]  # a_row, a_k, b_k, out_row, registers, segments, tiles
    depth: int
    macs: int
    lanes: int  # outputs in one register
    resumes: bool = False  # sums begin from what the output holds


def _registers(
    offsets: Offsets, columns: tuple[int, int], lanes: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Cover columns with registers and these with segments (lane, count, out).

    A register is (b, out, first segment, segments, padded, count), ``out`` and ``count`` those of
    its first segment.

    A register takes every column that lies within its lanes, so that it may run on over a gap
    such as the padding between two rows of pixels.
    """
    start, stop = columns
    b, out = offsets.b_column[start:stop], offsets.out_column[start:stop]
    breaks = (np.diff(b) != 1) | (np.diff(out) != offsets.lane_stride)
    runs = np.concatenate([[0], np.flatnonzero(breaks) + 1, [stop - start]])
    registers: list[list[int]] = []
    segments: list[list[int]] = []
    first = run = 0
    while first < stop - start:
        base, first_segment = int(b[first]), len(segments)
        last = int(np.searchsorted(b, base + lanes))
        while first < last:
            while runs[run + 1] <= first:
                run += 1
            end = min(int(runs[run + 1]), last)
            segments.append([int(b[first]) - base, end - first, int(out[first])])
            first = end
        padded = _meets_padding(offsets, base, lanes)
        out_column = segments[first_segment][2]
        count = len(segments) - first_segment
        lanes_used = segments[first_segment][1]
        registers.append([base, out_column, first_segment, count, padded, lanes_used])
    return registers, segments


def _finishes(
    offsets: Offsets,
    registers: Sequence[Sequence[int]],
    tiles: Sequence[Sequence[int]],
    lanes: int,
) -> list[Finish]:
    """Return how each tile (row, rows, register, shape, order) may be stored."""
    together = [segments == 1 for _, _, _, segments, _, _ in registers]
    whole = [count == lanes for *_, count in registers]
    gaps = np.concatenate([[0], np.cumsum(np.diff(offsets.out_row) != 1)])

    def finish(row: int, rows: int, register: int, shape: int, order: int) -> Finish:
        most, width, _ = SHAPES[shape]
        taken = slice(register, register + width)
        if order != Order.SEQUENTIAL or rows < most or not all(together[taken]):
            return Finish.APART
        if offsets.lane_stride == 1:
            return Finish.STRAIGHT if all(whole[taken]) else Finish.SCATTERED
        neighbours = gaps[row + rows - 1] == gaps[row]
        return Finish.TRANSPOSED if neighbours else Finish.SCATTERED

    return [finish(*tile) for tile in tiles]


def _spacing(a_row: ndarray) -> int:
    """Return how many rows after one another lie equally far apart in a: 4, 3 or 1 of them."""
    for together in (4, 3):
        whole = a_row[: len(a_row) // together * together].reshape(-1, together)
        apart = np.diff(whole, axis=1)
        if apart.size and (apart == apart[0, 0]).all():
            return together
    return 1


def _meets_padding(offsets: Offsets, base: int, lanes: int) -> int:
    if offsets.real is None:
        return 0
    if offsets.padding is not Padding.SKIPPED_IN_B:
        return 1
    met = offsets.b_k[:, None] + base + np.arange(lanes)
    return int(not offsets.real[met].all())


# The time that an accumulation takes in tiles of each shape, as measured: of rows that are spaced,
# and of those that are not and want an address each.
_EFFORT = {
    (16, 1): (1.4, 1.65),
    (12, 2): (1.05, 1.2),
    (8, 3): (1.0, 1.0),
    (8, 2): (1.06, 1.08),
    (18, 1): (1.38, 1.65),
    (9, 2): (1.03, 1.06),
    (1, 1): (9.0, 9.0),
    (1, 3): (3.6, 3.6),
    (8, 1): (1.6, 1.6),
    (6, 2): (1.05, 1.05),
    (4, 3): (1.0, 1.0),
    (4, 2): (1.1, 1.1),
}


@lru_cache(maxsize=4096)
def _rows_of_tiles(
    rows: int, registers: int, spacing: int
) -> tuple[float, tuple[tuple[int, int, int], ...]]:
    """Cover rows with tiles of so many registers, least work first: (work, (row, rows, shape)).

    ``spacing`` is how many of the rows lie together, equally far apart.
    """
    fit = [
        shape
        for shape, (most, width, together) in enumerate(SHAPES)
        if width == registers and (together != 3 or spacing == 3) and (most > 1 or rows == 1)
    ]

    def work(shapes: Sequence[int]) -> float:
        return sum(
            SHAPES[shape][0] * registers * _EFFORT[SHAPES[shape][:2]][SHAPES[shape][2] != spacing]
            for shape in shapes
        )

    def covers() -> Iterator[list[int]]:
        """Yield covers by one shape, but for up to two tiles of another."""
        for most, other in product(fit, fit):
            for count in range(3 if other != most else 1):
                rest = max(rows - SHAPES[other][0] * count, 0)
                yield [most] * -(-rest // SHAPES[most][0]) + [other] * count

    best = min(covers(), key=work)
    starts = [0, *accumulate(SHAPES[shape][0] for shape in best)]
    tiles = tuple(
        (start, min(stop, rows) - start, shape)
        for start, stop, shape in zip(starts, starts[1:], best, strict=False)
        if start < rows
    )
    return work(best), tiles


def _groups(count: int, rows: int, spacing: int) -> list[tuple[int, int]]:
    """Divide ``count`` registers into groups of 1 to 3, least work first; (first, registers)."""

    def work(widths: Sequence[int]) -> float:
        return sum(_rows_of_tiles(rows, width, spacing)[0] for width in widths)

    most = count // 3  # mostly one of the two widths, whichever is the better
    ways = (
        [3] * threes + [2] * ((count - 3 * threes) // 2) + [1] * ((count - 3 * threes) % 2)
        for threes in {*range(min(most, 2) + 1), *range(max(most - 2, 0), most + 1)}
    )
    best = min(ways, key=work)
    return list(zip(accumulate([0, *best[:-1]]), best, strict=True))


def addressable(elements: int) -> int:
    """Return the size of a tensor, padding included.

    Raises
    ------
    ValueError
        If the kernels' offsets do not reach so far.
    """
    if elements > np.iinfo(np.int32).max:
        raise ValueError(
            f"a tensor has {elements} elements with its padding; it must have fewer than 2**31"
        )
    return elements


def kernel_table(table: ArrayLike) -> ndarray:
    """Return offsets as the kernels take them; raise ValueError if a tensor is too large."""
    wide = np.asarray(table, np.int64)
    addressable(int(wide.max(initial=-1)) + 1)
    return np.ascontiguousarray(wide, np.int32)


def plan(offsets: Offsets, regions: Sequence[Region], lanes: int) -> Plan:
    """Cut a contraction into tiles of registers of so many ``lanes``, region by region."""
    registers: list[list[int]] = []
    segments: list[list[int]] = []
    tiles: list[tuple[int, int, int, int, int]] = []
    spaced: list[int] = []
    for region in regions:
        found, runs = _registers(offsets, region.columns, lanes)
        for register in found:
            register[2] += len(segments)
        first_row, last_row = region.rows
        spacing = _spacing(offsets.a_row[first_row:last_row])
        for first, count in _groups(len(found), last_row - first_row, spacing):
            tiles += [
                (first_row + row, rows, len(registers) + first, shape, int(region.order))
                for row, rows, shape in _rows_of_tiles(last_row - first_row, count, spacing)[1]
            ]
            spaced += [
                int(SHAPES[shape][2] == spacing and (row - first_row) % spacing == 0)
                for row, _, _, shape, _ in tiles[len(spaced) :]
            ]
        registers += found
        segments += runs
    finishes = _finishes(offsets, registers, tiles, lanes)
    tables = (
        *(offsets.a_row, offsets.a_k, offsets.b_k, offsets.out_row),
        *(registers, segments, np.column_stack([tiles, finishes, spaced])),
    )
    depth = len(offsets.a_k)
    return Plan(
        offsets,
        tuple(regions),
        tuple(kernel_table(table) for table in tables),
        depth,
        depth * sum(region.outputs for region in regions),
        lanes,
    )


def bind_contraction(
    name: str,
    plan: Plan,
    a: ndarray,
    b: ndarray,
    out: ndarray,
    arithmetic: Arithmetic,
    *,
    step: Step | None = None,
    flag: ndarray | None = None,
    guarded: bool = False,
) -> Operation:
    """Bind a planned contraction of the staged ``a`` and ``b`` to ``out``.

    Parameters
    ----------
    name : str
        For profiles.
    flag : ndarray or None
        One int32. Padding skipped: whether the operand that meets padding has infinities or NaNs.
        Zeros left out: set by the run if a result is in doubt. Guarded: runs only if it is set.
    """
    a_row, a_k, b_k, out_row, registers, segments, tiles = plan.tables
    step = step_of(arithmetic) if step is None else step
    operation = bind(
        "contract",
        [a, b, a_row, a_k, b_k, out_row, registers, segments, tiles, plan.offsets.real],
        [out, flag],
        [
            plan.depth,
            len(tiles),
            int(step),
            plan.offsets.lane_stride,
            int(plan.offsets.padding),
            int(guarded),
            int(plan.resumes),
            a.size,
            b.size,
        ],
        arithmetic=arithmetic.code,
    )
    operation.name = name
    operation.macs, operation.effort = plan.macs, step.effort
    return operation
