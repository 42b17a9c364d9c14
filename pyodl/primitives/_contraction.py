"""From offsets to a bound contraction: registers of columns, tiles, and what padding means.

A primitive says where the operands of output (row, column) lie (`Offsets`) and in which order each
region of the output is summed; this module cuts the output into register tiles. Tiles never change
a bit: k is not cut, and every output has one owner.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike

from pyodl._kernels import LANES, LISTS_TERMS, SHAPES, Operation, bind
from pyodl.arithmetic import ARITHMETICS, Arithmetic
from pyodl.primitives._orders import Order, Region

__all__ = [
    "Offsets",
    "Padding",
    "Plan",
    "Step",
    "bind_contraction",
    "kernel_table",
    "lists_terms",
    "plan",
    "step_of",
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


class Step(IntEnum):
    """One accumulation; the numbers are ``enum pyodl_step``'s."""

    EXACT_PRODUCT = 0
    FMA32 = 1
    HALF_FMA = 2
    HALF_MULADD = 3
    BFLOAT_FMA = 4
    HALF_VIA32 = 5
    BFLOAT_VIA32 = 6


_STEPS = dict(
    zip(
        ARITHMETICS,
        (
            Step.EXACT_PRODUCT,
            Step.HALF_FMA,
            Step.HALF_MULADD,
            Step.FMA32,
            Step.BFLOAT_FMA,
            Step.FMA32,
        ),
        strict=True,
    )
)
_VIA32 = {"float16": Step.HALF_VIA32, "bfloat16": Step.BFLOAT_VIA32}


def step_of(arithmetic: Arithmetic, *, via32: bool = False) -> Step:
    """Return the step of an arithmetic; ``via32`` where the firmware goes through a float.

    That detour is only taken with a 16-bit accumulator (docs/numerics.md, section 5, direct
    convolution).
    """
    if via32 and arithmetic.accumulator.name in _VIA32:
        return _VIA32[arithmetic.accumulator.name]
    return _STEPS[arithmetic.name]


def lists_terms(arithmetic: Arithmetic) -> bool:
    """Whether contractions leave out the zeros of a: where a step costs many instructions."""
    return LISTS_TERMS[step_of(arithmetic)]


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
    resumes: bool = False  # sums begin from what the output holds


def _registers(
    offsets: Offsets, columns: tuple[int, int]
) -> tuple[list[list[int]], list[list[int]]]:
    """Cover columns with registers and these with segments (lane, count, out).

    A register is (b, out, first segment, segments, padded), ``out`` that of its first segment.

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
        last = int(np.searchsorted(b, base + LANES))
        while first < last:
            while runs[run + 1] <= first:
                run += 1
            end = min(int(runs[run + 1]), last)
            segments.append([int(b[first]) - base, end - first, int(out[first])])
            first = end
        padded = _meets_padding(offsets, base)
        out_column = segments[first_segment][2]
        count = len(segments) - first_segment
        registers.append([base, out_column, first_segment, count, padded])
    return registers, segments


def _finishes(
    offsets: Offsets,
    registers: Sequence[Sequence[int]],
    segments: Sequence[Sequence[int]],
    tiles: Sequence[Sequence[int]],
) -> list[Finish]:
    """Return how each tile (row, rows, register, shape, order) may be stored."""
    whole = [count == 1 and segments[first][1] == LANES for _, _, first, count, _ in registers]
    gaps = np.concatenate([[0], np.cumsum(np.diff(offsets.out_row) != 1)])

    def finish(row: int, rows: int, register: int, shape: int, order: int) -> Finish:
        most, width = SHAPES[shape]
        if order != Order.SEQUENTIAL or rows < most or not all(whole[register : register + width]):
            return Finish.APART
        if offsets.lane_stride == 1:
            return Finish.STRAIGHT
        neighbours = gaps[row + rows - 1] == gaps[row]
        return Finish.TRANSPOSED if neighbours else Finish.SCATTERED

    return [finish(*tile) for tile in tiles]


def _meets_padding(offsets: Offsets, base: int) -> int:
    if offsets.real is None:
        return 0
    if offsets.padding is not Padding.SKIPPED_IN_B:
        return 1
    lanes = offsets.b_k[:, None] + base + np.arange(LANES)
    return int(not offsets.real[lanes].all())


_EFFORT = (1.6, 1.05, 1.0, 1.1)  # measured time of an accumulation in tiles of each of SHAPES


@lru_cache(maxsize=4096)
def _rows_of_tiles(rows: int, registers: int) -> tuple[float, tuple[tuple[int, int, int], ...]]:
    """Cover rows with tiles of so many registers, least work first: (work, (row, rows, shape))."""
    high, *low = (shape for shape, (_, width) in enumerate(SHAPES) if width == registers)
    most = SHAPES[high][0]

    def cover(lower: int) -> list[int]:
        rest = rows - sum(SHAPES[shape][0] for shape in low) * lower
        return [high] * -(-max(rest, 0) // most) + low * lower

    def work(shapes: Sequence[int]) -> float:
        return sum(SHAPES[shape][0] * registers * _EFFORT[shape] for shape in shapes)

    best = min((cover(lower) for lower in range(3 if low else 1)), key=work)
    starts = [0, *accumulate(SHAPES[shape][0] for shape in best)]
    tiles = tuple(
        (start, min(stop, rows) - start, shape)
        for start, stop, shape in zip(starts, starts[1:], best, strict=False)
        if start < rows
    )
    return work(best), tiles


def _groups(count: int, rows: int) -> list[tuple[int, int]]:
    """Divide ``count`` registers into groups of 1 to 3, least work first; (first, registers)."""

    def work(widths: Sequence[int]) -> float:
        return sum(_rows_of_tiles(rows, width)[0] for width in widths)

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


def plan(offsets: Offsets, regions: Sequence[Region]) -> Plan:
    """Cut a contraction into tiles, region by region."""
    registers: list[list[int]] = []
    segments: list[list[int]] = []
    tiles: list[tuple[int, int, int, int, int]] = []
    for region in regions:
        found, runs = _registers(offsets, region.columns)
        for register in found:
            register[2] += len(segments)
        first_row, last_row = region.rows
        for first, count in _groups(len(found), last_row - first_row):
            tiles += [
                (first_row + row, rows, len(registers) + first, shape, int(region.order))
                for row, rows, shape in _rows_of_tiles(last_row - first_row, count)[1]
            ]
        registers += found
        segments += runs
    finishes = _finishes(offsets, registers, segments, tiles)
    tables = (
        *(offsets.a_row, offsets.a_k, offsets.b_k, offsets.out_row),
        *(registers, segments, np.column_stack([tiles, finishes])),
    )
    depth = len(offsets.a_k)
    return Plan(
        offsets,
        tuple(regions),
        tuple(kernel_table(table) for table in tables),
        depth,
        depth * sum(region.outputs for region in regions),
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
    """Bind a planned contraction of the floats ``a`` and ``b`` to ``out``.

    Parameters
    ----------
    name : str
        For profiles.
    flag : ndarray or None
        One int32. Padding skipped: whether the operand that meets padding has infinities or NaNs.
        Zeros left out: set by the run if a result is in doubt. Guarded: runs only if it is set.
    """
    a_row, a_k, b_k, out_row, registers, segments, tiles = plan.tables
    operation = bind(
        "contract",
        [a, b, a_row, a_k, b_k, out_row, registers, segments, tiles, plan.offsets.real],
        [out, flag],
        [
            plan.depth,
            len(tiles),
            int(step_of(arithmetic) if step is None else step),
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
    operation.macs = plan.macs
    operation.guarded = guarded
    return operation
