"""Layers with weights that slide over an image: 2-D, depthwise and pointwise convolution."""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation
from pyodl.layers._layer import Shape, Site, image
from pyodl.layers._weights import Weighted
from pyodl.primitives import _check as check
from pyodl.primitives._convolution import BoundConvolution
from pyodl.primitives._depthwise import BoundDepthwise
from pyodl.primitives._geometry import Convolution
from pyodl.primitives._matmul import bind_pixel_sums
from pyodl.primitives.pointwise import (
    bind_pointwise_forward,
    bind_pointwise_input_grad,
    bind_pointwise_weight_grad,
)

__all__ = ["Conv2D", "DepthwiseConv2D", "PointwiseConv2D"]

Pair = int | tuple[int, int]
Sides = int | tuple[int, int, int, int] | str


def _padding(value: Sides) -> Sides:
    return (
        check.choice("padding", value, ("same",))
        if isinstance(value, str)
        else check.padding(value)
    )


def _geometry(
    kind: str, shape: Shape, out_channels: int | None, kernel: Pair, stride: Pair, padding: Sides
) -> Convolution:
    """Return the geometry of a convolution over an input of ``shape``; raise ValueError.

    Padding "same" is TFLite's: ceil(size / stride) outputs, and where the padding is odd the
    larger half goes to the bottom and right.
    """
    channels, *size = image(kind, shape)
    kernels, strides = check.pair("kernel_size", kernel, 1), check.pair("stride", stride, 1)
    if isinstance(padding, str):
        sides = []
        for n, k, s in zip(size, kernels, strides, strict=True):
            total = max((-(-n // s) - 1) * s + k - n, 0)
            sides += [total // 2, total - total // 2]
        padding = (sides[0], sides[1], sides[2], sides[3])
    conv = Convolution(
        *(channels, size[0], size[1], out_channels or channels),
        *(kernels, strides, check.padding(padding), "CHW"),
    )
    check.fits("kernel_size", kernels, conv.padded)
    return conv


@dataclass(frozen=True)
class Conv2D(Weighted):
    """A 2-D convolution, (Cin, H, W) to (Cout, Ho, Wo), with weights (Cout, Cin, Kh, Kw).

    Parameters
    ----------
    out_channels : int
    kernel_size : int or (int, int)
    stride : int or (int, int)
    padding : int, (up, down, left, right), or "same"
        "same" is TFLite's: ceil(size / stride) outputs, an odd padding's larger half at the bottom
        and right.
    algorithm : {"im2row", "direct"}
        See `pyodl.primitives.conv2d_forward`.
    bias, kernel, gain, name, inputs
        See `Linear`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    """

    out_channels: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Sides = 0
    algorithm: str = "im2row"

    def check(self) -> None:
        super().check()
        check.integer("out_channels", self.out_channels, 1)
        check.choice("algorithm", self.algorithm, ("im2row", "direct"))
        self._set(
            kernel_size=check.pair("kernel_size", self.kernel_size, 1),
            stride=check.pair("stride", self.stride, 1),
            padding=_padding(self.padding),
        )

    def geometry(self, shape: Shape) -> Convolution:
        size = (self.kernel_size, self.stride, self.padding)
        return _geometry("Conv2D", shape, self.out_channels, *size)

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.geometry(shapes[0]).output_shape

    def weight_shape(self, shape: Shape) -> Shape:
        return self.geometry(shape).weight_shape

    def macs(self, *shapes: Shape) -> int:
        conv = self.geometry(shapes[0])
        return conv.pixels * conv.taps * conv.out_channels

    def workspace(self, site: Site) -> BoundConvolution:
        return BoundConvolution(
            self.geometry(site.inputs[0].shape),
            site.stager,
            algorithm=self.algorithm,
            kernel=self.kernel,
        )

    def bind_forward(self, site: Site, w: ndarray) -> list[Operation]:
        bound: BoundConvolution = site.workspace
        return bound.forward(site.inputs[0], w, site.output, site.tiles.get("forward"))

    def bind_weight_grad(self, site: Site, dy: ndarray, dw: ndarray) -> list[Operation]:
        bound: BoundConvolution = site.workspace
        return bound.weight_grad(site.inputs[0], dy, dw, site.tiles.get("weight_grad"))

    def bind_bias_grad(self, site: Site, dy: ndarray, db: ndarray) -> list[Operation]:
        bound: BoundConvolution = site.workspace
        return bound.bias_grad(dy, db)

    def bind_input_grad(self, site: Site, w: ndarray, dy: ndarray, dx: ndarray) -> list[Operation]:
        bound: BoundConvolution = site.workspace
        return bound.input_grad(w, dy, dx, site.tiles.get("input_grad"))


@dataclass(frozen=True)
class DepthwiseConv2D(Weighted):
    """A convolution of every channel by itself, with weights (C, Kh, Kw).

    Parameters
    ----------
    kernel_size, stride, padding
        See `Conv2D`.
    bias, kernel, gain, name, inputs
        See `Linear`; there is no matmul, so ``kernel`` does not matter.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    """

    kernel_size: Pair
    stride: Pair = 1
    padding: Sides = 0

    def check(self) -> None:
        super().check()
        self._set(
            kernel_size=check.pair("kernel_size", self.kernel_size, 1),
            stride=check.pair("stride", self.stride, 1),
            padding=_padding(self.padding),
        )

    def geometry(self, shape: Shape) -> Convolution:
        size = (self.kernel_size, self.stride, self.padding)
        return _geometry("DepthwiseConv2D", shape, None, *size)

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.geometry(shapes[0]).output_shape

    def weight_shape(self, shape: Shape) -> Shape:
        conv = self.geometry(shape)
        return (conv.channels, *conv.kernel)

    def macs(self, *shapes: Shape) -> int:
        conv = self.geometry(shapes[0])
        return conv.pixels * conv.taps

    def workspace(self, site: Site) -> BoundDepthwise:
        return BoundDepthwise(self.geometry(site.inputs[0].shape), site.stager)

    def bind_forward(self, site: Site, w: ndarray) -> list[Operation]:
        bound: BoundDepthwise = site.workspace
        return bound.forward(site.inputs[0], w, site.output, site.tiles.get("forward"))

    def bind_weight_grad(self, site: Site, dy: ndarray, dw: ndarray) -> list[Operation]:
        bound: BoundDepthwise = site.workspace
        return bound.weight_grad(site.inputs[0], dy, dw, site.tiles.get("weight_grad"))

    def bind_bias_grad(self, site: Site, dy: ndarray, db: ndarray) -> list[Operation]:
        bound: BoundDepthwise = site.workspace
        return bound.bias_grad(dy, db)

    def bind_input_grad(self, site: Site, w: ndarray, dy: ndarray, dx: ndarray) -> list[Operation]:
        bound: BoundDepthwise = site.workspace
        return bound.input_grad(w, dy, dx, site.tiles.get("input_grad"))


@dataclass(frozen=True)
class PointwiseConv2D(Weighted):
    """A 1x1 convolution as matrix products without im2row, with weights (Cout, Cin).

    Parameters
    ----------
    out_channels : int
    bias, kernel, gain, name, inputs
        See `Linear`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    """

    out_channels: int

    def check(self) -> None:
        super().check()
        check.integer("out_channels", self.out_channels, 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        _, height, width = image("PointwiseConv2D", shapes[0])
        return self.out_channels, height, width

    def weight_shape(self, shape: Shape) -> Shape:
        return self.out_channels, shape[0]

    def macs(self, *shapes: Shape) -> int:
        return self.out_channels * int(np.prod(shapes[0]))

    def bind_forward(self, site: Site, w: ndarray) -> list[Operation]:
        return bind_pointwise_forward(site.inputs[0], w, site.output, **self.how(site, "forward"))

    def bind_weight_grad(self, site: Site, dy: ndarray, dw: ndarray) -> list[Operation]:
        return bind_pointwise_weight_grad(site.inputs[0], dy, dw, **self.how(site, "weight_grad"))

    def bind_bias_grad(self, site: Site, dy: ndarray, db: ndarray) -> list[Operation]:
        return bind_pixel_sums(dy, db, "CHW", site.stager)

    def bind_input_grad(self, site: Site, w: ndarray, dy: ndarray, dx: ndarray) -> list[Operation]:
        return bind_pointwise_input_grad(w, dy, dx, **self.how(site, "input_grad"))
