"""A convolution's image, staged: padded, and dealt out by what the taps of a kernel meet."""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy import ndarray

from pyodl.primitives._contraction import addressable
from pyodl.primitives._staging import SLACK, Copy

__all__ = ["Image", "grid"]


def grid(*axes: ndarray) -> ndarray:
    """Return the sums of one item of each axis, the last axis fastest, as a flat array."""
    total = np.zeros(1, np.int64)
    for axis in axes:
        total = (total[:, None] + np.asarray(axis)[None, :]).ravel()
    return total


@dataclass(frozen=True)
class Image:
    """A padded image, staged in planes that make strided access contiguous.

    In CHW, columns and rows are dealt out to ``stride`` phases each, so that the pixels that one
    kernel tap meets are neighbours; or every column of a kernel has a copy of the columns that it
    meets (`unrolled`), so that there is nothing between the rows of the output. In HWC, channels
    are the neighbours and there is one phase.

    Parameters
    ----------
    channels, height, width : int
        Of the image.
    origin : (int, int)
        Where its first pixel lies in the padded image; negative crops.
    size : (int, int)
        Of the padded image.
    spread : (int, int)
        Distance of its pixels in the padded image; more than one spreads it with zeros.
    stride : (int, int)
        Phases of rows and columns.
    kept : (int, int)
        How many of those phases a kernel reaches; the buffer holds no others.
    layout : str
    unrolled : (int, int) or None
        Columns of the kernel and of the output, if the former are laid out one by one.
    negative : bool
        Whether padding is -0.
    """

    channels: int
    height: int
    width: int
    origin: tuple[int, int]
    size: tuple[int, int]
    spread: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    kept: tuple[int, int] = (1, 1)
    layout: str = "CHW"
    unrolled: tuple[int, int] | None = None
    negative: bool = False

    def __post_init__(self) -> None:
        """Check the size before anything is allocated."""
        addressable(prod(self.shape))

    @property
    def planes(self) -> tuple[int, int]:
        """Height and width of one phase, or of one column's copy."""
        height, width = (-(-n // s) for n, s in zip(self.size, self.stride, strict=True))
        return height, self.unrolled[1] if self.unrolled else width

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the buffer."""
        if self.layout == "HWC":
            return (*self.size, self.channels)
        if self.unrolled:
            return (self.channels, self.unrolled[0], self.kept[0], *self.planes)
        return (self.channels, *self.kept, *self.planes)

    def _spans(self, axis: int) -> list[tuple[slice, slice]]:
        """Return, phase by phase, the pixels along an axis and their places in the phase."""
        count = (self.height, self.width)[axis]
        places = self.origin[axis] + self.spread[axis] * np.arange(count)
        inside = (places >= 0) & (places < self.size[axis])
        spans = []
        for phase in range(self.kept[axis]):
            pixels = np.flatnonzero(inside & (places % self.stride[axis] == phase))
            at = places[pixels] // self.stride[axis]
            spans.append((_slice(pixels), _slice(at)))
        return spans

    def copies(self, image: ndarray, buffer: ndarray) -> list[Copy]:
        """Return the copies that fill the buffer with an image."""
        if self.layout == "HWC":
            (rows, to_rows), (columns, to_columns) = self._spans(0)[0], self._spans(1)[0]
            return [Copy(image[rows, columns], buffer[to_rows, to_columns])]
        phases = enumerate(self._spans(0))
        if self.unrolled:
            return [
                self._met(image[:, rows], tap, buffer[:, tap, i, to_rows])
                for i, (rows, to_rows) in phases
                for tap in range(self.unrolled[0])
            ]
        if self._deals():
            return [
                self._dealt(image[:, rows], buffer[:, i, :, to_rows])
                for i, (rows, to_rows) in phases
            ]
        return [
            Copy(image[:, rows, columns], buffer[:, i, j, to_rows, to_columns])
            for i, (rows, to_rows) in phases
            for j, (columns, to_columns) in enumerate(self._spans(1))
        ]

    def _deals(self) -> bool:
        """Whether whole rows are dealt out to two phases of columns, the first of which is kept."""
        left, width = self.origin[1], self.size[1]
        inside = left >= 0 and left + self.width <= width
        return inside and self.stride[1] == 2 and self.spread[1] == 1 and left % 2 < self.kept[1]

    def _dealt(self, image: ndarray, planes: ndarray) -> Copy:
        """Deal out the rows of an image to planes of (channel, phase, row, column)."""
        left, width = self.origin[1], self.width

        def phase(first: int, count: int) -> ndarray:
            return planes[:, first % 2, :, first // 2 : first // 2 + count]

        odd = phase(left + 1, width // 2) if self.kept[1] == 2 else None
        return Copy(image[:, :, ::2], phase(left, (width + 1) // 2), odd, width)

    def _met(self, image: ndarray, tap: int, planes: ndarray) -> Copy:
        """Copy the columns that a column of the kernel meets."""
        places = self.origin[1] + self.spread[1] * np.arange(self.width) - tap
        stride, most = self.stride[1], planes.shape[-1]
        met = np.flatnonzero((places % stride == 0) & (places >= 0) & (places < stride * most))
        at = places[met] // stride
        row = 2 * met.size - 1 if stride == 2 and self.spread[1] == 1 and met.size > 1 else 0
        return Copy(image[..., _slice(met)], planes[..., _slice(at)], None, row)

    def real(self) -> ndarray | None:
        """Return which elements of the buffer are pixels, slack included; None if all are."""
        marks = np.zeros(self.shape, np.uint8)
        shape = (self.channels, self.height, self.width)
        ones = np.ones(shape if self.layout == "CHW" else (*shape[1:], shape[0]), np.uint8)
        for copy in self.copies(ones, marks):
            copy.target[...] = 1
            if copy.odd is not None:
                copy.odd[...] = 1
        if marks.all():
            return None
        return np.concatenate([marks.ravel(), np.zeros(SLACK, np.uint8)])

    def channel_offsets(self) -> ndarray:
        """Return where each channel begins."""
        step = 1 if self.layout == "HWC" else int(np.prod(self.shape[1:]))
        return np.arange(self.channels) * step

    def tap_offsets(self, kernel: tuple[int, int]) -> ndarray:
        """Return where tap (i, j) finds its element, seen from tap (0, 0); i slower."""
        return grid(self.along(0, np.arange(kernel[0])), self.along(1, np.arange(kernel[1])))

    def along(self, axis: int, taps: ndarray) -> ndarray:
        """Return where taps find their elements along an axis, seen from tap 0."""
        if self.layout == "HWC":
            return np.asarray(taps * (self.size[1] * self.channels, self.channels)[axis])
        height, width = self.planes
        phase, place = taps % self.stride[axis], taps // self.stride[axis]
        phases = 1 if self.unrolled else self.kept[1]
        if axis == 0:
            found = phase * phases * height * width + place * width
        elif self.unrolled:
            found = taps * self.kept[0] * height * width
        else:
            found = phase * height * width + place
        return np.asarray(found)

    def pixel_offsets(self, count: tuple[int, int], step: tuple[int, int] = (1, 1)) -> ndarray:
        """Return where output pixels find their tap (0, 0); columns fastest.

        In CHW a step of one is one place in a phase; in HWC ``step`` is in padded pixels.
        """
        if self.layout == "HWC":
            row, column = self.size[1] * self.channels, self.channels
        else:
            row, column = self.planes[1], 1
        return grid(np.arange(count[0]) * row * step[0], np.arange(count[1]) * column * step[1])


def _slice(places: ndarray) -> slice:
    if places.size < 2:
        return slice(int(places[0]), int(places[0]) + 1) if places.size else slice(0, 0)
    return slice(int(places[0]), int(places[-1]) + 1, int(places[1] - places[0]))
