"""A matrix product of strided operands, bound."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation
from pyodl.arithmetic import Arithmetic
from pyodl.primitives._contraction import Offsets, Plan, bind_contraction, plan
from pyodl.primitives._orders import Region
from pyodl.primitives._staging import Stager

__all__ = ["Product", "bind_product"]


@dataclass(frozen=True)
class Product:
    """out (N, M) = a (N, K) x b (K, M), each with its strides in elements.

    Where columns of b are not neighbours, rows of a are taken as lanes instead, or the smaller
    operand is widened transposed.
    """

    n: int
    k: int
    m: int
    a: tuple[int, int]
    b: tuple[int, int]
    out: tuple[int, int]
    regions: tuple[Region, ...]

    @property
    def lanes_are_columns(self) -> bool:
        """Whether lanes run along M."""
        if self.b[1] == 1 or self.m == 1:
            return True
        if self.a[0] == 1 or self.n == 1:
            return False
        return self.k * self.m <= self.n * self.k

    def mirrored(self) -> "Product":
        """Return the transposed product, which sums the same terms."""
        return Product(
            *(self.m, self.k, self.n),
            *(self.b[::-1], self.a[::-1], self.out[::-1]),
            tuple(region.transposed() for region in self.regions),
        )


@lru_cache(maxsize=256)
def _plan(product: Product) -> Plan:
    n, k, m = product.n, product.k, product.m
    columns = np.arange(m)
    return plan(
        Offsets(
            *(np.arange(n) * product.a[0], np.arange(k) * product.a[1]),
            *(columns, np.arange(k) * (product.b[0] if product.b[1] == 1 or m == 1 else m)),
            *(np.arange(n) * product.out[0], columns * product.out[1]),
            lane_stride=product.out[1],
        ),
        product.regions,
    )


def bind_product(
    name: str,
    product: Product,
    a: ndarray,
    b: ndarray,
    out: ndarray,
    arithmetic: Arithmetic,
    cores: int,
) -> list[Operation]:
    """Bind the widening of both operands and their product."""
    if not product.lanes_are_columns:
        product, a, b = product.mirrored(), b, a
    stager = Stager(arithmetic, cores)
    left, widen_left = stager.flat(a)
    if product.b[1] == 1 or product.m == 1:
        right, widen_right = stager.flat(b)
    else:
        right, widen_right = stager.transposed(b, product.m)
    contraction = bind_contraction(name, _plan(product), left, right, out, arithmetic)
    return [*widen_left, *widen_right, contraction]
