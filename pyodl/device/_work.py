"""The device work of each kind of layer."""

from dataclasses import replace
from math import prod
from typing import Any

from pyodl._graph import Node
from pyodl.device._space import Operand, Space, Span
from pyodl.device._step import Maker, Step, Tensors, elementwise
from pyodl.device._weighted import STEPS
from pyodl.formats import Format
from pyodl.layers import Add, AvgPool2D, Flatten, InstanceNorm, MaxPool2D, Sigmoid
from pyodl.layers._weights import Weighted

__all__ = ["forward", "input_grad", "parameter_grad"]


def forward(node: Node, tensors: Tensors, storage: Format) -> list[Step]:
    """Return the steps that compute the output of a layer."""
    layer, maker = node.layer, Maker(node, tensors, storage)
    if isinstance(layer, Flatten):
        return []
    if isinstance(layer, Weighted):
        step = STEPS[type(layer)][0](maker)
        return [replace(step, operands=(*step.operands, *_bias(maker, step)))]
    if isinstance(layer, AvgPool2D | MaxPool2D):
        return [_pool_forward(maker, layer)]
    if isinstance(layer, InstanceNorm):
        return [_norm(maker, "forward")]
    taken = [(name, "input", "load") for name in tensors.inputs]
    made = [*taken, (tensors.output, "output", "store")]
    return [elementwise(node.name, "forward", _name(layer), node.shape, made, storage)]


def parameter_grad(node: Node, tensors: Tensors, storage: Format) -> list[Step]:
    """Return the steps that compute the gradients of a layer's parameters."""
    layer, maker = node.layer, Maker(node, tensors, storage)
    if isinstance(layer, InstanceNorm):
        return [_norm(maker, "weight_grad")]
    if not isinstance(layer, Weighted):
        return []
    steps = [STEPS[type(layer)][1](maker)]
    return [*steps, _bias_grad(maker)] if layer.bias else steps


def input_grad(node: Node, tensors: Tensors, storage: Format) -> list[Step]:
    """Return the steps that compute the gradients of a layer's inputs."""
    layer, maker = node.layer, Maker(node, tensors, storage)
    if isinstance(layer, Flatten | Add):
        return []
    if isinstance(layer, Weighted):
        return [STEPS[type(layer)][2](maker)]
    if isinstance(layer, AvgPool2D | MaxPool2D):
        return [_pool_backward(maker, layer)]
    if isinstance(layer, InstanceNorm):
        return [_norm(maker, "input_grad")]
    seen = tensors.output if isinstance(layer, Sigmoid) else tensors.inputs[0]
    made = [
        (seen, "output" if isinstance(layer, Sigmoid) else "input", "load"),
        (tensors.d_output, "output_gradient", "load"),
        (tensors.d_inputs[0], "input_gradient", "store"),
    ]
    return [elementwise(node.name, "input_grad", _name(layer), node.shape, made, storage)]


def _name(layer: object) -> str:
    return type(layer).__name__.lower()


def _bias(maker: Maker, step: Step) -> list[Operand]:
    """Return the bias that a forward step adds to its stored sums."""
    layer: Any = maker.node.layer
    if not layer.bias:
        return []
    name = f"{maker.node.name}.bias"
    return [maker.make(name, "bias", maker.node.shape[0], 1, channels=Span(step.space.channels))]


def _bias_grad(maker: Maker) -> Step:
    """Return the sums of the output gradient over its pixels; a copy for a vector."""
    count, pixels = maker.node.shape[0], prod(maker.node.shape[1:])
    channels = Span(count)
    dy = (maker.tensors.d_output, "output_gradient", count * pixels, pixels)
    db = (f"d_{maker.node.name}.bias", "parameter_gradient", count, 1)
    operands = [
        maker.make(*dy, channels=channels),
        maker.make(*db, channels=channels, stores=True),
    ]
    return maker.step("bias_grad", "bias_grad", Space(count, 1, 1, 1, pixels), operands)


# ---- layers that summarise an image --------------------------------------------------------------


def _pool_forward(maker: Maker, layer: AvgPool2D | MaxPool2D) -> Step:
    """Output: channels by rows."""
    (count, height, width), (_, rows, columns) = maker.node.input_shapes[0], maker.node.shape
    kernel, stride = layer.windows(maker.node.input_shapes[0])
    channels = Span(count)
    operands = [
        maker.input(width, channels=channels, rows=Span(height, kernel[0], stride[0])),
        maker.output(columns, channels=channels, rows=Span(rows)),
    ]
    return maker.step("forward", _name(layer), Space(count, rows, columns), operands)


def _pool_backward(maker: Maker, layer: AvgPool2D | MaxPool2D) -> Step:
    """Input gradient: channels; windows may overlap, so rows stay together."""
    count, *size = maker.node.input_shapes[0]
    channels, area = Span(count), prod(size)
    operands = [
        maker.output_gradient(prod(maker.node.shape[1:]), channels=channels),
        maker.input_gradient(area, channels=channels),
    ]
    if isinstance(layer, MaxPool2D):
        operands.append(maker.input(area, channels=channels))
    return maker.step("input_grad", _name(layer), Space(count, 1, area), operands)


def _norm(maker: Maker, step: str) -> Step:
    """Return a step of instance normalisation: channels, each of them whole."""
    name, (count, height, width) = maker.node.name, maker.node.shape
    channels, area = Span(count), height * width

    def parameter(which: str) -> Operand:
        return maker.make(f"{name}.{which}", "weight", count, 1, channels=channels)

    def gradient(which: str) -> Operand:
        role = "parameter_gradient"
        return maker.make(f"d_{name}.{which}", role, count, 1, channels=channels, stores=True)

    forward = step == "forward"
    statistics = [
        maker.make(f"{name}.{which}", "statistics", count, 1, channels=channels, stores=forward)
        for which in ("mean", "std", "var")
    ]
    operands = [maker.input(area, channels=channels), *statistics]
    if forward:
        operands += [parameter("gamma"), parameter("beta"), maker.output(area, channels=channels)]
    else:
        operands.append(maker.output_gradient(area, channels=channels))
    if step == "weight_grad":
        operands += [gradient("gamma"), gradient("beta")]
    if step == "input_grad":
        operands += [parameter("gamma"), maker.input_gradient(area, channels=channels)]
    return maker.step(step, "instancenorm", Space(count, 1, area), operands)
