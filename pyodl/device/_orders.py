"""Whether a kernel that is called tile by tile sums in the orders of the whole matrix."""

from functools import lru_cache

from pyodl.device._space import Matmul
from pyodl.primitives._orders import Order, Region, matmul_regions

__all__ = ["same_orders"]


@lru_cache(maxsize=65536)
def same_orders(kernel: str, matmul: Matmul, part: tuple[int, int], cores: int) -> bool:
    """Return whether calls for tiles of ``part`` (N, M) keep the order of every output.

    A kernel's fall-backs and leftovers depend on the N and M that it is called with, so a tile of a
    device may be summed in another order than the same outputs of the whole matrix.
    """
    whole = _regions(kernel, matmul, (matmul.n, matmul.m), cores)
    return all(
        _alike(_regions(kernel, matmul, _size(rows, columns), cores), whole, rows, columns)
        for rows in _blocks(matmul.n, part[0])
        for columns in _blocks(matmul.m, part[1])
    )


def _size(rows: tuple[int, int], columns: tuple[int, int]) -> tuple[int, int]:
    return rows[1] - rows[0], columns[1] - columns[0]


def _blocks(total: int, part: int) -> list[tuple[int, int]]:
    """Return the first and the last three blocks: only there the whole has its leftovers."""
    firsts = range(0, total, part)
    chosen = sorted({*firsts[:1], *firsts[-3:]})
    return [(first, min(first + part, total)) for first in chosen]


def _regions(kernel: str, matmul: Matmul, size: tuple[int, int], cores: int) -> tuple[Region, ...]:
    n, m = size
    return matmul_regions(kernel, n, matmul.k, m, transpose_b=matmul.transpose_b, cores=cores)


def _alike(
    tile: tuple[Region, ...],
    whole: tuple[Region, ...],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> bool:
    """Compare the orders at the corners of all regions within the tile."""
    if len(tile) == len(whole) == 1:
        return tile[0].order == whole[0].order
    height, width = _size(rows, columns)
    moved = [
        (edge - rows[0], other - columns[0])
        for region in whole
        for edge in region.rows
        for other in region.columns
    ]
    own = [(edge, other) for region in tile for edge in region.rows for other in region.columns]
    down = {min(max(edge, 0), height - 1) for edge, _ in moved + own}
    along = {min(max(edge, 0), width - 1) for _, edge in moved + own}
    return all(
        _order(tile, i, j) == _order(whole, i + rows[0], j + columns[0])
        for i in down
        for j in along
    )


def _order(regions: tuple[Region, ...], row: int, column: int) -> Order:
    """Return the order of one output."""
    return next(
        region.order
        for region in regions
        if region.rows[0] <= row < region.rows[1]
        and region.columns[0] <= column < region.columns[1]
    )
