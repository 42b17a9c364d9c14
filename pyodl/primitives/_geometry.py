"""The geometry of a convolution, and where its operands lie once staged.

Every step of a convolution is a contraction over offsets into a padded image, so that no im2row
matrix is written: the rows and columns of im2row are the sums ``a_row + a_k`` themselves.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod

import numpy as np
from numpy import ndarray

from pyodl._kernels import MOST_LISTED
from pyodl.primitives._contraction import Offsets, Padding
from pyodl.primitives._image import Image, grid
from pyodl.primitives._steps import Step

__all__ = ["Convolution", "input_grad_phases"]


@dataclass(frozen=True)
class Convolution:
    """Sizes of a 2-D convolution; padding is (up, down, left, right)."""

    channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    layout: str
    listed: bool = False  # zeros of images are left out: pixels are rows where terms are listed
    lanes: int = Step.EXACT_PRODUCT.lanes  # outputs in one register
    sparse_input: bool = False  # the weight gradient may leave out zeros of the input

    def lanes_are_pixels(self, channels: int) -> bool:
        """Whether the columns of a contraction are pixels rather than so many channels."""
        spare = -channels % self.lanes
        return self.layout == "CHW" and not (self.listed and 4 * spare <= channels)

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the padded image."""
        up, down, left, right = self.padding
        return self.height + up + down, self.width + left + right

    @cached_property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        (height, width), (sh, sw) = self.padded, self.stride
        return (height - self.kernel[0]) // sh + 1, (width - self.kernel[1]) // sw + 1

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return self.out_size[0] * self.out_size[1]

    @property
    def taps(self) -> int:
        """Weights of one output channel."""
        return self.channels * self.kernel[0] * self.kernel[1]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of the input in its layout."""
        return self.shaped(self.channels, (self.height, self.width))

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape of the output in its layout."""
        return self.shaped(self.out_channels, self.out_size)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weights in their layout."""
        if self.layout == "CHW":
            return (self.out_channels, self.channels, *self.kernel)
        return (self.out_channels, *self.kernel, self.channels)

    def shaped(self, channels: int, size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (C, H, W) or (H, W, C)."""
        return (channels, *size) if self.layout == "CHW" else (*size, channels)

    @property
    def by_pixels(self) -> bool:
        """Whether the weight gradient may be summed by pixels of the input that are not zero.

        The padding reaches no further than the kernel does. At a stride of 2, a step has to be
        costly, output channels to fill more than half of a register, and two rows of pixels to be
        listed at a time.
        """
        strided = (
            self.stride == (2, 2)
            and self.listed
            and 2 * self.out_channels > self.lanes
            and 2 * self.width <= MOST_LISTED
        )
        return (
            self.sparse_input
            and self.layout == "CHW"
            and self.kernel == (3, 3)
            and (self.stride == (1, 1) or strided)
            and max(self.padding) <= 2
        )

    @cached_property
    def image(self) -> Image:
        """The padded input that forward and weight gradient read."""
        up, _, left, _ = self.padding
        (sh, sw), (kh, kw) = self.stride, self.kernel
        plain = self.layout == "HWC"
        image = Image(
            *(self.channels, self.height, self.width, (up, left), self.padded),
            stride=(1, 1) if plain else (sh, sw),
            kept=(1, 1) if plain else (min(sh, kh), min(sw, kw)),
            layout=self.layout,
        )
        return self.unrolled(image, self.out_channels, kw, self.out_size)

    def unrolled(
        self, image: Image, channels: int, columns: int, out_size: tuple[int, int]
    ) -> Image:
        """Unroll an image by the kernel's columns, if registers of pixels would not be filled.

        So many ``channels`` and pixels are what comes of it.
        """
        if not self.lanes_are_pixels(channels) or columns == 1:
            return image
        pixels = image.pixel_offsets(out_size)
        first = registers = 0
        while first < len(pixels):
            first = int(np.searchsorted(pixels, pixels[first] + self.lanes))
            registers += 1
        if registers == -(-len(pixels) // self.lanes):
            return image
        return replace(image, unrolled=(columns, out_size[1]))

    def tap_order(self, channel_axis: ndarray, taps: ndarray, direct: bool) -> ndarray:
        """Return offsets of (channel, tap) pairs in the order in which they are summed.

        im2row sums a row of its matrix: (c, kh, kw) in CHW, (kh, kw, c) in HWC. The direct loops
        are (c, kh, kw) in either layout.
        """
        if self.layout == "CHW" or direct:
            return grid(channel_axis, taps)
        return grid(taps, channel_axis)

    def weight_offsets(
        self, flipped: bool = False, channels_last: bool = False
    ) -> tuple[ndarray, ndarray, ndarray]:
        """Return where output channels, input channels and taps lie in the weights."""
        size = self.kernel[0] * self.kernel[1]
        taps = np.arange(size)[::-1] if flipped else np.arange(size)
        if self.layout == "CHW" and not channels_last:
            return np.arange(self.out_channels) * self.taps, np.arange(self.channels) * size, taps
        return (
            np.arange(self.out_channels) * self.taps,
            np.arange(self.channels),
            taps * self.channels,
        )

    def shaped_offsets(self, channels: int, size: int) -> tuple[ndarray, ndarray]:
        """Return where the pixels and the channels of an image of ``size`` pixels lie."""
        if self.layout == "CHW":
            return np.arange(size), np.arange(channels) * size
        return np.arange(size) * channels, np.arange(channels)

    def pixel_offsets(self) -> ndarray:
        """Return where output pixels find their first tap in the padded input."""
        step = (1, 1) if self.layout == "CHW" else self.stride
        return self.image.pixel_offsets(self.out_size, step)


@dataclass(frozen=True)
class Phase:
    """Input pixels (first, first + stride, ...) that the same kernel taps reach, per axis."""

    first: tuple[int, int]
    count: tuple[int, int]
    taps: ndarray  # places in the flipped kernel, row-major
    offsets: ndarray  # of those taps in the padded output gradient, from the phase's pixel 0


@lru_cache(maxsize=256)
def input_grad_phases(conv: Convolution) -> tuple[Image, tuple[Phase, ...]]:
    """Return the padded output gradient and the phases of the direct input gradient.

    Tap i of the flipped kernel takes input row h from output row ``(h + up - (k - 1) + i) / s``
    where that is a whole number; input rows alike modulo s share their taps.
    """
    up, _, left, _ = conv.padding
    rows = [_axis_phases(0, phase, conv, up) for phase in range(min(conv.stride[0], conv.height))]
    columns = [
        _axis_phases(1, phase, conv, left) for phase in range(min(conv.stride[1], conv.width))
    ]
    before = tuple(
        max([0] + [-s for _, _, shifts in axis for s in shifts]) for axis in (rows, columns)
    )
    after = tuple(
        max([size] + [count + s for _, count, shifts in axis for s in shifts])
        for axis, size in zip((rows, columns), conv.out_size, strict=True)
    )
    size = (before[0] + after[0], before[1] + after[1])
    image = Image(
        conv.out_channels, *conv.out_size, (before[0], before[1]), size, layout=conv.layout
    )
    count = (rows[0][1], columns[0][1])  # of the first phases, which are the largest
    reach = before[1] + 1 + max([0] + [s for _, _, shifts in columns for s in shifts])
    image = conv.unrolled(image, conv.channels, reach, count)
    phases = tuple(
        Phase(
            (i, j),
            (count_h, count_w),
            grid(np.array(taps_h, int) * conv.kernel[1], np.array(taps_w, int)),
            grid(
                image.along(0, np.array(shifts_h, int) + before[0]),
                image.along(1, np.array(shifts_w, int) + before[1]),
            ),
        )
        for i, (taps_h, count_h, shifts_h) in enumerate(rows)
        for j, (taps_w, count_w, shifts_w) in enumerate(columns)
    )
    return image, phases


def _axis_phases(
    axis: int, phase: int, conv: Convolution, before: int
) -> tuple[list[int], int, list[int]]:
    """Return the taps, the count of pixels and the shift of each tap of a phase along an axis."""
    size, stride, taps = (conv.height, conv.width)[axis], conv.stride[axis], conv.kernel[axis]
    reach = [(i, phase + before - (taps - 1) + i) for i in range(taps)]
    met = [(i, at // stride) for i, at in reach if at % stride == 0]
    return [i for i, _ in met], -(-(size - phase) // stride), [shift for _, shift in met]


@lru_cache(maxsize=256)
def forward_offsets(conv: Convolution, *, direct: bool) -> Offsets:
    """Offsets of ``out[co, pixel] = sum of w[co, tap] * x[pixel, tap]``.

    Columns are pixels; or they are output channels, with the weights transposed.
    """
    image, lanes_are_pixels = conv.image, conv.lanes_are_pixels(conv.out_channels)
    out_channel, channel, taps = conv.weight_offsets()
    in_weights = conv.tap_order(channel, taps, direct)
    in_image = conv.tap_order(image.channel_offsets(), image.tap_offsets(conv.kernel), direct)
    padding, real = _skipping(image, direct, lanes_are_pixels)
    pixels, channels = conv.shaped_offsets(conv.out_channels, conv.pixels)
    if lanes_are_pixels:
        return Offsets(
            *(out_channel, in_weights, conv.pixel_offsets(), in_image, channels, pixels),
            padding=padding,
            real=real,
        )
    return Offsets(
        *(conv.pixel_offsets(), in_image),
        *(np.arange(conv.out_channels), in_weights * conv.out_channels),
        *(pixels, channels),
        lane_stride=1 if conv.layout == "HWC" else conv.pixels,
        padding=padding,
        real=real,
    )


def _skipping(image: Image, direct: bool, in_b: bool) -> tuple[Padding, ndarray | None]:
    """Return what a step does about the image's padding."""
    real = image.real() if direct else None
    if real is None:
        return Padding.MULTIPLIED, None
    return (Padding.SKIPPED_IN_B if in_b else Padding.SKIPPED_IN_A), real


@lru_cache(maxsize=256)
def output_gradient(conv: Convolution) -> tuple[Image, ndarray]:
    """Return the output gradient as (pixel, channel), and where its pixels lie.

    It has a border where input pixels are spread over it (`pixels.h`).
    """
    size, (height, width) = conv.out_size, conv.kernel
    up, left, border = 0, 0, size
    if conv.by_pixels and conv.stride == (1, 1):
        up, left = height - 1 - conv.padding[0], width - 1 - conv.padding[2]
        border = (conv.height + height - 1, conv.width + width - 1)
    elif conv.by_pixels:  # two rows more, which nothing but border is around
        up, left = 1, 1
        last_row = (conv.height - 1 + conv.padding[0]) // 2
        last_column = (conv.width - 1 + conv.padding[2]) // 2
        border = (max(last_row + 1, size[0]) + 3, max(last_column + 1, size[1]) + 1)
    image = Image(
        *(conv.out_channels, *size, (up, left), border),
        layout="HWC",
        negative=conv.by_pixels,
    )
    return image, image.pixel_offsets(size) + (up * border[1] + left) * conv.out_channels


@lru_cache(maxsize=256)
def weight_grad_offsets(conv: Convolution, *, direct: bool) -> Offsets:
    """Offsets of ``dw[co, tap] = sum of dy[co, pixel] * x[pixel, tap]``.

    CHW: rows are taps and columns output channels, with dy transposed. HWC: rows are output
    channels, columns taps.
    """
    image = conv.image
    pixels = output_gradient(conv)[1]
    if conv.layout == "CHW":
        padding, real = _skipping(image, direct, in_b=False)
        return Offsets(
            grid(image.channel_offsets(), image.tap_offsets(conv.kernel)),
            *(conv.pixel_offsets(), np.arange(conv.out_channels), pixels),
            *(np.arange(conv.taps), np.arange(conv.out_channels) * conv.taps),
            lane_stride=conv.taps,
            padding=padding,
            real=real,
        )
    padding, real = _skipping(image, direct, in_b=True)
    return Offsets(
        *(np.arange(conv.out_channels), pixels),
        grid(image.tap_offsets(conv.kernel), image.channel_offsets()),
        conv.pixel_offsets(),
        *(np.arange(conv.out_channels) * conv.taps, np.arange(conv.taps)),
        padding=padding,
        real=real,
    )


@lru_cache(maxsize=256)
def spread_gradient(conv: Convolution) -> Image:
    """Return the output gradient that im2row unrolls for the input gradient.

    It is spread by the stride, with a border of ``k - 1 - padding`` zeros.
    """
    (kh, kw), (up, _, left, _) = conv.kernel, conv.padding
    image = Image(
        *(conv.out_channels, *conv.out_size, (kh - 1 - up, kw - 1 - left)),
        (conv.height + kh - 1, conv.width + kw - 1),
        spread=conv.stride,
        layout=conv.layout,
    )
    return conv.unrolled(image, conv.channels, kw, (conv.height, conv.width))


@lru_cache(maxsize=256)
def input_grad_offsets(conv: Convolution) -> Offsets:
    """Offsets of the im2row input gradient, with the weights read flipped and transposed."""
    image = spread_gradient(conv)
    taps = image.tap_offsets(conv.kernel)
    everything = Phase((0, 0), (conv.height, conv.width), np.arange(len(taps)), taps)
    return _input_grad_offsets(conv, image, everything, (1, 1), direct=False)


@lru_cache(maxsize=256)
def input_grad_phase_offsets(conv: Convolution, *, direct: bool) -> tuple[Offsets, ...]:
    """Offsets of the input gradient without the zeros of a stride, one contraction a phase.

    The direct loops skip them; for im2row they are left out.
    """
    image, phases = input_grad_phases(conv)
    offsets = (_input_grad_offsets(conv, image, p, conv.stride, direct=direct) for p in phases)
    if direct:
        return tuple(offsets)
    return tuple(replace(table, padding=Padding.LEFT_OUT) for table in offsets)


@lru_cache(maxsize=256)
def input_grad_apart_offsets(conv: Convolution) -> tuple[Offsets, ...]:
    """Offsets as for im2row, but that every phase has an output (channels, rows, columns)."""
    image, phases = input_grad_phases(conv)
    result = []
    for phase in phases:
        table = _input_grad_offsets(conv, image, phase, conv.stride, direct=False)
        pixels = np.arange(prod(phase.count))
        channels = np.arange(conv.channels) * len(pixels)
        result.append(replace(table, out_row=channels, out_column=pixels, lane_stride=1))
    return tuple(result)


def _input_grad_offsets(
    conv: Convolution, image: Image, phase: Phase, stride: tuple[int, int], *, direct: bool
) -> Offsets:
    lanes_are_pixels = conv.lanes_are_pixels(conv.channels)
    out_channel, channel, taps = conv.weight_offsets(True, channels_last=not lanes_are_pixels)
    in_weights = conv.tap_order(out_channel, taps[phase.taps], direct)
    in_image = conv.tap_order(image.channel_offsets(), phase.offsets, direct)
    met = grid(
        (phase.first[0] + stride[0] * np.arange(phase.count[0])) * conv.width,
        phase.first[1] + stride[1] * np.arange(phase.count[1]),
    )
    places = image.pixel_offsets(phase.count)
    padding, real = _skipping(image, direct, lanes_are_pixels)
    size = conv.height * conv.width
    pixels, channels = conv.shaped_offsets(conv.channels, size)
    if lanes_are_pixels:
        return Offsets(
            *(channel, in_weights, places, in_image, channels, pixels[met]),
            lane_stride=stride[1],
            padding=padding,
            real=real,
        )
    return Offsets(
        *(places, in_image, channel, in_weights, pixels[met], channels),
        lane_stride=1 if conv.layout == "HWC" else size,
        padding=padding,
        real=real,
    )
