"""Tiles of a step that fit L1, and what the DMA moves for them.

A step runs as three nested loops: over its outermost dimension (channels or rows), the other one,
and the parts of K. What a tile needs is brought to L1 when it is not there yet, that is, when an
index that it depends on has changed; outputs go back when they are complete. Where K is cut, the
partial sums stay in the output's buffer, in the storage format, and the next part takes them up.

Each operand of a tile is one transfer: the cluster's DMA moves two-dimensional pieces. Padding is
made by the cores, so it is not moved.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt

from pyodl.device._device import Device
from pyodl.device._orders import same_orders
from pyodl.device._space import Space
from pyodl.device._step import Step
from pyodl.device._traffic import count_tiles, dma, l1_sizes, size_of
from pyodl.primitives import _check as check
from pyodl.primitives._orders import MATMUL_KERNELS
from pyodl.primitives._tiling import Tile

__all__ = [
    "Buffer",
    "Piece",
    "Tile",
    "TilePlan",
    "candidates",
    "fitted",
    "fitting",
    "largest",
    "network_tiles",
    "plan",
]

Range = tuple[int, int]
_ORDERS = ("channels", "rows")
_SLACK = 1.01  # how much more traffic a tile may cost that has the orders of the whole


@dataclass(frozen=True)
class Piece:
    """One tile's place: ranges of output channels, output rows and units of K."""

    channels: Range
    rows: Range
    k: Range


@dataclass(frozen=True)
class Buffer:
    """A place in L1: from ``offset`` on, ``copies`` buffers of ``size`` bytes each."""

    name: str
    offset: int
    size: int
    copies: int


@dataclass(frozen=True)
class TilePlan:
    """A step cut into tiles.

    Parameters
    ----------
    step : Step
    tile : Tile
    outer : {"channels", "rows"}
        The outermost loop; parts of K are innermost.
    buffers : int
        2 if the DMA fills one buffer while the cores work on the other.
    kernel : str
        The matmul kernel that is asked for; "" without a matmul.
    tiles : int
        How many there are.
    l1_bytes : int
        Buffers of all operands of the largest tile.
    dma_bytes, dma_transfers : int
        Between L2 and L1, both directions.
    same_orders : bool
        Whether a device that calls the kernel once per tile sums every output in the order that it
        has in the whole matrix. If not, or if K is cut, that device writes other bits.
    """

    step: Step
    tile: Tile
    outer: str
    buffers: int
    kernel: str
    tiles: int
    l1_bytes: int
    dma_bytes: int
    dma_transfers: int
    same_orders: bool

    @property
    def cuts_k(self) -> bool:
        """Whether partial sums are stored and taken up again."""
        space = self.step.space
        return self.tile.k is not None and self.tile.k < space.k * space.k_unit

    def l1_buffers(self) -> tuple[Buffer, ...]:
        """Return what lies where in L1."""
        found, offset = [], 0
        size = size_of(self.step.space, self.tile)
        sizes = l1_sizes(self.step, size, self.outer, self.buffers)
        for operand, (needed, copies) in zip(self.step.operands, sizes, strict=True):
            found.append(Buffer(operand.name, offset, needed, copies))
            offset += needed * copies
        return tuple(found)

    def pieces(self) -> Iterator[Piece]:
        """Yield the tiles in the order in which they run."""
        space, size = self.step.space, size_of(self.step.space, self.tile)
        channels, rows, k = (
            [(first, min(first + part, total)) for first in range(0, total, part)]
            for part, total in zip(size, (space.channels, space.rows, space.k), strict=True)
        )
        if self.outer == "channels":
            places = ((c, r) for c in channels for r in rows)
        else:
            places = ((c, r) for r in rows for c in channels)
        for c, r in places:
            for part in k:
                yield Piece(c, r, part)


def plan(
    step: Step,
    device: Device,
    *,
    buffers: int | None = None,
    kernel: str | None = None,
    cut_k: bool = False,
) -> TilePlan:
    """Return the tiles that move the fewest bytes, and of those the fewest tiles.

    Among plans within one per cent of the fewest bytes, those with the orders of the whole matrix
    come first (`TilePlan.same_orders`).

    Parameters
    ----------
    step : Step
    device : Device
    buffers : {1, 2} or None
        2 lets the DMA run while the cores work; what is moved once has one buffer. None is 2 where
        that fits L1, else 1.
    kernel : str or None
        A matmul kernel, see `pyodl.primitives.matmul`; None is the layer's.
    cut_k : bool
        Whether K may be cut. That changes bits (docs/numerics.md, section 4).

    Returns
    -------
    TilePlan

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    ValueError
        If no tile fits L1; the message names the layer, the step and by how many bytes.
    """
    nameless = replace(
        step, layer="", operands=tuple(replace(operand, name="") for operand in step.operands)
    )
    found, least = _best(nameless, device, buffers, kernel, cut_k)
    if found is None:
        raise ValueError(
            f"layer {step.layer!r}, {step.step}: the smallest tile needs {least} bytes of L1, "
            f"{least - device.l1_bytes} more than the {device.l1_bytes} of {device.name}"
        )
    return replace(found, step=step)


@lru_cache(maxsize=1024)
def _best(
    step: Step, device: Device, buffers: int | None, kernel: str | None, cut_k: bool
) -> tuple[TilePlan | None, int]:
    """Return the best plan; none and the bytes of the smallest if none fits."""
    for count in (2, 1) if buffers is None else (buffers,):
        fits = [
            (tile, outer, dma(step, size_of(step.space, tile), outer)[0])
            for tile, outer in _loops(step, cut_k=cut_k)
            if _l1_bytes(step, tile, outer, count) <= device.l1_bytes
        ]
        if fits:
            limit = _SLACK * min(moved for _, _, moved in fits)
            contenders = (
                fitted(step, device, tile, outer=outer, buffers=count, kernel=kernel)
                for tile, outer, moved in fits
                if moved <= limit
            )
            best = min(
                contenders, key=lambda c: (not c.same_orders, c.dma_bytes, c.tiles, c.l1_bytes)
            )
            return best, best.l1_bytes
    return None, min(_l1_bytes(step, *how, buffers or 1) for how in _loops(step, cut_k=cut_k))


def candidates(
    step: Step,
    device: Device,
    *,
    buffers: int = 2,
    kernel: str | None = None,
    cut_k: bool = False,
) -> Iterator[TilePlan]:
    """Yield the plans that fit L1.

    Small steps are searched through. Large ones leave out sizes that differ from a smaller one in
    nothing but the last tile, unless they are multiples of 2, 4 or 8.

    Parameters
    ----------
    step, device, kernel, cut_k
        See `plan`.
    buffers : {1, 2}

    Yields
    ------
    TilePlan

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    """
    for tile, outer in fitting(step, device, buffers=buffers, cut_k=cut_k):
        yield fitted(step, device, tile, outer=outer, buffers=buffers, kernel=kernel)


def fitting(
    step: Step, device: Device, *, buffers: int = 2, cut_k: bool = False
) -> Iterator[tuple[Tile, str]]:
    """Yield the tiles of `candidates` with their outermost loops, largest first.

    Parameters
    ----------
    step, device, buffers, cut_k
        See `candidates`.

    Yields
    ------
    Tile
    str
    """
    for tile, outer in _loops(step, cut_k=cut_k):
        if _l1_bytes(step, tile, outer, buffers) <= device.l1_bytes:
            yield tile, outer


def largest(step: Step, device: Device, *, buffers: int = 2) -> Iterator[tuple[Tile, str]]:
    """Yield the tiles of `fitting` that no other of them contains.

    Parameters
    ----------
    step, device, buffers
        See `candidates`.

    Yields
    ------
    Tile
    str
    """
    space = step.space
    every = space.channels * space.rows <= _SMALL
    rows = _extents(space.rows, every=every)
    one_loop = space.channels == 1 or space.rows == 1
    for outer in _ORDERS[:1] if one_loop else _ORDERS:
        smaller = len(rows)  # sizes before this one are yet to be reached
        for channels in _extents(space.channels, every=every):
            before = smaller
            while smaller and device.l1_bytes >= _l1_bytes(
                step, Tile(channels, rows[smaller - 1]), outer, buffers
            ):
                smaller -= 1
            if smaller < before:
                yield Tile(channels, rows[smaller]), outer
            if not smaller:
                break


def _loops(step: Step, *, cut_k: bool) -> Iterator[tuple[Tile, str]]:
    """Yield every tile and order of loops; one order where both are the same."""
    space = step.space
    every = space.channels * space.rows <= _SMALL
    for channels in _extents(space.channels, every=every):
        for rows in _extents(space.rows, every=every):
            one_loop = channels == space.channels or rows == space.rows
            for k in _parts(space, cut_k=cut_k):
                for outer in _ORDERS[:1] if one_loop else _ORDERS:
                    yield Tile(channels, rows, k), outer


def fitted(
    step: Step,
    device: Device,
    tile: Tile,
    *,
    outer: str = "channels",
    buffers: int = 2,
    kernel: str | None = None,
) -> TilePlan:
    """Return the plan of one tile size, whether it fits L1 or not.

    Parameters
    ----------
    step, device, buffers, kernel
        See `plan`.
    tile : Tile
    outer : {"channels", "rows"}

    Returns
    -------
    TilePlan

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    """
    check.integer("buffers", buffers, 1)
    if buffers > 2:
        raise ValueError(f"buffers is {buffers}; it must be 1 or 2")
    chosen = step.kernel if kernel is None else check.choice("kernel", kernel, MATMUL_KERNELS)
    size = size_of(step.space, tile)
    dma_bytes, dma_transfers = dma(step, size, outer)
    counts = count_tiles(step.space, size)
    found = TilePlan(
        *(step, tile, outer, buffers, chosen if step.matmul else ""),
        tiles=counts[0] * counts[1] * counts[2],
        l1_bytes=_l1_bytes(step, tile, outer, buffers),
        dma_bytes=dma_bytes,
        dma_transfers=dma_transfers,
        same_orders=False,
    )
    if found.cuts_k:
        return found
    if step.matmul is None:
        return replace(found, same_orders=True)
    part = (tile.channels, tile.rows * step.space.columns)
    return replace(found, same_orders=same_orders(chosen, step.matmul, part, device.cores))


def network_tiles(plans: Iterable[TilePlan]) -> dict[tuple[str, str], Tile]:
    """Return the tiles of plans as `pyodl.Network.tiles` takes them.

    Parameters
    ----------
    plans : iterable of TilePlan
        Those of steps without multiply-accumulates are left out: their outputs are computed one by
        one, whatever the tile.

    Returns
    -------
    dict
        {(layer, step): tile}
    """
    return {(found.step.layer, found.step.step): found.tile for found in plans if found.step.macs}


_SMALL = 256  # places up to which every size is tried
_LARGE = 1024  # rows or channels from which few of the small sizes are


@lru_cache(maxsize=4096)
def _extents(total: int, *, every: bool) -> tuple[int, ...]:
    """Return the sizes to try, largest first."""
    if every:
        return tuple(range(total, 0, -1))
    root = isqrt(total)
    sizes = {-(-total // n) for n in range(1, root + 2)}
    sizes |= (
        set(range(1, root + 1)) if total <= _LARGE else {2**n for n in range(root.bit_length())}
    )
    sizes |= {n for step in (2, 4, 8) for n in _multiples(sizes, step)}
    return tuple(sorted((n for n in sizes if n <= total), reverse=True))


def _multiples(sizes: set[int], step: int) -> set[int]:
    """Return the sizes rounded up and down to a multiple."""
    return {n - n % step for n in sizes if n >= step} | {n + -n % step for n in sizes}


def _parts(space: Space, *, cut_k: bool) -> list[int | None]:
    """Return the terms of K that a tile may have."""
    whole: list[int | None] = [None]
    if not cut_k:
        return whole
    return whole + [n * space.k_unit for n in _extents(space.k, every=space.k <= 64) if n < space.k]


def _l1_bytes(step: Step, tile: Tile, outer: str, buffers: int) -> int:
    """Return the bytes of all buffers of the largest tile."""
    return sum(
        size * count for size, count in l1_sizes(step, size_of(step.space, tile), outer, buffers)
    )
