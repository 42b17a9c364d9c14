"""Contractions cut into the tiles of a device: each tile a contraction of its own.

Tiles are cut out of the regions of the whole matrix, so every output keeps the order that it has
there, and tiles that leave K whole cannot change a bit. Where K is cut, every part stores its sums
in the storage format, and the next one begins from them (docs/numerics.md, section 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl.primitives import _check as check
from pyodl.primitives._contraction import Offsets, Plan, plan
from pyodl.primitives._orders import Region

__all__ = ["Cut", "Tile", "TileLike", "blocks", "checked", "cut_of", "cut_plan"]

Range = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """The size of a tile of a step's output, and of the sums in it.

    Parameters
    ----------
    channels : int
        Output channels; the rows of a matrix.
    rows : int
        Rows of an output image; the input channels of a weight gradient (its kernel's rows in
        HWC); elements of a vector of gradients; the columns of a matrix.
    k : int or None
        Terms of the sums in one tile; None leaves K whole. A K that is cut changes bits: every
        part stores its sums in the storage format, and the next part begins from them.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer.
    """

    channels: int
    rows: int
    k: int | None = None

    def __post_init__(self) -> None:
        """Check the sizes."""
        check.integer("tile.channels", self.channels, 1)
        check.integer("tile.rows", self.rows, 1)
        if self.k is not None:
            check.integer("tile.k", self.k, 1)


TileLike = Tile | tuple[int, ...] | None


def checked(tile: Any) -> Tile | None:
    """Return a tile from a `Tile`, a tuple (channels, rows[, k]) or None.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.
    """
    if tile is None or isinstance(tile, Tile):
        return tile
    if not isinstance(tile, tuple | list):
        raise TypeError(f"tile must be a Tile, a tuple or None, not {type(tile).__name__}")
    if len(tile) not in (2, 3):
        raise ValueError(f"tile has {len(tile)} items; it must be (channels, rows) or (.., k)")
    return Tile(*tile)


@dataclass(frozen=True)
class Cut:
    """How a tile cuts a contraction.

    Parameters
    ----------
    tile : Tile
    channels_are_rows : bool
        Whether the output's channels are the rows of the contraction, or its columns.
    columns : int
        Outputs of one row of one channel.
    k : int or None
        Terms in one tile of this contraction; None leaves K whole.
    """

    tile: Tile
    channels_are_rows: bool
    columns: int
    k: int | None = None

    def mirrored(self) -> "Cut":
        """Return the cut of the transposed contraction."""
        return replace(self, channels_are_rows=not self.channels_are_rows)


def cut_of(tile: TileLike, *, channels_are_rows: bool, columns: int = 1) -> Cut | None:
    """Return the cut of a matrix product; None without a tile.

    Raises
    ------
    TypeError, ValueError
        See `checked`.
    """
    found = checked(tile)
    return None if found is None else Cut(found, channels_are_rows, columns, found.k)


def blocks(total: int, size: int) -> list[Range]:
    """Return ``[0, total)`` in ranges of ``size``, the last one shorter."""
    return [(first, min(first + size, total)) for first in range(0, total, size)]


def cut_plan(whole: Plan, cut: Cut | None, row_of: ndarray | None = None) -> tuple[Plan, ...]:
    """Return the contractions of all tiles, in order; the whole one without a cut.

    Parameters
    ----------
    whole : Plan
    cut : Cut or None
    row_of : ndarray or None
        The row of each output along the axis that is not channels, not decreasing. None counts
        ``cut.columns`` outputs to a row.
    """
    if cut is None:
        return (whole,)
    offsets = whole.offsets
    sizes = (len(offsets.a_row), len(offsets.b_column))
    channels, others = sizes if cut.channels_are_rows else sizes[::-1]
    if row_of is None:
        row_of = np.arange(others) // cut.columns
    rows = [
        (int(first), int(last))
        for first, last in (
            np.searchsorted(row_of, span) for span in blocks(int(row_of[-1]) + 1, cut.tile.rows)
        )
    ]
    result: list[Plan] = []
    for taken, other in product(blocks(channels, cut.tile.channels), rows):
        area = (taken, other) if cut.channels_are_rows else (other, taken)
        regions = _within(whole.regions, area)
        if regions:
            result += _parts(plan(offsets, regions, whole.lanes), cut.k)
    return tuple(result)


def _within(regions: Sequence[Region], area: tuple[Range, Range]) -> list[Region]:
    """Return what of the regions lies within rows and columns."""
    found = [
        Region(_both(region.rows, area[0]), _both(region.columns, area[1]), region.order)
        for region in regions
    ]
    return [r for r in found if r.rows[0] < r.rows[1] and r.columns[0] < r.columns[1]]


def _both(a: Range, b: Range) -> Range:
    return max(a[0], b[0]), min(a[1], b[1])


def _parts(tile: Plan, size: int | None) -> list[Plan]:
    """Return a tile in parts of K; all but the first begin from what is stored."""
    if size is None or size >= tile.depth:
        return [tile]
    return [_part(tile, first, last) for first, last in blocks(tile.depth, size)]


def _part(tile: Plan, first: int, last: int) -> Plan:
    a_row, a_k, b_k, *rest = tile.tables
    offsets: Offsets = replace(
        tile.offsets, a_k=tile.offsets.a_k[first:last], b_k=tile.offsets.b_k[first:last]
    )
    return replace(
        tile,
        offsets=offsets,
        tables=(a_row, a_k[first:last], b_k[first:last], *rest),
        depth=last - first,
        macs=tile.macs // tile.depth * (last - first),
        resumes=first > 0,
    )
