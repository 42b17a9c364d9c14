"""The three steps of a convolution, bound: widen the operands, then contract them."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.arithmetic import Arithmetic
from pyodl.primitives._contraction import Padding, Plan, bind_contraction, plan, step_of
from pyodl.primitives._geometry import (
    Convolution,
    Image,
    forward_offsets,
    input_grad_offsets,
    input_grad_phase_offsets,
    input_grad_phases,
    spread_gradient,
    weight_grad_offsets,
)
from pyodl.primitives._matmul import bind_pixel_sums
from pyodl.primitives._orders import Order, Region, matmul_regions
from pyodl.primitives._staging import Stager

__all__ = ["BoundConvolution"]


class BoundConvolution:
    """Binds the steps of one convolution to arrays.

    Each method returns the operations to run, in order. An operand that an earlier step of the
    same object has widened is not widened again (`Stager`).

    Parameters
    ----------
    conv : Convolution
    arithmetic : Arithmetic
    algorithm : {"im2row", "direct"}
    kernel : str
        Matmul kernel, for im2row.
    cores : int
        Cores of the device.
    """

    def __init__(
        self, conv: Convolution, arithmetic: Arithmetic, *, algorithm: str, kernel: str, cores: int
    ) -> None:
        self.conv = conv
        self.arithmetic = arithmetic
        self._stager = Stager(arithmetic, cores)
        self._direct = algorithm == "direct"
        self._key = (conv, algorithm, kernel, cores)

    def forward(self, x: ndarray, w: ndarray, out: ndarray) -> list[Operation]:
        """``out`` = x * w, without bias."""
        image, operations = self._image(x, self.conv.image)
        if self.conv.layout == "CHW":
            weights, widen = self._stager.flat(w)
            operands = (weights, image)
        else:
            weights, widen = self._stager.transposed(w, self.conv.out_channels)
            operands = (image, weights)
        flag, check = self._nonfinite(w, forward_plan(*self._key))
        return [
            *(*operations, *widen, *check),
            bind_contraction(
                "conv2d forward",
                forward_plan(*self._key),
                *operands,
                out,
                self.arithmetic,
                flag=flag,
            ),
        ]

    def weight_grad(self, x: ndarray, dy: ndarray, dw: ndarray) -> list[Operation]:
        """``dw`` = gradient of the weights."""
        image, operations = self._image(x, self.conv.image)
        if self.conv.layout == "CHW":
            gradient, widen = self._stager.transposed(dy, self.conv.out_channels)
            operands = (image, gradient)
        else:
            gradient, widen = self._stager.flat(dy)
            operands = (gradient, image)
        table = weight_grad_plan(*self._key)
        flag, check = self._nonfinite(dy, table)
        return [
            *(*operations, *widen, *check),
            bind_contraction(
                "conv2d weight gradient", table, *operands, dw, self.arithmetic, flag=flag
            ),
        ]

    def bias_grad(self, dy: ndarray, db: ndarray) -> list[Operation]:
        """``db`` = gradient of the bias."""
        return bind_pixel_sums(dy, db, self.conv.layout, self._stager)

    def input_grad(self, w: ndarray, dy: ndarray, dx: ndarray) -> list[Operation]:
        """``dx`` = gradient of the input."""
        if self._direct:
            return self._input_grad_by_phases(w, dy, dx)
        whole = input_grad_plan(self.conv, *self._key[2:])
        orders = {region.order for region in whole.regions}
        if max(self.conv.stride) == 1 or orders != {Order.SEQUENTIAL}:
            return self._input_grad_whole(w, dy, dx, whole)
        return self._input_grad_without_zeros(w, dy, dx, whole)

    def _input_grad_whole(
        self, w: ndarray, dy: ndarray, dx: ndarray, table: Plan, guard: ndarray | None = None
    ) -> list[Operation]:
        """One contraction over the output gradient spread with zeros, if ``guard`` asks for it."""
        weights, operations = self._stager.flat(w)
        image, widen = self._image(dy, spread_gradient(self.conv), "spread", guard)
        return [
            *(*operations, *widen),
            bind_contraction(
                "conv2d input gradient",
                *(table, *self._ordered(weights, image), dx, self.arithmetic),
                flag=guard,
                guarded=guard is not None,
            ),
        ]

    def _input_grad_by_phases(self, w: ndarray, dy: ndarray, dx: ndarray) -> list[Operation]:
        """Bind the direct loops: one contraction a phase, padding skipped."""
        plans = input_grad_phase_plans(self.conv, direct=True)
        weights, operations = self._stager.flat(w)
        image, widen = self._image(dy, input_grad_phases(self.conv)[0])
        detour = max(self.conv.stride) > 1 or any(self.conv.padding)
        flag, check = self._nonfinite(w, plans[0])
        return [
            *(*operations, *widen, *check, *bind_rest(dx, plans)),
            *(
                bind_contraction(
                    "conv2d input gradient",
                    *(table, *self._ordered(weights, image), dx, self.arithmetic),
                    step=step_of(self.arithmetic, via32=detour),
                    flag=flag,
                )
                for table in plans
                if table.depth
            ),
        ]

    def _input_grad_without_zeros(
        self, w: ndarray, dy: ndarray, dx: ndarray, whole: Plan
    ) -> list[Operation]:
        """Bind what has the bits of the whole without the zeros between spread gradients.

        Adding a product with zero changes nothing but NaN (an infinite weight) and -0. Where either
        may have come up, the whole contraction runs after all.
        """
        plans = input_grad_phase_plans(self.conv, direct=False)
        weights, operations = self._stager.flat(w)
        image, widen = self._image(dy, input_grad_phases(self.conv)[0])
        doubt = np.zeros(1, np.int32)
        return [
            *(*operations, *widen, self._find_nonfinite(w, doubt), *bind_rest(dx, plans)),
            *(
                bind_contraction(
                    "conv2d input gradient",
                    *(table, *self._ordered(weights, image), dx, self.arithmetic),
                    flag=doubt,
                )
                for table in plans
                if table.depth
            ),
            *self._input_grad_whole(w, dy, dx, whole, doubt),
        ]

    def _ordered(self, weights: ndarray, image: ndarray) -> tuple[ndarray, ndarray]:
        """Return a and b of a contraction: pixels are columns in CHW, rows in HWC."""
        return (weights, image) if self.conv.layout == "CHW" else (image, weights)

    def _image(
        self, source: ndarray, geometry: Image, kind: str = "image", guard: ndarray | None = None
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Widen an image into its padded planes."""
        return self._stager.stage(
            kind, source, geometry.shape, lambda view: geometry.copies(source, view), guard
        )

    def _nonfinite(
        self, operand: ndarray, table: Plan
    ) -> tuple[ndarray | None, tuple[Operation, ...]]:
        """Look for infinities and NaNs in what meets padding, where padding is skipped."""
        if table.offsets.padding not in (Padding.SKIPPED_IN_A, Padding.SKIPPED_IN_B):
            return None, ()
        flag = np.zeros(1, np.int32)
        return flag, (self._find_nonfinite(operand, flag),)

    def _find_nonfinite(self, operand: ndarray, flag: ndarray) -> Operation:
        code = self.arithmetic.code
        return bind("find_nonfinite", [operand], [flag], [operand.size], arithmetic=code)


def bind_rest(out: ndarray, plans: Sequence[Plan]) -> list[Operation]:
    """Set outputs to +0 if some of the plans have nothing to add up for theirs."""
    if all(table.depth for table in plans):
        return []
    return [bind("clear", [], [out], [out.nbytes])]


def _everything(rows: int, columns: int) -> tuple[Region, ...]:
    return (Region((0, rows), (0, columns), Order.SEQUENTIAL),)


@lru_cache(maxsize=256)
def forward_plan(conv: Convolution, algorithm: str, kernel: str, cores: int) -> Plan:
    """Forward: W x rows^T in CHW, rows x W^T in HWC."""
    offsets = forward_offsets(conv, direct=algorithm == "direct")
    rows, columns = len(offsets.a_row), len(offsets.b_column)
    if algorithm == "direct":
        return plan(offsets, _everything(rows, columns))
    return plan(
        offsets, matmul_regions(kernel, rows, conv.taps, columns, transpose_b=True, cores=cores)
    )


@lru_cache(maxsize=256)
def weight_grad_plan(conv: Convolution, algorithm: str, kernel: str, cores: int) -> Plan:
    """Weight gradient: dY x rows in CHW, dY^T x columns^T in HWC."""
    offsets = weight_grad_offsets(conv, direct=algorithm == "direct")
    if algorithm == "direct":
        return plan(offsets, _everything(len(offsets.a_row), len(offsets.b_column)))
    chw = conv.layout == "CHW"
    regions = matmul_regions(
        kernel, conv.out_channels, conv.pixels, conv.taps, transpose_b=not chw, cores=cores
    )
    return plan(offsets, [r.transposed() for r in regions] if chw else regions)


@lru_cache(maxsize=256)
def input_grad_plan(conv: Convolution, kernel: str, cores: int) -> Plan:
    """Input gradient by im2row: transposed weights x rows^T in CHW, the reverse in HWC."""
    offsets = input_grad_offsets(conv)
    n, k, m = len(offsets.a_row), len(offsets.a_k), len(offsets.b_column)
    return plan(offsets, matmul_regions(kernel, n, k, m, transpose_b=True, cores=cores))


@lru_cache(maxsize=256)
def input_grad_phase_plans(conv: Convolution, *, direct: bool) -> tuple[Plan, ...]:
    """Input gradient without the zeros of a stride, one plan a phase."""
    return tuple(
        plan(offsets, _everything(len(offsets.a_row), len(offsets.b_column)))
        for offsets in input_grad_phase_offsets(conv, direct=direct)
    )
