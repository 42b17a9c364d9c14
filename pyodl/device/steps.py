"""The work of one training step of a network on its device, kernel by kernel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from pyodl._graph import INPUT, Node, needed_gradients, resolve
from pyodl.device._space import Matmul, Operand, Space, Span
from pyodl.device._step import Step, Tensors, elementwise
from pyodl.device._work import forward, input_grad, parameter_grad
from pyodl.formats import Format
from pyodl.layers import Add, Flatten, Layer
from pyodl.network import Network

__all__ = ["Matmul", "Operand", "Space", "Span", "Step", "steps"]


def steps(
    net: Network, *, loss: str = "cross_entropy", storage: Format | None = None
) -> tuple[Step, ...]:
    """Return the device work of one training step, in the order in which it runs.

    Forward layer by layer; the loss; then, last layer first, the sums of gradients, the gradients
    of parameters and of inputs; the updates at the end. Frozen layers have no gradients of
    parameters, and nothing below the lowest trained layer has any gradient. The
    multiply-accumulates are those of `pyodl.Network.macs`.

    Tensors that a layer merely renames or passes on (Flatten, the gradients of Add) appear under
    the name of the tensor that they are.

    Parameters
    ----------
    net : Network
    loss : str
        See `pyodl.train_step`.
    storage : Format or None
        Storage format, to compare formats; None is the network's.

    Returns
    -------
    tuple of Step
    """
    nodes = resolve(net.layers, net.input_shape)
    trained = {
        node.name
        for node in nodes
        if node.layer.parameter_shapes(*node.input_shapes) and node.name not in net.frozen
    }
    return tuple(_Walk(nodes, trained, storage or net.arithmetic.storage).all(loss))


@dataclass
class _Walk:
    """One walk through a network: forward, backward, update."""

    nodes: Sequence[Node]
    trained: set[str]
    storage: Format

    def all(self, loss: str) -> list[Step]:
        self.names = {INPUT: INPUT}
        for node in self.nodes:
            same = isinstance(node.layer, Flatten)
            self.names[node.name] = self.names[node.inputs[0]] if same else node.name
        steps = [step for node in self.nodes for step in self._forward(node)]
        steps.append(self._loss(loss))
        steps += self._backward()
        return steps + self._update()

    def _tensors(self, node: Node, dy: str = "", d_inputs: tuple[str, ...] = ()) -> Tensors:
        inputs = tuple(self.names[name] for name in node.inputs)
        return Tensors(inputs, self.names[node.name], dy, d_inputs)

    def _forward(self, node: Node) -> list[Step]:
        return forward(node, self._tensors(node), self.storage)

    def _loss(self, kind: str) -> Step:
        last, size = self.nodes[-1], prod(self.nodes[-1].shape)
        vector, item = Span(1), self.storage.bits // 8
        operands = [
            Operand(self.names[last.name], "output", size, item, size, rows=vector),
            Operand("target", "target", size, item, size, rows=vector),
            Operand(
                *(f"d_{last.name}", "output_gradient", size, item, size),
                rows=vector,
                loads=False,
                stores=True,
            ),
            Operand("loss", "loss", 1, item, 1, rows=vector, loads=False, stores=True),
        ]
        return Step("loss", "loss", kind, Space(1, 1, size), tuple(operands), self.storage)

    def _backward(self) -> list[Step]:
        """Return the gradients, last layer first, as `pyodl.train_step` computes them."""
        needed = needed_gradients(self.nodes, self.trained)
        parts: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        parts[self.nodes[-1].name].append(f"d_{self.nodes[-1].name}")
        result: list[Step] = []
        for node in reversed(self.nodes):
            if node.name not in needed:
                continue
            dy, sums = self._sum(node, parts[node.name])
            result += sums
            if node.name in self.trained:
                result += parameter_grad(node, self._tensors(node, dy), self.storage)
            if needed.isdisjoint(node.inputs):
                continue
            made = _gradient_names(node.layer, dy)
            result += input_grad(node, self._tensors(node, dy, made), self.storage)
            for name, gradient in zip(node.inputs, made, strict=True):
                if name in needed:
                    parts[name].append(gradient)
        return result

    def _sum(self, node: Node, parts: Sequence[str]) -> tuple[str, list[Step]]:
        """Return the name of a gradient and the steps that add its parts."""
        if len(parts) == 1:
            return parts[0], []
        total, first = f"d_{node.name}", parts[0]
        result = []
        for part in parts[1:]:
            operands = [
                (first, "output_gradient", "load"),
                (part, "output_gradient", "load"),
                (total, "output_gradient", "store"),
            ]
            how = (node.name, "sum", "add", node.shape)
            result.append(elementwise(*how, operands, self.storage))
            first = total
        return total, result

    def _update(self) -> list[Step]:
        result = []
        for node in self.nodes:
            if node.name not in self.trained:
                continue
            shapes: Mapping[str, tuple[int, ...]] = node.layer.parameter_shapes(*node.input_shapes)
            for name, shape in shapes.items():
                tensor = f"{node.name}.{name}"
                operands = [
                    (tensor, "weight", "load store"),
                    (f"d_{tensor}", "parameter_gradient", "load"),
                ]
                how = (node.name, "update", "sgd", (prod(shape),))
                result.append(elementwise(*how, operands, self.storage))
        return result


def _gradient_names(layer: Layer, dy: str) -> tuple[str, ...]:
    """Name the gradients of a layer's inputs; those that it passes on keep their names."""
    if isinstance(layer, Add | Flatten):
        return (dy,) * len(layer.inputs)
    return tuple(f"d_{name} by {layer.name}" for name in layer.inputs)
