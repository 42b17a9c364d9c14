"""A training step as a program of kernels on buffers that are allocated once."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy import ndarray

from pyodl._graph import Node, needed_gradients
from pyodl._kernels import Operation, Program, Step
from pyodl._lines import zeros
from pyodl._packed import Packed
from pyodl.arithmetic import Arithmetic
from pyodl.layers import Site
from pyodl.primitives import _check as check
from pyodl.primitives._staging import Buffers, Stager
from pyodl.primitives._tiling import Tile
from pyodl.primitives.elementwise import bind_add, bind_sgd
from pyodl.primitives.loss import bind_loss

__all__ = ["Compiled"]

_BERHU_ALPHA = 0.2


class Compiled:
    """The programs of one network for one loss and one choice of trained layers.

    All steps of a layer are bound together, because they share operands that are widened once;
    therefore a change of anything here compiles everything anew.

    A tensor that several layers take gets the sum of their gradients, added one by one with the
    `add` primitive, each sum stored: beginning with the last of these layers, in reverse order of
    the network.

    Parameters
    ----------
    nodes : sequence of Node
    activations : mapping
        Arrays by layer.
    parameters : Packed
    arithmetic : Arithmetic
    cores : int
    loss : str or None
        None compiles the forward pass alone.
    trained : collection of str
        Layers whose parameters are updated.
    tiles : mapping
        The tile of each (layer, step) that runs tile by tile.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        activations: Mapping[str, ndarray],
        parameters: Packed,
        arithmetic: Arithmetic,
        cores: int,
        loss: str | None,
        trained: Collection[str],
        tiles: Mapping[tuple[str, str], Tile],
    ) -> None:
        self.loss_name = loss
        self._how = (arithmetic, cores)
        buffers = Buffers()
        self._sites = {
            node.name: Site(
                tuple(activations[name] for name in node.inputs),
                activations[node.name],
                parameters.layers[node.name],
                *self._how,
                Stager(*self._how, buffers),
                {step: tile for (layer, step), tile in tiles.items() if layer == node.name},
            )
            for node in nodes
        }
        for node in nodes:
            site = self._sites[node.name]
            site.workspace = node.layer.workspace(site)
        self.input = activations[nodes[0].inputs[0]]
        self.output = activations[nodes[-1].name]
        self.forward = Program(
            operation
            for node in nodes
            for operation in _named(node, node.layer.forward(self._sites[node.name]))
        )
        if loss is not None:
            self._compile_training(nodes, parameters, loss, trained)

    def _compile_training(
        self,
        nodes: Sequence[Node],
        parameters: Packed,
        loss: str,
        trained: Collection[str],
    ) -> None:
        arithmetic, _ = self._how
        self.target = np.zeros_like(self.output)
        self.loss = np.zeros(1, self.output.dtype)
        shapes = {
            layer: {name: array.shape for name, array in named.items()}
            for layer, named in parameters.layers.items()
            if layer in trained
        }
        self.gradients = Packed(shapes, self.output.dtype)
        gradient = zeros(self.output.shape, self.output.dtype)
        alpha = check.scalar("alpha", _BERHU_ALPHA, arithmetic)
        begin = bind_loss(loss, self.output, self.target, self.loss, gradient, arithmetic, alpha)
        self.output_gradients: dict[str, ndarray] = {}
        self.backward = Program([begin, *self._backward(nodes, gradient, trained)])
        weights = parameters.runs(trained)
        stops = np.cumsum([w.size for w in weights])[:-1]
        self.update = Program(
            bind_sgd(w, grad, 0.0, 0.0, *self._how)
            for w, grad in zip(weights, np.split(self.gradients.flat, stops), strict=True)
        )
        self._rate = (0.0, 0.0)
        parts = (self.forward, self.backward, self.update)
        self.whole = Program(operation for part in parts for operation in part.operations)
        self.step = Step(self.whole, self.input, self.target, self.loss, arithmetic.code)

    def _backward(
        self, nodes: Sequence[Node], gradient: ndarray, trained: Collection[str]
    ) -> list[Operation]:
        """Bind the gradients, last layer first."""
        needed = needed_gradients(nodes, trained)
        parts: dict[str, list[ndarray]] = {node.name: [] for node in nodes}
        parts[nodes[-1].name].append(gradient)
        operations: list[Operation] = []
        for node in reversed(nodes):
            if node.name not in needed:
                continue
            layer, site = node.layer, self._sites[node.name]
            dy, additions = self._sum(parts[node.name])
            self.output_gradients[node.name] = dy
            steps = list(additions)
            if node.name in trained:
                steps += layer.parameter_grads(site, dy, self.gradients.layers[node.name])
            if not needed.isdisjoint(node.inputs):
                grads = layer.allocate_input_grads(site.inputs, dy)
                steps += layer.input_grads(site, dy, grads)
                for name, grad in zip(node.inputs, grads, strict=True):
                    if name in needed:
                        parts[name].append(grad)
            operations += _named(node, steps)
            site.stager.release()
        return operations

    def _sum(self, parts: Sequence[ndarray]) -> tuple[ndarray, list[Operation]]:
        """Return the sum of gradients, and the additions that compute it in their order.

        It is a new array, since a part may also be the gradient of another tensor.
        """
        if len(parts) == 1:
            return parts[0], []
        total = zeros(parts[0].shape, parts[0].dtype)
        terms = zip([parts[0]] + [total] * (len(parts) - 2), parts[1:], strict=True)
        return total, [bind_add(a, b, total, *self._how) for a, b in terms]

    def set_rate(self, lr: float, weight_decay: float) -> None:
        """Set learning rate and decay of the update, both rounded to the storage format already."""
        self.step.forget()
        if (lr, weight_decay) != self._rate:
            for operation in self.update.operations:
                operation.set_scalars(lr, weight_decay)
            self._rate = (lr, weight_decay)


def _named(node: Node, operations: Iterable[Operation]) -> Iterable[Operation]:
    """Put the layer's name before the operations', for profiles."""
    for operation in operations:
        operation.name = f"{node.name}: {operation.name}"
        yield operation
