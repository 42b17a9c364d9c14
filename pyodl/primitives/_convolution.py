"""The three steps of a convolution, bound: stage the operands, then contract them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.primitives._contraction import (
    Offsets,
    Padding,
    Plan,
    bind_contraction,
    plan,
)
from pyodl.primitives._geometry import (
    Convolution,
    forward_offsets,
    input_grad_apart_offsets,
    input_grad_offsets,
    input_grad_phase_offsets,
    input_grad_phases,
    output_gradient,
    spread_gradient,
    weight_grad_offsets,
)
from pyodl.primitives._image import Image
from pyodl.primitives._matmul import bind_sums
from pyodl.primitives._orders import Order, Region, is_sequential, matmul_regions
from pyodl.primitives._pixels import (
    bind_around_pixels,
    bind_gradient_by_pixels,
    may_go_around,
)
from pyodl.primitives._staging import Copy, Stager
from pyodl.primitives._steps import Step, step_of
from pyodl.primitives._tiling import Cut, Tile, cut_plan

__all__ = ["BoundConvolution"]


class BoundConvolution:
    """Binds the steps of one convolution to arrays.

    Each method returns the operations to run, in order, one contraction a tile. An operand that an
    earlier step of the same object has staged is not staged again (`Stager`).

    Parameters
    ----------
    conv : Convolution
    stager : Stager
    algorithm : {"im2row", "direct"}
    kernel : str or (str, str, str)
        Matmul kernel, for im2row; or those of forward, weight gradient and input gradient.
    """

    def __init__(
        self,
        conv: Convolution,
        stager: Stager,
        *,
        algorithm: str,
        kernel: str | tuple[str, str, str],
    ) -> None:
        self.arithmetic = stager.arithmetic
        step = stager.step
        listed = algorithm == "im2row" and step.lists_terms
        halves = self.arithmetic.storage.name != "float32"
        sparse = algorithm == "im2row" and halves and step.by_pixels
        self.conv = replace(conv, listed=listed, lanes=step.lanes, sparse_input=sparse)
        self._stager = stager
        self._algorithm = algorithm
        self._kernels = (kernel,) * 3 if isinstance(kernel, str) else kernel
        self._cores = stager.cores

    def _key(self, step: int) -> tuple[Convolution, str, str, int]:
        return self.conv, self._algorithm, self._kernels[step], self._cores

    def forward(
        self, x: ndarray, w: ndarray, out: ndarray, tile: Tile | None = None
    ) -> list[Operation]:
        """``out`` = x * w, without bias."""
        plans = forward_tiles(*self._key(0), tile)
        if may_go_around(self.conv, _regions(plans), tile, mirrored=False):
            return self._forward_around_pixels(x, w, out, plans)
        image, operations = self._image(x, self.conv.image)
        if self.conv.lanes_are_pixels(self.conv.out_channels):
            weights, stage = self._stager.left(w)
            operands = (weights, image)
        else:
            weights, stage = self._stager.transposed(w, self.conv.out_channels)
            operands = (image, weights)
        flag, check = self._nonfinite(w, plans[0])
        return [
            *(*operations, *stage, *check),
            *self._contract("conv2d forward", plans, *operands, out, flag=flag),
        ]

    def _forward_around_pixels(
        self, x: ndarray, w: ndarray, out: ndarray, plans: Sequence[Plan]
    ) -> list[Operation]:
        name, channels = "conv2d forward", self.conv.out_channels
        stored, stage = self._stager.transposed(w, channels, stored=True)
        flag, quick = bind_around_pixels(
            name, self.conv, x, stored, out, self._stager, mirrored=False
        )
        image, again = self._image(x, self.conv.image, flag)
        weights, widen = self._stager.transposed(w, channels, guard=flag)
        whole = self._contract(name, plans, image, weights, out, flag=flag, guarded=True)
        return [*stage, *quick, *again, *widen, *whole]

    def weight_grad(
        self, x: ndarray, dy: ndarray, dw: ndarray, tile: Tile | None = None
    ) -> list[Operation]:
        """``dw`` = gradient of the weights."""
        gradient, stage = self._output_gradient(dy)
        plans = weight_grad_tiles(*self._key(1), tile)
        by_pixels = self.conv.by_pixels and tile is None and is_sequential(_regions(plans))
        flag, before = (
            bind_gradient_by_pixels(self.conv, x, dy, gradient, dw, self._stager)
            if by_pixels
            else self._nonfinite(dy, plans[0])
        )
        image, operations = self._image(x, self.conv.image, flag if by_pixels else None)
        operands = (image, gradient) if self.conv.layout == "CHW" else (gradient, image)
        how: dict[str, Any] = {"flag": flag, "guarded": by_pixels}
        whole = self._contract("conv2d weight gradient", plans, *operands, dw, **how)
        return [*stage, *before, *operations, *whole]

    def bias_grad(self, dy: ndarray, db: ndarray) -> list[Operation]:
        """``db`` = gradient of the bias."""
        gradient, stage = self._output_gradient(dy)
        pixels = tuple(output_gradient(self.conv)[1].tolist())
        return [*stage, *bind_sums(gradient, pixels, db, self._stager)]

    def _output_gradient(self, dy: ndarray) -> tuple[ndarray, tuple[Operation, ...]]:
        """Stage the output gradient as (pixel, channel)."""
        if self.conv.layout == "HWC":
            return self._stager.flat(dy)
        geometry = output_gradient(self.conv)[0]

        def copies(view: ndarray) -> list[Copy]:
            return geometry.copies(dy.transpose(1, 2, 0), view)

        shape, negative = geometry.shape, geometry.negative
        return self._stager.stage(geometry, dy, shape, copies, negative=negative)

    def input_grad(
        self, w: ndarray, dy: ndarray, dx: ndarray, tile: Tile | None = None
    ) -> list[Operation]:
        """``dx`` = gradient of the input."""
        if self._algorithm == "direct":
            return self._input_grad_by_phases(w, dy, dx, tile)
        whole = input_grad_tiles(self.conv, *self._key(2)[2:], tile)
        if may_go_around(self.conv, _regions(whole), tile, mirrored=True):
            return self._input_grad_around_pixels(w, dy, dx, whole)
        in_parts = tile is not None and tile.k is not None
        if max(self.conv.stride) == 1 or not is_sequential(_regions(whole)) or in_parts:
            return self._input_grad_whole(w, dy, dx, whole)
        return self._input_grad_without_zeros(w, dy, dx, whole, tile)

    def _input_grad_around_pixels(
        self, w: ndarray, dy: ndarray, dx: ndarray, whole: Sequence[Plan]
    ) -> list[Operation]:
        weights, stage = self._stager.channels_last(w, stored=True)
        name = "conv2d input gradient"
        flag, quick = bind_around_pixels(
            name, self.conv, dy, weights, dx, self._stager, mirrored=True
        )
        return [*stage, *quick, *self._input_grad_whole(w, dy, dx, whole, flag)]

    def _input_grad_whole(
        self,
        w: ndarray,
        dy: ndarray,
        dx: ndarray,
        plans: Sequence[Plan],
        guard: ndarray | None = None,
    ) -> list[Operation]:
        """Contract the output gradient spread with zeros, if ``guard`` asks for it."""
        image, stage = self._image(dy, spread_gradient(self.conv), guard)
        operands, operations = self._with_weights(self.conv, w, image, guard=guard)
        how: dict[str, Any] = {"flag": guard, "guarded": guard is not None}
        return [
            *(*operations, *stage),
            *self._contract("conv2d input gradient", plans, *operands, dx, **how),
        ]

    def _input_grad_by_phases(
        self, w: ndarray, dy: ndarray, dx: ndarray, tile: Tile | None
    ) -> list[Operation]:
        """Bind the direct loops: one contraction a phase, padding skipped."""
        detour = max(self.conv.stride) > 1 or any(self.conv.padding)
        step = step_of(self.arithmetic, via32=detour)
        conv = replace(self.conv, lanes=step.lanes)
        plans = input_grad_phase_tiles(conv, tile, direct=True)
        image, stage = self._image(dy, input_grad_phases(conv)[0], step=step)
        operands, operations = self._with_weights(conv, w, image, step)
        flag, check = self._nonfinite(w, plans[0])
        return [
            *(*operations, *stage, *check, *bind_rest(dx, plans)),
            *self._contract("conv2d input gradient", plans, *operands, dx, step=step, flag=flag),
        ]

    def _input_grad_without_zeros(
        self, w: ndarray, dy: ndarray, dx: ndarray, whole: Sequence[Plan], tile: Tile | None
    ) -> list[Operation]:
        """Bind what has the bits of the whole without the zeros between spread gradients.

        Adding a product with zero changes nothing but NaN (an infinite weight) and -0. Where either
        may have come up, the whole contraction runs after all.
        """
        image, stage = self._image(dy, input_grad_phases(self.conv)[0])
        operands, operations = self._with_weights(self.conv, w, image)
        doubt = np.zeros(1, np.int32)
        lanes_are_pixels = self.conv.lanes_are_pixels(self.conv.channels)
        if tile is None and lanes_are_pixels and self.conv.stride[1] == 2:
            phases = self._contract_apart(*operands, dx, doubt)
        else:
            plans = input_grad_phase_tiles(self.conv, tile, direct=False)
            phases = [
                *bind_rest(dx, plans),
                *self._contract("conv2d input gradient", plans, *operands, dx, flag=doubt),
            ]
        return [
            *(*operations, *stage, self._find_nonfinite(w, doubt), *phases),
            *self._input_grad_whole(w, dy, dx, whole, doubt),
        ]

    def _contract_apart(
        self, a: ndarray, b: ndarray, dx: ndarray, doubt: ndarray
    ) -> list[Operation]:
        """Contract each phase by itself, and interleave the two of every row of phases.

        Pixels of one phase are neighbours then, and are stored as such.
        """
        conv = self.conv
        operations: list[Operation] = []
        parts: list[ndarray | None] = []
        phases = input_grad_phases(conv)[1]
        for phase, table in zip(phases, input_grad_apart_plans(conv), strict=True):
            part = None
            if table.depth:
                part = self._stager.scratch(len(parts), dx.dtype, conv.channels, *phase.count)
                operations += self._contract("conv2d input gradient", [table], a, b, part)
            parts.append(part)
        columns = min(conv.width, 2)
        for row in range(min(conv.stride[0], conv.height)):
            even, odd = [*parts[columns * row : columns * (row + 1)], None][:2]
            operations.append(self._interleave(row, even, odd, dx, doubt))
        return operations

    def _interleave(
        self, row: int, even: ndarray | None, odd: ndarray | None, dx: ndarray, doubt: ndarray
    ) -> Operation:
        """Bind the rows ``row``, ``row + stride``, ... of every channel, from two phases."""
        conv, apart = self.conv, self.conv.stride[0] * self.conv.width
        rows = -(-(conv.height - row) // conv.stride[0])
        place, plane = row * conv.width, conv.height * conv.width
        sizes = [conv.channels, rows, conv.width, place, plane, apart, int(self._stager.step)]
        code = self.arithmetic.code
        return bind("interleave", [even, odd], [dx, doubt], sizes, arithmetic=code)

    def _contract(
        self,
        name: str,
        plans: Sequence[Plan],
        a: ndarray,
        b: ndarray,
        out: ndarray,
        **how: Any,
    ) -> list[Operation]:
        """Bind the contractions of all tiles, but for those without terms (`bind_rest`)."""
        return [
            bind_contraction(name, plan, a, b, out, self.arithmetic, **how)
            for plan in plans
            if plan.depth
        ]

    def _with_weights(
        self,
        conv: Convolution,
        w: ndarray,
        image: ndarray,
        step: Step | None = None,
        guard: ndarray | None = None,
    ) -> tuple[tuple[ndarray, ndarray], tuple[Operation, ...]]:
        """Return a and b of an input gradient, and what stages the weights."""
        if conv.lanes_are_pixels(conv.channels):
            weights, stage = self._stager.left(w, step, guard)
            return (weights, image), stage
        if conv.layout == "HWC":
            weights, stage = self._stager.flat(w, step, guard)
        else:
            weights, stage = self._stager.channels_last(w, step, guard)
        return (image, weights), stage

    def _image(
        self,
        source: ndarray,
        geometry: Image,
        guard: ndarray | None = None,
        step: Step | None = None,
    ) -> tuple[ndarray, tuple[Operation, ...]]:
        """Stage an image in its padded planes."""

        def copies(view: ndarray) -> list[Copy]:
            return geometry.copies(source, view)

        return self._stager.stage(geometry, source, geometry.shape, copies, guard, step)

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


def _regions(plans: Sequence[Plan]) -> list[Region]:
    """Return the regions of all tiles."""
    return [region for table in plans for region in table.regions]


def bind_rest(out: ndarray, plans: Sequence[Plan]) -> list[Operation]:
    """Set outputs to +0 if some of the plans have nothing to add up for theirs."""
    if all(table.depth for table in plans):
        return []
    return [bind("clear", [], [out], [out.nbytes])]


def _everything(offsets: Offsets) -> tuple[Region, ...]:
    rows, columns = len(offsets.a_row), len(offsets.b_column)
    return (Region((0, rows), (0, columns), Order.SEQUENTIAL),)


@lru_cache(maxsize=256)
def forward_plan(conv: Convolution, algorithm: str, kernel: str, cores: int) -> Plan:
    """Forward: W x rows^T in CHW, rows x W^T in HWC."""
    offsets = forward_offsets(conv, direct=algorithm == "direct")
    if algorithm == "direct":
        return plan(offsets, _everything(offsets), conv.lanes)
    return plan(
        offsets, _image_regions(conv, kernel, conv.out_channels, offsets, cores), conv.lanes
    )


def _image_regions(
    conv: Convolution, kernel: str, channels: int, offsets: Offsets, cores: int
) -> list[Region]:
    """Return the regions of a product of weights and unrolled pixels, as its offsets have it."""
    rows, depth, columns = len(offsets.a_row), len(offsets.a_k), len(offsets.b_column)
    mirrored = conv.layout == "CHW" and not conv.lanes_are_pixels(channels)
    n, m = (columns, rows) if mirrored else (rows, columns)
    regions = matmul_regions(kernel, n, depth, m, transpose_b=True, cores=cores)
    return [region.transposed() for region in regions] if mirrored else list(regions)


@lru_cache(maxsize=256)
def weight_grad_plan(conv: Convolution, algorithm: str, kernel: str, cores: int) -> Plan:
    """Weight gradient: dY x rows in CHW, dY^T x columns^T in HWC."""
    offsets = weight_grad_offsets(conv, direct=algorithm == "direct")
    if algorithm == "direct":
        return plan(offsets, _everything(offsets), conv.lanes)
    chw = conv.layout == "CHW"
    regions = matmul_regions(
        kernel, conv.out_channels, conv.pixels, conv.taps, transpose_b=not chw, cores=cores
    )
    return plan(offsets, [r.transposed() for r in regions] if chw else regions, conv.lanes)


@lru_cache(maxsize=256)
def input_grad_plan(conv: Convolution, kernel: str, cores: int) -> Plan:
    """Input gradient by im2row: transposed weights x rows^T in CHW, the reverse in HWC."""
    offsets = input_grad_offsets(conv)
    return plan(offsets, _image_regions(conv, kernel, conv.channels, offsets, cores), conv.lanes)


@lru_cache(maxsize=256)
def input_grad_apart_plans(conv: Convolution) -> tuple[Plan, ...]:
    """Input gradient without the zeros of a stride, one plan and one output a phase."""
    return tuple(
        plan(offsets, _everything(offsets), conv.lanes)
        for offsets in input_grad_apart_offsets(conv)
    )


@lru_cache(maxsize=256)
def input_grad_phase_plans(conv: Convolution, *, direct: bool) -> tuple[Plan, ...]:
    """Input gradient without the zeros of a stride, one plan a phase."""
    return tuple(
        plan(offsets, _everything(offsets), conv.lanes)
        for offsets in input_grad_phase_offsets(conv, direct=direct)
    )


def _cut(tile: Tile | None, channels_are_rows: bool, columns: int) -> Cut | None:
    """Cut channels by rows of pixels."""
    return None if tile is None else Cut(tile, channels_are_rows, columns, tile.k)


@lru_cache(maxsize=256)
def forward_tiles(
    conv: Convolution, algorithm: str, kernel: str, cores: int, tile: Tile | None
) -> tuple[Plan, ...]:
    """Return `forward_plan` tile by tile."""
    cut = _cut(tile, conv.lanes_are_pixels(conv.out_channels), conv.out_size[1])
    return cut_plan(forward_plan(conv, algorithm, kernel, cores), cut)


@lru_cache(maxsize=256)
def weight_grad_tiles(
    conv: Convolution, algorithm: str, kernel: str, cores: int, tile: Tile | None
) -> tuple[Plan, ...]:
    """Return `weight_grad_plan` tile by tile: output channels by input channels, in HWC by taps."""
    height, width = conv.kernel
    columns = height * width if conv.layout == "CHW" else width * conv.channels
    cut = _cut(tile, conv.layout == "CHW", columns)
    whole = weight_grad_plan(conv, algorithm, kernel, cores)
    return cut_plan(whole, None if cut is None else cut.mirrored())


@lru_cache(maxsize=256)
def input_grad_tiles(
    conv: Convolution, kernel: str, cores: int, tile: Tile | None
) -> tuple[Plan, ...]:
    """Return `input_grad_plan` tile by tile."""
    cut = _cut(tile, conv.lanes_are_pixels(conv.channels), conv.width)
    return cut_plan(input_grad_plan(conv, kernel, cores), cut)


@lru_cache(maxsize=256)
def input_grad_phase_tiles(
    conv: Convolution, tile: Tile | None, *, direct: bool
) -> tuple[Plan, ...]:
    """Return `input_grad_phase_plans` tile by tile; their K is cut in whole kernels.

    Raises
    ------
    ValueError
        If a tile's K is no multiple of the kernel's positions.
    """
    area = conv.kernel[0] * conv.kernel[1]
    if tile is not None and tile.k is not None and tile.k % area:
        raise ValueError(
            f"tile.k is {tile.k}; for the direct input gradient it must be a multiple of the "
            f"kernel's {area} positions"
        )
    pixel = 1 if conv.layout == "CHW" else conv.channels
    lanes_are_pixels = conv.lanes_are_pixels(conv.channels)
    result: list[Plan] = []
    for whole in input_grad_phase_plans(conv, direct=direct):
        cut = _cut(tile, lanes_are_pixels, conv.width)
        if cut is not None and cut.k is not None:
            cut = replace(cut, k=max(cut.k // area * (whole.depth // conv.out_channels), 1))
        pixels = whole.offsets.out_column if lanes_are_pixels else whole.offsets.out_row
        result += cut_plan(whole, cut, pixels // (conv.width * pixel))
    return tuple(result)
