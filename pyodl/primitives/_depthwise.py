"""The three steps of a depthwise convolution, bound: channels last, one register of them a unit."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation, bind
from pyodl.primitives._contraction import kernel_table
from pyodl.primitives._geometry import Convolution, input_grad_phases
from pyodl.primitives._image import Image
from pyodl.primitives._matmul import bind_pixel_sums
from pyodl.primitives._staging import Stager
from pyodl.primitives._tiling import Tile, blocks

__all__ = ["BoundDepthwise"]


def _whole(channels: int, lanes: int) -> int:
    """Return the channels of a buffer that holds whole registers."""
    return -(-channels // lanes) * lanes


@lru_cache(maxsize=256)
def _channels_last(conv: Convolution) -> Image:
    channels = _whole(conv.channels, conv.lanes)
    return replace(conv.image, channels=channels, stride=(1, 1), layout="HWC", unrolled=None)


class _Units:
    """Offsets of a contraction by lanes: outputs (register of channels, position).

    ``a`` and ``b`` hold the offset of every position, ``a_k`` and ``b_k`` of every term; output
    (channel, position) lies at ``channel * plane + out``. ``real`` marks the elements of b that are
    not padding.
    """

    def __init__(
        self,
        conv: Convolution,
        positions: tuple[ndarray, ndarray, ndarray],
        terms: tuple[ndarray, ndarray],
        plane: int,
        real: ndarray | None,
    ) -> None:
        a, b, out = (np.asarray(table) for table in positions)
        self.a_k, self.b_k = (kernel_table(table) for table in terms)
        padded = np.zeros(len(out), np.int64)
        if real is not None:
            padded[~real[b[:, None] + self.b_k].all(axis=1)] = 1
        self.channels, self.lanes = conv.channels, conv.lanes
        self.positions = np.stack([a, b, out, padded])
        self.plane = plane
        self.real = real

    def tables(self, tile: Tile | None, columns: int) -> Iterator[tuple[ndarray, int]]:
        """Yield the units of each tile and its multiply-accumulates; ``columns`` make a row.

        Raises
        ------
        ValueError
            If the tile cuts K.
        """
        if tile is None:
            tile = Tile(self.channels, self.positions.size)
        if tile.k is not None:
            raise ValueError(f"tile.k is {tile.k}; a depthwise convolution leaves K whole: None")
        rows = self.positions[2] // columns
        for first, last in blocks(self.channels, tile.channels):
            for top, bottom in blocks(int(rows.max()) + 1, tile.rows):
                taken = self.positions[:, (rows >= top) & (rows < bottom)]
                if taken.size:
                    yield (
                        self._table(taken, first, last),
                        len(self.a_k) * taken.shape[1] * (last - first),
                    )

    def _table(self, positions: ndarray, start: int, stop: int) -> ndarray:
        """Return the records of some positions and channels: a, b, out, lanes, padded."""
        a, b, out, padded = positions
        first = np.arange(start, stop, self.lanes)[:, None]
        lanes = np.minimum(self.lanes, stop - first)
        columns = np.broadcast_arrays(first + a, first + b, first * self.plane + out, lanes, padded)
        return kernel_table(np.stack(columns, axis=-1).reshape(-1, 5))


@lru_cache(maxsize=256)
def _forward_units(conv: Convolution) -> _Units:
    image, c = _channels_last(conv), _whole(conv.channels, conv.lanes)
    taps = image.tap_offsets(conv.kernel)
    pixels = image.pixel_offsets(conv.out_size, conv.stride)
    return _Units(
        conv,
        (np.zeros(len(pixels), np.int64), pixels, np.arange(len(pixels))),
        (np.arange(len(taps)) * c, taps),
        conv.pixels,
        image.real(),
    )


@lru_cache(maxsize=256)
def _weight_grad_units(conv: Convolution) -> _Units:
    image, c = _channels_last(conv), _whole(conv.channels, conv.lanes)
    taps = image.tap_offsets(conv.kernel)
    pixels = image.pixel_offsets(conv.out_size, conv.stride)
    return _Units(
        conv,
        (np.zeros(len(taps), np.int64), taps, np.arange(len(taps))),
        (np.arange(len(pixels)) * c, pixels),
        len(taps),
        image.real(),
    )


@lru_cache(maxsize=256)
def _input_grad_units(conv: Convolution) -> tuple[Image, tuple[_Units, ...]]:
    c = _whole(conv.channels, conv.lanes)
    geometry, phases = input_grad_phases(replace(conv, out_channels=c, layout="HWC"))
    size = conv.kernel[0] * conv.kernel[1]
    units = []
    for phase in phases:
        rows = (phase.first[0] + conv.stride[0] * np.arange(phase.count[0])) * conv.width
        columns = phase.first[1] + conv.stride[1] * np.arange(phase.count[1])
        pixels = (rows[:, None] + columns).ravel()
        units.append(
            _Units(
                conv,
                (np.zeros(len(pixels), np.int64), geometry.pixel_offsets(phase.count), pixels),
                ((size - 1 - phase.taps) * c, phase.offsets),
                conv.height * conv.width,
                geometry.real(),
            )
        )
    return geometry, tuple(units)


class BoundDepthwise:
    """Binds the steps of one depthwise convolution (CHW) to arrays, as `BoundConvolution` does.

    Parameters
    ----------
    conv : Convolution
        With as many output channels as channels.
    stager : Stager
    """

    def __init__(self, conv: Convolution, stager: Stager) -> None:
        self.conv = replace(conv, lanes=stager.step.lanes)
        self.arithmetic = stager.arithmetic
        self._stager = stager

    def forward(
        self, x: ndarray, w: ndarray, out: ndarray, tile: Tile | None = None
    ) -> list[Operation]:
        """``out`` = x * w, channel by channel."""
        tables = list(_forward_units(self.conv).tables(tile, self.conv.out_size[1]))
        units = _forward_units(self.conv)
        image, stage = self._image(x, _channels_last(self.conv))
        weights, stage_weights = self._planes(w)
        flag, check = self._nonfinite(w, units.real)
        return [
            *(*stage, *stage_weights, *check),
            *self._contract("depthwise forward", units, tables, weights, image, out, flag),
        ]

    def weight_grad(
        self, x: ndarray, dy: ndarray, dw: ndarray, tile: Tile | None = None
    ) -> list[Operation]:
        """``dw`` = gradient of the weights; a tile's rows are all of the kernel."""
        area = self.conv.kernel[0] * self.conv.kernel[1]
        tables = list(_weight_grad_units(self.conv).tables(tile, area))
        units = _weight_grad_units(self.conv)
        image, stage = self._image(x, _channels_last(self.conv))
        gradient, stage_gradient = self._planes(dy)
        flag, check = self._nonfinite(dy, units.real)
        return [
            *(*stage, *stage_gradient, *check),
            *self._contract("depthwise weight gradient", units, tables, gradient, image, dw, flag),
        ]

    def bias_grad(self, dy: ndarray, db: ndarray) -> list[Operation]:
        """``db`` = gradient of a bias per channel."""
        pitch = _whole(self.conv.channels, self.conv.lanes)
        return bind_pixel_sums(dy, db, "CHW", self._stager, pitch)

    def input_grad(
        self, w: ndarray, dy: ndarray, dx: ndarray, tile: Tile | None = None
    ) -> list[Operation]:
        """``dx`` = gradient of the input."""
        geometry, phases = _input_grad_units(self.conv)
        weights, stage_weights = self._planes(w)
        image, stage = self._image(dy, geometry)
        flag, check = self._nonfinite(w, phases[0].real)
        operations = [*stage_weights, *stage, *check]
        for units in phases:
            tables = list(units.tables(tile, self.conv.width))
            operations += self._contract(
                "depthwise input gradient", units, tables, weights, image, dx, flag
            )
        return operations

    def _contract(
        self,
        name: str,
        units: _Units,
        tables: list[tuple[ndarray, int]],
        a: ndarray,
        b: ndarray,
        out: ndarray,
        flag: ndarray | None,
    ) -> list[Operation]:
        """Bind a contraction tile by tile."""
        operations = []
        for table, macs in tables:
            operation = bind(
                "contract_lanes",
                [a, b, units.a_k, units.b_k, table, units.real],
                [out, flag],
                [len(units.a_k), len(table), self._stager.step, units.plane, a.size, b.size],
                arithmetic=self.arithmetic.code,
            )
            operation.name = name
            operation.macs, operation.effort = macs, self._stager.step.effort
            operations.append(operation)
        return operations

    def _nonfinite(
        self, operand: ndarray, real: ndarray | None
    ) -> tuple[ndarray | None, list[Operation]]:
        """Look for infinities and NaNs in what meets padding."""
        if real is None:
            return None, []
        flag = np.zeros(1, np.int32)
        code = self.arithmetic.code
        return flag, [bind("find_nonfinite", [operand], [flag], [operand.size], arithmetic=code)]

    def _image(self, source: ndarray, geometry: Image) -> tuple[ndarray, tuple[Operation, ...]]:
        """Stage a (C, H, W) image as padded pixels of whole registers of channels."""
        pixels = source.transpose(1, 2, 0)
        return self._stager.stage(
            geometry,
            source,
            geometry.shape,
            lambda view: geometry.copies(pixels, view[..., : self.conv.channels]),
        )

    def _planes(self, source: ndarray) -> tuple[ndarray, tuple[Operation, ...]]:
        """Stage a (C, n, m) tensor as (n * m, C), C in whole registers."""
        channels = self.conv.channels
        return self._stager.transposed(source, channels, _whole(channels, self.conv.lanes))
