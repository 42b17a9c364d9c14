"""Which output of a matmul is summed in which order: the one description of all kernels.

A cluster kernel is a name, the dimension it divides over cores and its fall-backs; what it leaves
in the bits is a reduction order per rectangle of the output (docs/numerics.md, section 3).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["MATMUL_KERNELS", "MATVEC_KERNELS", "Order", "Region", "matmul_regions", "resolve"]


class Order(IntEnum):
    """A reduction order; the numbers are ``enum pyodl_order``'s."""

    SEQUENTIAL = 0
    PRODUCT = 1
    LANES_SPLIT = 2
    LANES_INTO_0 = 3


@dataclass(frozen=True)
class Region:
    """Rows ``[rows[0], rows[1])`` by columns ``[columns[0], columns[1])``, summed in one order."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    order: Order

    @property
    def outputs(self) -> int:
        """How many outputs it has."""
        return (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])

    def transposed(self) -> "Region":
        """Return the region with rows and columns exchanged."""
        return Region(self.columns, self.rows, self.order)


def _down(size: int, multiple: int) -> int:
    return size - size % multiple


@dataclass(frozen=True)
class _Kernel:
    """What is known of one kernel of the cluster.

    ``too_small(n, k, m, cores)`` tells when ``fallback`` runs instead. The rest describes B
    transposed: the order of the vector loop, by how many columns it steps and whether it leaves
    an odd last row out; what is left is summed sequentially.
    """

    fallback: str | None = None
    too_small: Callable[[int, int, int, int], bool] = lambda n, k, m, cores: False
    transposed: Order = Order.SEQUENTIAL
    columns: int = 1
    pairs_rows: bool = False


_KERNELS = {  # in the order of TrainLib's matmul_type
    "naive": _Kernel(),
    "naive_m": _Kernel(),
    "simd_2x4": _Kernel("naive", lambda n, k, m, p: m < 2 or k < 2, Order.LANES_SPLIT, 2),
    "simd_4x8": _Kernel(
        "simd_2x4",
        lambda n, k, m, p: _down(m, 4) < 4 or _down(k, 2) < 2 or _down(n, 2) // p < 2,
        Order.LANES_INTO_0,
        4,
    ),
    "m_simd_2x4": _Kernel(
        "naive", lambda n, k, m, p: _down(m, 2) < 2 or k < 2, Order.LANES_SPLIT, 2
    ),
    "m_simd_4x8": _Kernel(
        "m_simd_2x4",
        lambda n, k, m, p: _down(m, 4) // p < 4 or _down(k, 2) < 2 or _down(n, 2) < 2,
        Order.LANES_INTO_0,
        4,
        pairs_rows=True,
    ),
    "unroll_2x1": _Kernel("naive", lambda n, k, m, p: n // p < 2),
    "unroll_4x1": _Kernel("unroll_2x1", lambda n, k, m, p: _down(n, 4) // p < 4),
    "unroll_8x1": _Kernel("unroll_4x1", lambda n, k, m, p: _down(n, 8) // p < 8),
}

MATMUL_KERNELS = tuple(_KERNELS)
MATVEC_KERNELS = ("simd_2x1", "simd_4x1", "simd_8x1")


def resolve(kernel: str, n: int, k: int, m: int, cores: int) -> str:
    """Return the kernel that really runs for ``kernel`` on (N, K) x (K, M) with so many cores."""
    found = _KERNELS[kernel]
    while found.fallback is not None and found.too_small(n, k, m, cores):
        kernel, found = found.fallback, _KERNELS[found.fallback]
    return kernel


def is_sequential(regions: Iterable[Region]) -> bool:
    """Whether every sum takes its terms in order, from +0 on."""
    return all(region.order is Order.SEQUENTIAL for region in regions)


def matmul_regions(
    kernel: str, n: int, k: int, m: int, *, transpose_b: bool, cores: int
) -> tuple[Region, ...]:
    """Return the regions that cover the (N, M) output once, each with its reduction order."""
    kernel = resolve(kernel, n, k, m, cores)
    found = _KERNELS[kernel]
    if kernel == "naive" and k == 1:
        return (Region((0, n), (0, m), Order.PRODUCT),)
    if not transpose_b or found.transposed is Order.SEQUENTIAL:
        return (Region((0, n), (0, m), Order.SEQUENTIAL),)
    rows = _down(n, 2) if found.pairs_rows else n
    columns = _down(m, found.columns)
    regions = (
        Region((0, rows), (0, columns), found.transposed),
        Region((0, rows), (columns, m), Order.SEQUENTIAL),
        Region((rows, n), (0, m), Order.SEQUENTIAL),
    )
    return tuple(r for r in regions if r.rows[0] < r.rows[1] and r.columns[0] < r.columns[1])


def matvec_regions(n: int, k: int, *, cores: int) -> tuple[Region, ...]:
    """Return the regions of a matrix-vector kernel: a core with one row runs ``naive`` on it."""
    block = -(-n // cores)
    last = (n - 1) // block * block  # first row of the last block that has any
    alone = last if n - last < 2 else n
    if block < 2:
        alone = 0
    naive = Order.PRODUCT if k == 1 else Order.SEQUENTIAL
    regions = (
        Region((0, alone), (0, 1), Order.LANES_INTO_0),
        Region((alone, n), (0, 1), naive),
    )
    return tuple(r for r in regions if r.rows[0] < r.rows[1])
