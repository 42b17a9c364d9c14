"""What a tile of a step needs: places in L1, and transfers between L2 and L1."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from pyodl.device._space import Operand, Space, Span
from pyodl.device._step import Step
from pyodl.primitives._tiling import Tile

__all__ = ["count_tiles", "dma", "l1_sizes", "size_of"]

_ALIGNMENT = 4  # bytes: the DMA and packed SIMD take words


def size_of(space: Space, tile: Tile) -> tuple[int, int, int]:
    """Return channels, rows and units of K of a tile."""
    return tile.channels, tile.rows, space.k if tile.k is None else tile.k // space.k_unit


def count_tiles(space: Space, size: Sequence[int]) -> tuple[int, int, int]:
    """Return how many tiles there are along channels, rows and K."""
    channels, rows, k = size
    return -(-space.channels // channels), -(-space.rows // rows), -(-space.k // k)


def _total(span: Span, extent: int, size: int) -> tuple[int, int]:
    """Return the sum and the largest of what the parts of ``extent`` need of a span."""
    if span.one_to_one and span.total == extent:
        return extent, min(size, extent)
    return _windows(span, extent, size)


@lru_cache(maxsize=65536)
def _windows(span: Span, extent: int, size: int) -> tuple[int, int]:
    needed = [span.count(first, min(first + size, extent)) for first in range(0, extent, size)]
    return sum(needed), max(needed)


def _loads(step: Step, operand: Operand, size: Sequence[int], outer: str) -> tuple[int, int]:
    """Return bytes and transfers of moving an operand once, in one direction."""
    space, counts = step.space, count_tiles(step.space, size)
    extents = (space.channels, space.rows, space.k)
    spans = (operand.channels, operand.rows, operand.k)
    loops = (0, 1, 2) if outer == "channels" else (1, 0, 2)
    depends = [n for n, loop in enumerate(loops) if spans[loop] is not None and counts[loop] > 1]
    inner = depends[-1] if depends else -1
    elements, transfers = operand.fixed, 1
    for n, loop in enumerate(loops):
        span, count = spans[loop], counts[loop]
        if span is not None:
            elements *= _total(span, extents[loop], size[loop])[0]
        elif n <= inner:
            elements *= count
        transfers *= count if n <= inner else 1
    return elements * operand.element_bytes, transfers


def dma(step: Step, size: Sequence[int], outer: str) -> tuple[int, int]:
    """Return bytes and transfers of all operands in both directions."""
    moved, transfers = 0, 0
    for operand in step.operands:
        directions = operand.loads + operand.stores
        if directions:
            amount, count = _loads(step, operand, size, outer)
            moved += amount * directions
            transfers += count * directions
    return moved, transfers


def l1_sizes(
    step: Step, size: Sequence[int], outer: str, buffers: int
) -> Iterator[tuple[int, int]]:
    """Yield bytes and copies of each operand's buffer: one copy of what is moved once."""
    extents = (step.space.channels, step.space.rows, step.space.k)
    for operand in step.operands:
        piece = operand.fixed * operand.element_bytes
        spans = (operand.channels, operand.rows, operand.k)
        for span, extent, part in zip(spans, extents, size, strict=True):
            if span is not None:
                piece *= _total(span, extent, part)[1]
        moves = operand.loads or operand.stores
        once = not moves or _loads(step, operand, size, outer)[1] == 1
        yield -(-piece // _ALIGNMENT) * _ALIGNMENT, 1 if once else buffers
