"""Training steps of a network as a chain of primitives over named tensors.

Tensors are named after what they are, in step 0, 1, ...::

    initial/parameter/stem_conv.weight   parameters before the first step
    step0/input, step0/target            what the step is given
    step0/activation/stem_conv           outputs of layers
    step0/product/depthwise1             before the bias, where that is a call of its own
    step0/loss
    step0/output_gradient/linear         gradients of layers' outputs
    step0/input_gradient/stack1_conv1    a layer's part of one of those, where several add up
    step0/gradient/linear.weight         gradients of parameters
    step0/decayed_gradient/linear.weight the same with weight decay, if there is any
    step0/parameter/linear.weight        parameters after the step
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import replace as dataclass_replace
from functools import cached_property
from typing import Any

from numpy import ndarray

from pyodl import models
from pyodl.device import Device
from pyodl.golden._data import DATA, draw
from pyodl.golden._lowering import Lowered, unsupported
from pyodl.golden.cases import Operation
from pyodl.layers import from_json, to_json
from pyodl.layers._weights import Weighted
from pyodl.network import Network
from pyodl.primitives import _check as check
from pyodl.primitives._orders import MATMUL_KERNELS
from pyodl.primitives.loss import LOSSES

__all__ = ["StepCase"]

_MOST_STEPS = 1000


@dataclass(frozen=True)
class StepCase:
    """Training steps of a model, each on an input of its own.

    Parameters
    ----------
    model : str or mapping
        A name in `pyodl.models.MODELS`, or a network as `StepCase.of` describes it: its
        "input_shape" and its "layers".
    steps : int
    arithmetic : str
    cores : int
        Of the device.
    seed : int
        For parameters, inputs and targets.
    data : str
        Which inputs are drawn, as in `Case`.
    loss : {"cross_entropy", "mse", "l1", "berhu"}
    lr, weight_decay : float
        Rounded to the storage format.
    kernel : str or None
        Matmul kernel of all layers; None leaves each its own.
    frozen : tuple of str
        Layers that are not trained.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.

    Examples
    --------
    >>> case = StepCase("tiny_cnn", steps=2)
    >>> case.run()["step1/loss"].shape
    (1,)
    """

    model: str | Mapping[str, Any]
    steps: int = 1
    arithmetic: str = "fp16-fp32acc"
    cores: int = 8
    seed: int = 0
    data: str = "normal"
    loss: str = "cross_entropy"
    lr: float = 0.01
    weight_decay: float = 0.0
    kernel: str | None = None
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the fields."""
        if isinstance(self.model, Mapping):
            object.__setattr__(self, "model", json.loads(json.dumps(dict(self.model))))
            if self.model.keys() != {"input_shape", "layers"}:
                raise ValueError(f"model has {sorted(self.model)}; it has input_shape and layers")
        else:
            check.choice("model", self.model, models.MODELS)
        if check.integer("steps", self.steps, 1) > _MOST_STEPS:
            raise ValueError(f"steps is {self.steps}; it may be at most {_MOST_STEPS}")
        check.integer("cores", self.cores, 1)
        check.integer("seed", self.seed, 0)
        check.choice("data", self.data, DATA)
        check.choice("loss", self.loss, LOSSES)
        if self.kernel is not None:
            check.choice("kernel", self.kernel, MATMUL_KERNELS)
        object.__setattr__(self, "frozen", tuple(self.frozen))
        unsupported(self._network)
        for name in ("lr", "weight_decay"):
            value = getattr(self, name)
            if check.scalar(name, value, self._network.arithmetic) < 0:
                raise ValueError(f"{name} is {value}; it must be at least 0")

    @classmethod
    def of(cls, net: Network, **fields: Any) -> "StepCase":
        """Return the training steps of a network, as it is now but for its parameters.

        Parameters
        ----------
        net : Network
            For its layers, the frozen ones among them, its arithmetic and its cores. Its
            parameters are inputs: ``case.inputs(net.parameters())``.
        **fields
            The others of the case, or instead of the network's.

        Returns
        -------
        StepCase

        Raises
        ------
        TypeError, ValueError
            As for a new case; also if a layer is an InstanceNorm, whose variance no primitive
            gives.
        """
        described = {
            "input_shape": list(net.input_shape),
            "layers": [to_json(layer) for layer in net.layers],
        }
        own = {"arithmetic": net.arithmetic.name, "cores": net.device.cores, "frozen": net.frozen}
        return cls(described, **{**own, **fields})

    def replace(self, **overrides: Any) -> "StepCase":
        """Return the case with other fields; raise as for a new one."""
        return dataclass_replace(self, **overrides)

    def to_json(self) -> dict[str, Any]:
        """Return the case as a dictionary of what JSON has; `pyodl.golden.from_json` reads it."""
        return {"kind": "step", **asdict(self), "frozen": list(self.frozen)}

    @cached_property
    def _network(self) -> Network:
        """The network with its initial parameters; never trained."""
        return self.network()

    def network(self) -> Network:
        """Return a new network that `pyodl.train_step` takes the same steps on."""
        device = Device("device", self.cores)
        how: dict[str, Any] = {
            "arithmetic": self.arithmetic,
            "device": device,
            "seed": self.seed,
        }
        if isinstance(self.model, str):
            net = models.MODELS[self.model](**how)
        else:
            own = [from_json(layer) for layer in self.model["layers"]]
            net = Network(own, self.model["input_shape"], **how)
        if self.kernel is not None:
            chosen = [
                dataclass_replace(layer, kernel=self.kernel)
                if isinstance(layer, Weighted)
                else layer
                for layer in net.layers
            ]
            net = Network(chosen, net.input_shape, **how)
        if self.frozen:
            net.freeze(*self.frozen)
        return net

    def inputs(self, parameters: Mapping[str, ndarray] | None = None) -> dict[str, ndarray]:
        """Draw the initial parameters, and an input and a target for each step.

        Parameters
        ----------
        parameters : mapping of str to ndarray, or None
            Initial parameters by name, as of `Network.parameters`; None draws them.

        Returns
        -------
        dict of ndarray
            By name, in the storage format; the same for the same case.

        Raises
        ------
        ImportError
            If the format is bfloat16 and ml_dtypes is not installed.
        TypeError, ValueError
            If a parameter has another dtype or shape, or one is missing.
        """
        net = self._network
        own = net.parameters()
        given = own if parameters is None else dict(parameters)
        if given.keys() != own.keys():
            raise ValueError(f"parameters are {sorted(given)}; they must be {sorted(own)}")
        for name, array in given.items():
            check.tensor(name, array, net.arithmetic, shape=own[name].shape)
        tensors = {f"initial/parameter/{name}": given[name].copy() for name in own}
        for step in range(self.steps):
            for name, shape in (("input", net.input_shape), ("target", net.output_shape)):
                full = f"step{step}/{name}"
                tensors[full] = draw(full, shape, net.arithmetic.storage, self.data, self.seed)
        return tensors

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Every call of every step, in order."""
        net = self.network()
        rates = {"lr": self.lr, "weight_decay": self.weight_decay}
        steps = (Lowered(net, step, self.loss, rates) for step in range(self.steps))
        return tuple(operation for step in steps for operation in step.operations)

    @cached_property
    def output_names(self) -> frozenset[str]:
        """Names of the tensors that `run` returns."""
        return frozenset(
            name for operation in self.operations for name in operation.outputs.values()
        )

    @cached_property
    def input_names(self) -> frozenset[str]:
        """Names of the tensors that `inputs` returns."""
        taken = {name for operation in self.operations for name in operation.inputs.values()}
        return frozenset(taken) - self.output_names

    def axes(self, tensor: str, ndim: int) -> tuple[str, ...]:
        """Return the names of a tensor's axes, outermost first, such as ("co", "h", "w").

        Raises
        ------
        KeyError
            If there is no such tensor.
        """
        for operation in self.operations:
            for own, name in (*operation.outputs.items(), *operation.inputs.items()):
                if name == tensor:
                    return operation.case.axes(own, ndim)
        raise KeyError(tensor)

    def run(
        self, inputs: Mapping[str, ndarray] | None = None, **overrides: Any
    ) -> dict[str, ndarray]:
        """Compute every tensor of every step, in the order of `operations`.

        Parameters
        ----------
        inputs : mapping of str to ndarray, or None
            In the storage dtype of the arithmetic; None draws them.
        **overrides
            Fields that shall be others.

        Returns
        -------
        dict of ndarray
            By name; a loss as an array of shape (1,).

        Raises
        ------
        TypeError, ValueError
            If an input has another dtype or shape, or one is missing.
        """
        case = self.replace(**overrides) if overrides else self
        tensors = dict(case.inputs() if inputs is None else inputs)
        if tensors.keys() != case.input_names:
            different = min(tensors.keys() ^ case.input_names)
            raise ValueError(f"inputs must be those of the case; {different} is not, or is missing")
        outputs: dict[str, ndarray] = {}
        for operation in case.operations:
            found = operation.run(tensors)
            tensors.update(found)
            outputs.update(found)
        return outputs
