"""The device work of layers with weights: what their steps read and write, and their products.

Shapes of the products are those of docs/numerics.md, section 5, CHW.
"""

from math import prod
from typing import Any

from pyodl.device._space import Matmul, Space, Span
from pyodl.device._step import Maker, Step
from pyodl.layers import Conv2D, DepthwiseConv2D, Linear, PointwiseConv2D
from pyodl.primitives._geometry import Convolution

__all__ = ["STEPS"]


# ---- 2-D convolution -----------------------------------------------------------------------------


def _conv(maker: Maker) -> tuple[Convolution, str, int, int]:
    """Return geometry, algorithm, kernel positions and output columns."""
    layer: Any = maker.node.layer
    conv = layer.geometry(maker.node.input_shapes[0])
    return conv, layer.algorithm, prod(conv.kernel), conv.out_size[1]


def _rows_read(conv: Convolution) -> Span:
    return Span(conv.height, conv.kernel[0], conv.stride[0], conv.padding[0])


def conv2d_forward(maker: Maker) -> Step:
    """Output: channels by rows of pixels."""
    conv, algorithm, area, columns = _conv(maker)
    channels, rows, k = Span(conv.out_channels), Span(conv.out_size[0]), Span(conv.channels)
    operands = [
        maker.weight(conv.taps * conv.out_channels, area, channels=channels, k=k),
        maker.input(conv.width, rows=_rows_read(conv), k=k),
        maker.output(columns, channels=channels, rows=rows),
    ]
    if algorithm == "im2row":
        operands.append(maker.buffer("im2row", columns * area, rows=rows, k=k))
    space = Space(conv.out_channels, conv.out_size[0], columns, conv.channels, area)
    matmul = Matmul(conv.out_channels, conv.taps, conv.pixels, transpose_b=True)
    return maker.weighted("forward", "conv2d", space, operands, *_how(matmul, algorithm))


def _how(matmul: Matmul, algorithm: str) -> tuple[Matmul | None, str]:
    """Return the product of im2row, none for the direct loops, and the algorithm."""
    return (matmul if algorithm == "im2row" else None), algorithm


def conv2d_weight_grad(maker: Maker) -> Step:
    """Weight gradient: output by input channels; K is cut in output rows."""
    conv, algorithm, area, columns = _conv(maker)
    channels, rows, k = Span(conv.out_channels), Span(conv.channels), Span(conv.out_size[0])
    operands = [
        maker.output_gradient(columns, channels=channels, k=k),
        maker.input(conv.width, rows=rows, k=_rows_read(conv)),
        maker.weight_gradient(conv.taps * conv.out_channels, area, channels=channels, rows=rows),
    ]
    if algorithm == "im2row":
        operands.append(maker.buffer("im2row", columns * area, rows=rows, k=k))
    space = Space(conv.out_channels, conv.channels, area, conv.out_size[0], columns)
    matmul = Matmul(conv.out_channels, conv.pixels, conv.taps, transpose_b=False)
    return maker.weighted("weight_grad", "conv2d", space, operands, *_how(matmul, algorithm))


def _gradient_rows(conv: Convolution) -> Span:
    return Span(conv.out_size[0], conv.kernel[0], conv.stride[0], conv.padding[0], gradient=True)


def conv2d_input_grad(maker: Maker) -> Step:
    """Input gradient: channels by rows of pixels."""
    conv, algorithm, area, columns = _conv(maker)
    channels, rows, k = Span(conv.channels), Span(conv.height), Span(conv.out_channels)
    operands = [
        maker.weight(conv.taps * conv.out_channels, area, channels=channels, k=k),
        maker.output_gradient(columns, rows=_gradient_rows(conv), k=k),
        maker.input_gradient(conv.width, channels=channels, rows=rows),
    ]
    if algorithm == "im2row":
        operands.append(maker.buffer("transposed weights", area, channels=channels, k=k))
        operands.append(maker.buffer("im2row", conv.width * area, rows=rows, k=k))
    space = Space(conv.channels, conv.height, conv.width, conv.out_channels, area)
    matmul = Matmul(
        *(conv.channels, conv.out_channels * area, conv.height * conv.width), transpose_b=True
    )
    return maker.weighted("input_grad", "conv2d", space, operands, *_how(matmul, algorithm))


# ---- depthwise convolution: K stays whole --------------------------------------------------------


def _depthwise(maker: Maker) -> tuple[Convolution, int, Span]:
    layer: Any = maker.node.layer
    conv = layer.geometry(maker.node.input_shapes[0])
    return conv, prod(conv.kernel), Span(conv.channels)


def depthwise_forward(maker: Maker) -> Step:
    """Output: channels by rows of pixels."""
    conv, area, channels = _depthwise(maker)
    height, width = conv.out_size
    operands = [
        maker.weight(conv.channels * area, area, channels=channels),
        maker.input(conv.width, channels=channels, rows=_rows_read(conv)),
        maker.output(width, channels=channels, rows=Span(height)),
    ]
    return maker.weighted(
        "forward", "depthwise", Space(conv.channels, height, width, 1, area), operands
    )


def depthwise_weight_grad(maker: Maker) -> Step:
    """Weight gradient: channels only."""
    conv, area, channels = _depthwise(maker)
    operands = [
        maker.output_gradient(conv.pixels, channels=channels),
        maker.input(conv.height * conv.width, channels=channels),
        maker.weight_gradient(conv.channels * area, area, channels=channels),
    ]
    space = Space(conv.channels, 1, area, 1, conv.pixels)
    return maker.weighted("weight_grad", "depthwise", space, operands)


def depthwise_input_grad(maker: Maker) -> Step:
    """Input gradient: channels by rows of pixels."""
    conv, area, channels = _depthwise(maker)
    operands = [
        maker.weight(conv.channels * area, area, channels=channels),
        maker.output_gradient(conv.out_size[1], channels=channels, rows=_gradient_rows(conv)),
        maker.input_gradient(conv.width, channels=channels, rows=Span(conv.height)),
    ]
    space = Space(conv.channels, conv.height, conv.width, 1, area)
    return maker.weighted("input_grad", "depthwise", space, operands)


# ---- pointwise convolution -----------------------------------------------------------------------


def _pointwise(maker: Maker) -> tuple[int, int, int, int]:
    """Return input and output channels, rows and columns."""
    return maker.node.input_shapes[0][0], *maker.node.shape  # type: ignore[return-value]


def pointwise_forward(maker: Maker) -> Step:
    """Output: channels by rows of pixels; K is cut in input channels."""
    c_in, c_out, height, width = _pointwise(maker)
    channels, rows, k = Span(c_out), Span(height), Span(c_in)
    operands = [
        maker.weight(c_in * c_out, 1, channels=channels, k=k),
        maker.input(width, rows=rows, k=k),
        maker.output(width, channels=channels, rows=rows),
    ]
    matmul = Matmul(c_out, c_in, height * width, transpose_b=False)
    space = Space(c_out, height, width, c_in)
    return maker.weighted("forward", "pointwise", space, operands, matmul)


def pointwise_weight_grad(maker: Maker) -> Step:
    """Weight gradient: output by input channels; K is cut in rows of pixels."""
    c_in, c_out, height, width = _pointwise(maker)
    channels, rows, k = Span(c_out), Span(c_in), Span(height)
    operands = [
        maker.output_gradient(width, channels=channels, k=k),
        maker.input(width, rows=rows, k=k),
        maker.weight_gradient(c_in * c_out, 1, channels=channels, rows=rows),
    ]
    matmul = Matmul(c_out, height * width, c_in, transpose_b=True)
    space = Space(c_out, c_in, 1, height, width)
    return maker.weighted("weight_grad", "pointwise", space, operands, matmul)


def pointwise_input_grad(maker: Maker) -> Step:
    """Input gradient: channels by rows of pixels; K is cut in output channels."""
    c_in, c_out, height, width = _pointwise(maker)
    channels, rows, k = Span(c_in), Span(height), Span(c_out)
    operands = [
        maker.weight(c_in * c_out, 1, channels=channels, k=k),
        maker.output_gradient(width, rows=rows, k=k),
        maker.input_gradient(width, channels=channels, rows=rows),
        maker.buffer("transposed weights", 1, channels=channels, k=k),
    ]
    matmul = Matmul(c_in, c_out, height * width, transpose_b=False)
    space = Space(c_in, height, width, c_out)
    return maker.weighted("input_grad", "pointwise", space, operands, matmul)


# ---- linear: the input gradient's channels are one, its rows the inputs --------------------------


def linear_forward(maker: Maker) -> Step:
    """Output: channels; K is cut in inputs."""
    (n,), (k,) = maker.node.shape, maker.node.input_shapes[0]
    channels, terms = Span(n), Span(k)
    operands = [
        maker.weight(n * k, 1, channels=channels, k=terms),
        maker.input(1, k=terms),
        maker.output(1, channels=channels),
    ]
    matmul = Matmul(n, k, 1, transpose_b=False)
    return maker.weighted("forward", "linear", Space(n, 1, 1, k), operands, matmul)


def linear_weight_grad(maker: Maker) -> Step:
    """Weight gradient: outputs by inputs; K is one."""
    (n,), (m,) = maker.node.shape, maker.node.input_shapes[0]
    channels, rows = Span(n), Span(m)
    operands = [
        maker.output_gradient(1, channels=channels),
        maker.input(1, rows=rows),
        maker.weight_gradient(n * m, 1, channels=channels, rows=rows),
    ]
    matmul = Matmul(n, 1, m, transpose_b=False)
    return maker.weighted("weight_grad", "linear", Space(n, m), operands, matmul)


def linear_input_grad(maker: Maker) -> Step:
    """Input gradient: one channel whose rows are the inputs; K is cut in outputs."""
    (k,), (m,) = maker.node.shape, maker.node.input_shapes[0]
    rows, terms = Span(m), Span(k)
    operands = [
        maker.weight(k * m, 1, rows=rows, k=terms),
        maker.output_gradient(1, k=terms),
        maker.input_gradient(1, rows=rows),
    ]
    matmul = Matmul(1, k, m, transpose_b=False)
    return maker.weighted("input_grad", "linear", Space(1, m, 1, k), operands, matmul)


STEPS = {  # forward, weight gradient, input gradient
    Conv2D: (conv2d_forward, conv2d_weight_grad, conv2d_input_grad),
    DepthwiseConv2D: (depthwise_forward, depthwise_weight_grad, depthwise_input_grad),
    PointwiseConv2D: (pointwise_forward, pointwise_weight_grad, pointwise_input_grad),
    Linear: (linear_forward, linear_weight_grad, linear_input_grad),
}
