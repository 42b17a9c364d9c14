"""A matrix product of strided operands, bound."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation
from pyodl.arithmetic import Arithmetic
from pyodl.primitives._contraction import Offsets, Plan, bind_contraction, plan
from pyodl.primitives._orders import Order, Region
from pyodl.primitives._staging import Stager, allocate
from pyodl.primitives._steps import Step, step_of
from pyodl.primitives._tiling import Cut, cut_plan

__all__ = ["Product", "bind_pixel_sums", "bind_product"]


@dataclass(frozen=True)
class Product:
    """out (N, M) = a (N, K) x b (K, M), each with its strides in elements.

    Where columns of b are not neighbours, rows of a are taken as lanes instead, or the smaller
    operand is staged transposed. ``zeros_in_b``: b is what a ReLU leaves, and a is not.
    """

    n: int
    k: int
    m: int
    a: tuple[int, int]
    b: tuple[int, int]
    out: tuple[int, int]
    regions: tuple[Region, ...]
    zeros_in_b: bool = False
    lanes: int = Step.EXACT_PRODUCT.lanes  # outputs in one register

    def leaves_out_zeros(self, step: Step) -> bool:
        """Whether to take rows of a as lanes, so that zeros of b are left out."""
        return self.zeros_in_b and 4 * (-self.n % step.lanes) <= self.n and step.lists_terms

    @property
    def lanes_are_columns(self) -> bool:
        """Whether lanes run along M."""
        if self.b[1] == 1 or self.m == 1:
            return True
        if self.a[0] == 1 or self.n == 1:
            return False
        return self.k * self.m <= self.n * self.k

    @property
    def columns_are_neighbours(self) -> bool:
        """Whether b is read as it lies, but for its width."""
        return self.b[1] == 1 or self.m == 1

    @property
    def wants_panels(self) -> bool:
        """Whether b is too large for the L1 cache, so that its rows should not be far apart."""
        return self.m > self.panel and self.k * self.m > _CACHED

    @property
    def panel(self) -> int:
        """The columns of a full tile."""
        return 3 * self.lanes

    def mirrored(self) -> "Product":
        """Return the transposed product, which sums the same terms."""
        return Product(
            *(self.m, self.k, self.n),
            *(self.b[::-1], self.a[::-1], self.out[::-1]),
            tuple(region.transposed() for region in self.regions),
            lanes=self.lanes,
        )


_CACHED = 8192  # elements of b that the L1 cache holds beside a


@lru_cache(maxsize=256)
def _plan(product: Product) -> Plan:
    n, k, m = product.n, product.k, product.m
    columns = np.arange(m)
    if product.wants_panels:
        panel = product.panel
        places, step = columns // panel * k * panel + columns % panel, panel
    else:
        places, step = columns, product.b[0] if product.columns_are_neighbours else m
    return plan(
        Offsets(
            *(np.arange(n) * product.a[0], np.arange(k) * product.a[1]),
            *(places, np.arange(k) * step),
            *(np.arange(n) * product.out[0], columns * product.out[1]),
            lane_stride=product.out[1],
        ),
        product.regions,
        product.lanes,
    )


@lru_cache(maxsize=256)
def _tiles(product: Product, cut: Cut | None) -> tuple[Plan, ...]:
    return cut_plan(_plan(product), cut)


def bind_product(
    name: str,
    product: Product,
    a: ndarray,
    b: ndarray,
    out: ndarray,
    arithmetic: Arithmetic,
    cores: int,
    stager: Stager | None = None,
    cut: Cut | None = None,
    guard: ndarray | None = None,
) -> list[Operation]:
    """Bind the staging of both operands, where ``stager`` has not done it yet, and the product.

    ``cut`` cuts the product into tiles, one operation each. ``guard`` is one int32: nothing runs
    while it is zero.
    """
    step = step_of(arithmetic)
    product = replace(product, lanes=step.lanes)
    if not product.lanes_are_columns or product.leaves_out_zeros(step):
        product, a, b = product.mirrored(), b, a
        cut = cut and cut.mirrored()
    stager = stager or Stager(arithmetic, cores)
    left, stage_left = stager.left(a, guard=guard)
    if product.wants_panels:
        rows, columns = product.k, product.m
        neighbours = product.columns_are_neighbours
        matrix = b.reshape(rows, columns) if neighbours else b.reshape(columns, rows).T
        right, stage_right = stager.panels(b, matrix, product.panel, guard)
    elif product.columns_are_neighbours:
        right, stage_right = stager.flat(b, guard=guard)
    else:
        right, stage_right = stager.transposed(b, product.m, guard=guard)
    contractions = [
        bind_contraction(
            *(name, tile, left, right, out, arithmetic), flag=guard, guarded=guard is not None
        )
        for tile in _tiles(product, cut)
    ]
    return [*stage_left, *stage_right, *contractions]


@lru_cache
def _one(step: Step) -> ndarray:
    one = allocate(step.operand, 1)[1]
    one[:] = 1
    return one


@lru_cache(maxsize=256)
def _sums_plan(channels: int, pixels: tuple[int, ...], width: int) -> Plan:
    one, lanes = np.zeros(1, np.int64), np.arange(channels)
    regions = (Region((0, 1), (0, channels), Order.SEQUENTIAL),)
    terms = np.array(pixels, np.int64)
    offsets = Offsets(one, np.zeros(len(pixels), np.int64), lanes, terms, one, lanes)
    return plan(offsets, regions, width)


def bind_sums(
    terms: ndarray, pixels: tuple[int, ...], db: ndarray, stager: Stager
) -> list[Operation]:
    """Bind the gradient of a bias: the sum of staged (pixel, channel) terms, pixel by pixel.

    It is a product with a row of ones, each of whose products is exact. ``pixels`` are where they
    begin.
    """
    step = stager.step.of_exact_products
    sums = _sums_plan(db.size, pixels, step.lanes)
    one, arithmetic = _one(step), stager.arithmetic
    return [bind_contraction("bias gradient", sums, one, terms, db, arithmetic, step=step)]


def bind_pixel_sums(
    dy: ndarray, db: ndarray, layout: str, stager: Stager, pitch: int | None = None
) -> list[Operation]:
    """Bind the gradient of a bias: the sum of ``dy`` over its pixels, in order.

    ``pitch`` is the distance of pixels where the stager has ``dy`` transposed for somebody else.
    """
    channels, pixels = db.size, dy.size // db.size
    if layout == "CHW":
        terms, stage = stager.transposed(dy, channels, pitch)
    else:
        terms, stage = stager.flat(dy)
    places = tuple(range(0, pixels * (pitch or channels), pitch or channels))
    return [*stage, *bind_sums(terms, places, db, stager)]
