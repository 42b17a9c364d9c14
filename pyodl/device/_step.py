"""One step of device work, and what makes its operands."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from pyodl._graph import Node
from pyodl.device._space import Matmul, Operand, Space, Span
from pyodl.formats import Format

__all__ = ["Maker", "Step", "Tensors", "elementwise"]


@dataclass(frozen=True)
class Step:
    """One kernel call's worth of device work.

    Parameters
    ----------
    layer : str
        Name in the network; "loss" for the loss.
    step : str
        "forward", "loss", "sum", "weight_grad", "bias_grad", "input_grad" or "update".
    kind : str
        "conv2d", "pointwise", "depthwise", "linear", or the name of what works element by element.
    algorithm : str
        "im2row", "direct" or "" for all but ``conv2d``.
    kernel : str
        Name of the matmul kernel; "" without a matmul.
    matmul : Matmul or None
    macs : int
        Multiply-accumulates as `pyodl.Network.macs` counts them. The product of an input gradient
        by im2row multiplies zeros besides, between and around the output gradient.
    space : Space
    operands : tuple of Operand
        All that lie in L1 while a tile is computed.
    storage : Format
    """

    layer: str
    step: str
    kind: str
    space: Space
    operands: tuple[Operand, ...]
    storage: Format
    macs: int = 0
    matmul: Matmul | None = None
    kernel: str = ""
    algorithm: str = ""

    @property
    def outputs(self) -> int:
        """Elements that the step computes."""
        return self.space.channels * self.space.rows * self.space.columns

    def operand(self, role: str) -> Operand:
        """Return the first operand with a role; raise LookupError if there is none."""
        for operand in self.operands:
            if operand.role == role:
                return operand
        raise LookupError(f"{self.layer}: {self.step} has no operand with role {role!r}")


@dataclass(frozen=True)
class Tensors:
    """Names of a layer's tensors, without the layers that only rename them."""

    inputs: tuple[str, ...]
    output: str
    d_output: str = ""
    d_inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Maker:
    """Makes operands of one layer in one format."""

    node: Node
    tensors: Tensors
    storage: Format

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return self.storage.bits // 8

    def make(
        self,
        name: str,
        role: str,
        elements: int,
        fixed: int,
        *,
        stores: bool = False,
        loads: bool | None = None,
        **spans: Any,
    ) -> Operand:
        """Return an operand; one that is stored is not loaded unless ``loads`` says so."""
        loads = not stores if loads is None else loads
        return Operand(
            *(name, role, elements, self.size, fixed),
            **spans,
            loads=loads,
            stores=stores,
        )

    def buffer(self, name: str, fixed: int, **spans: Any) -> Operand:
        """Return a buffer that the cores fill in L1."""
        elements = fixed * prod(span.total for span in spans.values())
        return self.make(name, "buffer", elements, fixed, loads=False, **spans)

    def step(self, step: str, kind: str, space: Space, operands: Sequence[Operand]) -> Step:
        """Return a step without multiply-accumulates."""
        return Step(self.node.name, step, kind, space, tuple(operands), self.storage)

    def weighted(
        self,
        step: str,
        kind: str,
        space: Space,
        operands: Sequence[Operand],
        matmul: Matmul | None = None,
        algorithm: str = "",
    ) -> Step:
        """Return a step of a layer with weights."""
        layer: Any = self.node.layer
        return replace(
            self.step(step, kind, space, operands),
            macs=layer.macs(*self.node.input_shapes),
            matmul=matmul,
            kernel=layer.kernel_of(step) if matmul else "",
            algorithm=algorithm,
        )

    def weight(self, elements: int, fixed: int, **spans: Any) -> Operand:
        """Return the layer's weight."""
        return self.make(f"{self.node.name}.weight", "weight", elements, fixed, **spans)

    def weight_gradient(self, elements: int, fixed: int, **spans: Any) -> Operand:
        """Return the weight's gradient, to be stored."""
        name = f"d_{self.node.name}.weight"
        return self.make(name, "parameter_gradient", elements, fixed, stores=True, **spans)

    def input(self, fixed: int, **spans: Any) -> Operand:
        """Return the layer's input."""
        elements = prod(self.node.input_shapes[0])
        return self.make(self.tensors.inputs[0], "input", elements, fixed, **spans)

    def output(self, fixed: int, **spans: Any) -> Operand:
        """Return the layer's output, to be stored."""
        elements = prod(self.node.shape)
        return self.make(self.tensors.output, "output", elements, fixed, stores=True, **spans)

    def output_gradient(self, fixed: int, **spans: Any) -> Operand:
        """Return the gradient of the layer's output."""
        elements = prod(self.node.shape)
        return self.make(self.tensors.d_output, "output_gradient", elements, fixed, **spans)

    def input_gradient(self, fixed: int, **spans: Any) -> Operand:
        """Return the gradient of the layer's input, to be stored."""
        name, elements = self.tensors.d_inputs[0], prod(self.node.input_shapes[0])
        return self.make(name, "input_gradient", elements, fixed, stores=True, **spans)


def elementwise(
    layer: str,
    step: str,
    kind: str,
    shape: tuple[int, ...],
    operands: Sequence[tuple[str, str, str]],
    storage: Format,
) -> Step:
    """Return a step over tensors of one shape; operands are (tensor, role, "load" and/or "store").

    Images are tiled by channels and rows, everything else as a vector.
    """
    image = len(shape) == 3
    channels, rows, columns = shape if image else (1, prod(shape), 1)
    spans: dict[str, Any] = {"channels": Span(channels) if image else None, "rows": Span(rows)}
    made = tuple(
        Operand(
            *(name, role, prod(shape), storage.bits // 8, columns),
            **spans,
            loads="load" in how,
            stores="store" in how,
        )
        for name, role, how in operands
    )
    return Step(layer, step, kind, Space(channels, rows, columns), made, storage)
