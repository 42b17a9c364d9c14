"""The three steps of a depthwise convolution, bound: channels last, one register of them a unit."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy import ndarray

from pyodl._kernels import LANES, Operation, bind
from pyodl.arithmetic import Arithmetic
from pyodl.primitives._contraction import Padding, step_of
from pyodl.primitives._geometry import Convolution, Image, input_grad_phases
from pyodl.primitives._matmul import bind_pixel_sums
from pyodl.primitives._staging import Stager

__all__ = ["BoundDepthwise"]


def _register_channels(channels: int) -> int:
    """Return the channels of a buffer that holds whole registers."""
    return -(-channels // LANES) * LANES


@lru_cache(maxsize=256)
def _channels_last(geometry: Image) -> Image:
    return replace(
        geometry, channels=_register_channels(geometry.channels), stride=(1, 1), layout="HWC"
    )


class _Units:
    """Offsets of a contraction by lanes: outputs (position, register of channels).

    ``a`` and ``b`` hold the offset of every position, ``a_k`` and ``b_k`` of every term; output
    (channel, position) lies at ``channel * plane + out``.
    """

    def __init__(
        self,
        channels: int,
        positions: tuple[ndarray, ndarray, ndarray],
        terms: tuple[ndarray, ndarray],
        plane: int,
        padding: Padding = Padding.MULTIPLIED,
        real: ndarray | None = None,
    ) -> None:
        a, b, out = (np.asarray(table) for table in positions)
        first = np.arange(0, channels, LANES)
        lanes = np.minimum(LANES, channels - first)
        padded = np.zeros(len(out), np.int64)
        self.a_k, self.b_k = (np.ascontiguousarray(table, np.int32) for table in terms)
        if real is not None:
            met = (
                b[:, None] + self.b_k if padding is Padding.SKIPPED_IN_B else a[:, None] + self.a_k
            )
            padded = np.asarray(~real[met].all(axis=1), np.int64)
        columns = [
            (a[:, None] + first).ravel(),
            (b[:, None] + first).ravel(),
            (out[:, None] + first * plane).ravel(),
            np.broadcast_to(lanes, (len(out), len(first))).ravel(),
            np.repeat(padded, len(first)),
        ]
        self.table = np.ascontiguousarray(np.stack(columns, axis=1), np.int32)
        self.plane = plane
        self.padding = padding if real is not None else Padding.MULTIPLIED
        self.real = real
        self.macs = len(self.a_k) * len(out) * channels


@lru_cache(maxsize=256)
def _forward_units(conv: Convolution) -> _Units:
    image, c = _channels_last(conv.image), _register_channels(conv.channels)
    taps = image.tap_offsets(conv.kernel)
    pixels = image.pixel_offsets(conv.out_size, conv.stride)
    return _Units(
        conv.channels,
        (np.zeros(len(pixels), np.int64), pixels, np.arange(len(pixels))),
        (np.arange(len(taps)) * c, taps),
        conv.pixels,
        Padding.SKIPPED_IN_B,
        image.real(),
    )


@lru_cache(maxsize=256)
def _weight_grad_units(conv: Convolution) -> _Units:
    image, c = _channels_last(conv.image), _register_channels(conv.channels)
    taps = image.tap_offsets(conv.kernel)
    pixels = image.pixel_offsets(conv.out_size, conv.stride)
    return _Units(
        conv.channels,
        (np.zeros(len(taps), np.int64), taps, np.arange(len(taps))),
        (np.arange(len(pixels)) * c, pixels),
        len(taps),
        Padding.SKIPPED_IN_B,
        image.real(),
    )


@lru_cache(maxsize=256)
def _input_grad_units(conv: Convolution) -> tuple[Image, tuple[_Units, ...]]:
    geometry, phases = input_grad_phases(
        replace(conv, out_channels=_register_channels(conv.channels), layout="HWC")
    )
    size = conv.kernel[0] * conv.kernel[1]
    c = _register_channels(conv.channels)
    units = []
    for phase in phases:
        rows = (phase.first[0] + conv.stride[0] * np.arange(phase.count[0])) * conv.width
        columns = phase.first[1] + conv.stride[1] * np.arange(phase.count[1])
        pixels = (rows[:, None] + columns).ravel()
        units.append(
            _Units(
                conv.channels,
                (np.zeros(len(pixels), np.int64), geometry.pixel_offsets(phase.count), pixels),
                ((size - 1 - phase.taps) * c, phase.offsets),
                conv.height * conv.width,
                Padding.SKIPPED_IN_B,
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
    arithmetic : Arithmetic
    cores : int
    """

    def __init__(self, conv: Convolution, arithmetic: Arithmetic, *, cores: int) -> None:
        self.conv = conv
        self.arithmetic = arithmetic
        self._stager = Stager(arithmetic, cores)

    def forward(self, x: ndarray, w: ndarray, out: ndarray) -> list[Operation]:
        """``out`` = x * w, channel by channel."""
        units = _forward_units(self.conv)
        image, widen = self._image(x, _channels_last(self.conv.image))
        weights, widen_weights = self._planes(w)
        return [
            *(*widen, *widen_weights),
            *self._contract("depthwise forward", units, weights, image, out, w),
        ]

    def weight_grad(self, x: ndarray, dy: ndarray, dw: ndarray) -> list[Operation]:
        """``dw`` = gradient of the weights."""
        units = _weight_grad_units(self.conv)
        image, widen = self._image(x, _channels_last(self.conv.image))
        gradient, widen_gradient = self._planes(dy)
        return [
            *(*widen, *widen_gradient),
            *self._contract("depthwise weight gradient", units, gradient, image, dw, dy),
        ]

    def bias_grad(self, dy: ndarray, db: ndarray) -> list[Operation]:
        """``db`` = gradient of a bias per channel."""
        pitch = _register_channels(self.conv.channels)
        return bind_pixel_sums(dy, db, "CHW", self._stager, pitch)

    def input_grad(self, w: ndarray, dy: ndarray, dx: ndarray) -> list[Operation]:
        """``dx`` = gradient of the input."""
        geometry, phases = _input_grad_units(self.conv)
        weights, widen_weights = self._planes(w)
        image, widen = self._image(dy, geometry)
        operations = [*widen_weights, *widen]
        for units in phases:
            operations += self._contract("depthwise input gradient", units, weights, image, dx, w)
        return operations

    def _contract(
        self, name: str, units: _Units, a: ndarray, b: ndarray, out: ndarray, operand: ndarray
    ) -> list[Operation]:
        """Bind a contraction; ``operand`` is the tensor that meets padding."""
        code, flag, checks = self.arithmetic.code, None, []
        if units.padding is not Padding.MULTIPLIED:
            flag = np.zeros(1, np.int32)
            checks = [bind("find_nonfinite", [operand], [flag], [operand.size], arithmetic=code)]
        sizes = [len(units.a_k), len(units.table), int(step_of(self.arithmetic)), units.plane]
        operation = bind(
            "contract_lanes",
            [a, b, units.a_k, units.b_k, units.table, units.real],
            [out, flag],
            [*sizes, int(units.padding)],
            arithmetic=code,
        )
        operation.name = name
        operation.macs = units.macs
        return [*checks, operation]

    def _image(self, source: ndarray, geometry: Image) -> tuple[ndarray, tuple[Operation, ...]]:
        """Widen a (C, H, W) image into padded pixels of whole registers of channels."""
        pixels = source.transpose(1, 2, 0)
        return self._stager.stage(
            "image",
            source,
            geometry.shape,
            lambda view: geometry.copies(pixels, view[..., : self.conv.channels]),
        )

    def _planes(self, source: ndarray) -> tuple[ndarray, tuple[Operation, ...]]:
        """Widen a (C, n, m) tensor as (n * m, C), C in whole registers."""
        channels = self.conv.channels
        return self._stager.transposed(source, channels, _register_channels(channels))
