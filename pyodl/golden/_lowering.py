"""A network's training step as calls of primitives: the one place where layers become calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyodl import layers
from pyodl._graph import INPUT, Node, needed_gradients, resolve
from pyodl.golden.cases import Case, Operation
from pyodl.network import Network

__all__ = ["Lowered", "unsupported"]

Shape = tuple[int, ...]
Tensor = tuple[str, Shape]  # its name in the chain
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class _Call:
    """A primitive to call: its operands, its parameters, and which tensor takes its output."""

    primitive: str
    inputs: Inputs
    parameters: Mapping[str, Any]
    output: str = ""


@dataclass(frozen=True)
class _Site:
    """A layer in its place, with the tensors that it reads and writes."""

    layer: Any
    inputs: tuple[Tensor, ...]
    parameters: Inputs
    output: Tensor
    product: Tensor

    @property
    def x(self) -> Tensor:
        """The first input."""
        return self.inputs[0]


class _Plain:
    """How a layer without parameters is called; the base of the others."""

    family = ""

    def how(self, site: _Site, step: str) -> dict[str, Any]:
        """Return the parameters of a step: "forward", "weight_grad" or "input_grad"."""
        return {}

    def forward(self, site: _Site) -> list[_Call]:
        """Return the calls that compute the output."""
        inputs = {"x": site.x}
        return [_Call(f"{self.family}_forward", inputs, self.how(site, "forward"), site.output[0])]

    def parameter_grads(self, site: _Site, dy: Tensor) -> dict[str, _Call]:
        """Return the call for the gradient of each parameter."""
        return {}

    def input_grad(self, site: _Site, dy: Tensor) -> _Call | None:
        """Return the call for an input's gradient; None passes ``dy`` on."""
        return _Call(
            f"{self.family}_backward", {"x": site.x, "dy": dy}, self.how(site, "input_grad")
        )


class _ReLU(_Plain):
    family = "relu"


class _LeakyReLU(_Plain):
    family = "leaky_relu"

    def how(self, site: _Site, step: str) -> dict[str, Any]:
        return {"slope": site.layer.slope}


class _Sigmoid(_Plain):
    family = "sigmoid"

    def input_grad(self, site: _Site, dy: Tensor) -> _Call:
        return _Call("sigmoid_backward", {"y": site.output, "dy": dy}, {})


class _Add(_Plain):
    def forward(self, site: _Site) -> list[_Call]:
        a, b = site.inputs
        return [_Call("add", {"a": a, "b": b}, {}, site.output[0])]

    def input_grad(self, site: _Site, dy: Tensor) -> None:
        return None


class _Flatten(_Plain):
    def forward(self, site: _Site) -> list[_Call]:
        return [_Call("reshape", {"x": site.x}, {"shape": site.output[1]}, site.output[0])]

    def input_grad(self, site: _Site, dy: Tensor) -> _Call:
        return _Call("reshape", {"x": dy}, {"shape": site.x[1]})


class _MaxPool(_Plain):
    family = "max_pool"

    def how(self, site: _Site, step: str) -> dict[str, Any]:
        kernel, stride = site.layer.windows(site.x[1])
        return {"kernel_size": kernel, "stride": stride}


class _AvgPool(_MaxPool):
    family = "avg_pool"

    def input_grad(self, site: _Site, dy: Tensor) -> _Call:
        how = {"input_size": site.x[1][1:], **self.how(site, "input_grad")}
        return _Call("avg_pool_backward", {"dy": dy}, how)


class _Linear(_Plain):
    family = "linear"
    adds_bias = True  # in the forward primitive
    bias_grad = "linear_bias_grad"

    def how(self, site: _Site, step: str) -> dict[str, Any]:
        return {"kernel": site.layer.kernel_of(step)}

    def forward(self, site: _Site) -> list[_Call]:
        inputs, name = {"x": site.x, "w": site.parameters["weight"]}, f"{self.family}_forward"
        how = self.how(site, "forward")
        if "bias" not in site.parameters:
            return [_Call(name, inputs, how, site.output[0])]
        bias = site.parameters["bias"]
        if self.adds_bias:
            return [_Call(name, {**inputs, "bias": bias}, how, site.output[0])]
        return [
            _Call(name, inputs, how, site.product[0]),
            _Call("add_bias", {"x": site.product, "bias": bias}, {}, site.output[0]),
        ]

    def weight_grad_only(self, site: _Site) -> dict[str, Any]:
        """Return the parameters that only the weight gradient takes."""
        return {}

    def input_grad_only(self, site: _Site) -> dict[str, Any]:
        """Return the parameters that only the input gradient takes."""
        return {}

    def parameter_grads(self, site: _Site, dy: Tensor) -> dict[str, _Call]:
        how = {**self.weight_grad_only(site), **self.how(site, "weight_grad")}
        calls = {"weight": _Call(f"{self.family}_weight_grad", {"x": site.x, "dy": dy}, how)}
        if "bias" in site.parameters:
            calls["bias"] = _Call(self.bias_grad, {"dy": dy}, {})
        return calls

    def input_grad(self, site: _Site, dy: Tensor) -> _Call:
        inputs = {"w": site.parameters["weight"], "dy": dy}
        how = {**self.input_grad_only(site), **self.how(site, "input_grad")}
        return _Call(f"{self.family}_input_grad", inputs, how)


class _Pointwise(_Linear):
    family = "pointwise"
    adds_bias = False
    bias_grad = "conv2d_bias_grad"


class _Depthwise(_Pointwise):
    family = "depthwise"

    def how(self, site: _Site, step: str) -> dict[str, Any]:
        geometry = site.layer.geometry(site.x[1])
        return {"stride": geometry.stride, "padding": geometry.padding}

    def weight_grad_only(self, site: _Site) -> dict[str, Any]:
        return {"kernel_size": site.layer.geometry(site.x[1]).kernel}

    def input_grad_only(self, site: _Site) -> dict[str, Any]:
        return {"input_size": site.x[1][1:]}


class _Conv2D(_Depthwise):
    family = "conv2d"
    adds_bias = True

    def how(self, site: _Site, step: str) -> dict[str, Any]:
        layer = site.layer
        kernel = layer.kernel_of(step)
        return {**super().how(site, step), "algorithm": layer.algorithm, "kernel": kernel}


_KINDS: dict[type[layers.Layer], _Plain] = {
    layers.Add: _Add(),
    layers.AvgPool2D: _AvgPool(),
    layers.Conv2D: _Conv2D(),
    layers.DepthwiseConv2D: _Depthwise(),
    layers.Flatten: _Flatten(),
    layers.LeakyReLU: _LeakyReLU(),
    layers.Linear: _Linear(),
    layers.MaxPool2D: _MaxPool(),
    layers.PointwiseConv2D: _Pointwise(),
    layers.ReLU: _ReLU(),
    layers.Sigmoid: _Sigmoid(),
}


def unsupported(net: Network) -> None:
    """Raise ValueError if a layer is none that becomes calls."""
    for layer in net.layers:
        if type(layer) not in _KINDS:
            known = ", ".join(kind.__name__ for kind in _KINDS)
            raise ValueError(f"layer {layer.name!r} is no {known}: its steps are not exported")


class Lowered:
    """One training step of a network as `operations`.

    Parameters
    ----------
    net : Network
        For its layers, its arithmetic and its cores.
    step : int
        For the tensors' names.
    loss : str
    rates : mapping
        "lr" and "weight_decay".
    """

    def __init__(self, net: Network, step: int, loss: str, rates: Mapping[str, float]) -> None:
        self._net, self._step, self._loss, self._rates = net, step, loss, rates
        self._nodes = resolve(net.layers, net.input_shape)
        self._parts: dict[str, list[str]] = {}
        self._trained = {
            node.name
            for node in self._nodes
            if node.layer.parameter_shapes(*node.input_shapes) and node.name not in net.frozen
        }
        self.operations: list[Operation] = []
        for node in self._nodes:
            for call in _KINDS[type(node.layer)].forward(self._site(node)):
                self._call(node.name, call, {"y": call.output})
        self._backward()
        for node in self._nodes:
            if node.name in self._trained:
                for name, shape in node.layer.parameter_shapes(*node.input_shapes).items():
                    self._update(node.name, f"{node.name}.{name}", shape)

    def _name(self, kind: str, name: str) -> str:
        if (kind, name) == ("activation", INPUT):
            return f"step{self._step}/input"
        return f"step{self._step}/{kind}/{name}"

    def _parameter(self, name: str) -> str:
        """Return the name of a parameter as the step finds it."""
        updated = self._step and name.partition(".")[0] in self._trained
        before = f"step{self._step - 1}" if updated else "initial"
        return f"{before}/parameter/{name}"

    def _call(self, layer: str, call: _Call, outputs: dict[str, str]) -> None:
        case = Case(
            call.primitive,
            {name: shape for name, (_, shape) in call.inputs.items()},
            call.parameters,
            self._net.arithmetic.name,
            self._net.device.cores,
        )
        names = {name: tensor for name, (tensor, _) in call.inputs.items()}
        self.operations.append(Operation(case, names, outputs, layer))

    def _site(self, node: Node) -> _Site:
        shapes = node.layer.parameter_shapes(*node.input_shapes)
        return _Site(
            node.layer,
            tuple(
                (self._name("activation", name), shape)
                for name, shape in zip(node.inputs, node.input_shapes, strict=True)
            ),
            {n: (self._parameter(f"{node.name}.{n}"), shape) for n, shape in shapes.items()},
            (self._name("activation", node.name), node.shape),
            (self._name("product", node.name), node.shape),
        )

    def _backward(self) -> None:
        """Append the loss, and the gradients of all layers, the last first."""
        last = self._nodes[-1]
        names = ("logits" if self._loss == "cross_entropy" else "output", "target")
        tensors = (self._name("activation", last.name), f"step{self._step}/target")
        operands = {name: (t, last.shape) for name, t in zip(names, tensors, strict=True)}
        gradient = self._name("output_gradient", last.name)
        self._call("", _Call(self._loss, operands, {}), {"loss": f"step{self._step}/loss"})
        self._call("", _Call(f"{self._loss}_grad", operands, {}), {"grad": gradient})
        self._parts[last.name] = [gradient]
        needed = needed_gradients(self._nodes, self._trained)
        for node in reversed(self._nodes):
            if node.name in needed:
                self._gradients(node, needed)

    def _sum(self, node: Node) -> Tensor:
        """Add the gradients of those who take a layer's output, the last of them first."""
        total, *rest = self._parts[node.name]
        for i, part in enumerate(rest, 1):
            suffix = "" if i == len(rest) else f".{i}"
            name = self._name("output_gradient", node.name + suffix)
            call = _Call("add", {"a": (total, node.shape), "b": (part, node.shape)}, {})
            self._call(node.name, call, {"y": name})
            total = name
        return total, node.shape

    def _gradients(self, node: Node, needed: frozenset[str]) -> None:
        """Append the gradients of a layer's parameters, and of its inputs where they are needed."""
        kind, site, dy = _KINDS[type(node.layer)], self._site(node), self._sum(node)
        grads = kind.parameter_grads(site, dy) if node.name in self._trained else {}
        for name, call in grads.items():
            output = self._name("gradient", f"{node.name}.{name}")
            self._call(node.name, call, {"dw" if name == "weight" else "db": output})
        for source in node.inputs:
            if source not in needed:
                continue
            found = kind.input_grad(site, dy)
            tensor = dy[0] if found is None else self._input_gradient(node, source)
            if found is not None:
                own = "y" if found.primitive == "reshape" else "dx"
                self._call(node.name, found, {own: tensor})
            self._parts.setdefault(source, []).append(tensor)

    def _input_gradient(self, node: Node, source: str) -> str:
        """Return the name of what a layer adds to the gradient of one it takes."""
        users = sum(other.inputs.count(source) for other in self._nodes)
        if users == 1:
            return self._name("output_gradient", source)
        return self._name("input_gradient", node.name)

    def _update(self, layer: str, name: str, shape: Shape) -> None:
        grad = self._name("gradient", name)
        outputs = {"w_new": self._name("parameter", name)}
        if self._rates["weight_decay"]:
            outputs["grad_new"] = self._name("decayed_gradient", name)
        operands = {"w": (self._parameter(name), shape), "grad": (grad, shape)}
        self._call(layer, _Call("sgd", operands, self._rates), outputs)
