"""A network's layers as a graph: who takes whose output, and which gradients a step needs."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from pyodl.layers import Layer, Shape

__all__ = ["INPUT", "Node", "needed_gradients", "resolve"]

INPUT = "input"  # the name of the network's input


@dataclass(frozen=True)
class Node:
    """A layer in its place.

    Parameters
    ----------
    layer : Layer
        With its name and its inputs' names filled in.
    input_shapes : tuple of tuple of int
    shape : tuple of int
        Of the output.
    """

    layer: Layer
    input_shapes: tuple[Shape, ...]
    shape: Shape

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.layer.name

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the layers whose outputs it takes, or "input"."""
        return tuple(self.layer.inputs)


def resolve(layers: Iterable[Layer], input_shape: Shape) -> tuple[Node, ...]:
    """Name the layers, connect them, and compute every shape.

    Raises
    ------
    TypeError
        If an item is no layer.
    ValueError
        If there is none, a name is taken or unknown, a layer gets another number of inputs than it
        takes, shapes do not fit, or an output is used by no layer.
    """
    shapes = {INPUT: input_shape}
    nodes: list[Node] = []
    before = INPUT
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"layers[{i}] must be a pyodl layer, not {type(layer).__name__}")
        name = layer.name or _free_name(layer, shapes)
        if name in shapes:
            raise ValueError(f"layers[{i}] is named {name!r}, as an earlier layer is")
        inputs = tuple(layer.inputs) or (before,)
        node = _connect(replace(layer, name=name, inputs=inputs), shapes)
        nodes.append(node)
        shapes[name] = node.shape
        before = name
    if not nodes:
        raise ValueError("layers is empty; a network has at least one layer")
    unused = shapes.keys() - {INPUT, before} - {name for node in nodes for name in node.inputs}
    if unused:
        raise ValueError(f"no layer takes the output of {', '.join(sorted(unused))}")
    return tuple(nodes)


def _free_name(layer: Layer, taken: Collection[str]) -> str:
    """Return the kind and the lowest number that makes a new name."""
    kind, number = type(layer).__name__.lower(), 1
    while f"{kind}{number}" in taken:
        number += 1
    return f"{kind}{number}"


def _connect(layer: Layer, shapes: dict[str, Shape]) -> Node:
    unknown = [name for name in layer.inputs if name not in shapes]
    if unknown:
        raise ValueError(
            f"layer {layer.name!r} takes {unknown[0]!r}; it may take {', '.join(shapes)}"
        )
    if len(layer.inputs) != layer.arity:
        raise ValueError(
            f"layer {layer.name!r} has {len(layer.inputs)} inputs; it must have {layer.arity}"
        )
    inputs = tuple(shapes[name] for name in layer.inputs)
    try:
        return Node(layer, inputs, layer.output_shape(*inputs))
    except ValueError as error:
        raise ValueError(f"layer {layer.name!r}: {error}") from error


def needed_gradients(nodes: Sequence[Node], trained: Collection[str]) -> frozenset[str]:
    """Return the layers whose output's gradient a step computes.

    Those are the trained layers and all that lie above one: below the lowest trained layer there is
    none, and never one for the network's input.
    """
    needed: set[str] = set()
    for node in nodes:
        if node.name in trained or not needed.isdisjoint(node.inputs):
            needed.add(node.name)
    return frozenset(needed)
