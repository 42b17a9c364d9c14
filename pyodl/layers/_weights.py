"""What all layers with a weight and a bias share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation
from pyodl.layers._layer import Layer, Shape, Site
from pyodl.primitives import _check as check
from pyodl.primitives._orders import MATMUL_KERNELS
from pyodl.primitives.elementwise import bind_add_bias

__all__ = ["STEPS", "Weighted", "with_kernels"]

STEPS = ("forward", "weight_grad", "input_grad")  # those that may have a matmul


@dataclass(frozen=True, kw_only=True)
class Weighted(Layer):
    """Base of the layers that have a weight, and a bias per output channel.

    Parameters
    ----------
    bias : bool
    kernel : str or (str, str, str)
        Matmul kernel of all steps, see `pyodl.primitives.matmul`; or those of forward, weight
        gradient and input gradient.
    gain : float
        Scale of the initial weights, in units of 1/sqrt(fan-in); sqrt(2) keeps the scale of
        signals through ReLUs. Biases begin at zero.
    """

    bias: bool = True
    kernel: str | tuple[str, str, str] = "naive"
    gain: float = 2**0.5

    def check(self) -> None:
        check.flag("bias", self.bias)
        self._check_kernel()
        if not isinstance(self.gain, int | float):
            raise TypeError(f"gain must be a number, not {type(self.gain).__name__}")
        if not 0 <= self.gain < float("inf"):
            raise ValueError(f"gain is {self.gain}; it must be at least 0 and finite")

    def _check_kernel(self) -> None:
        if isinstance(self.kernel, str):
            check.choice("kernel", self.kernel, MATMUL_KERNELS)
            return
        if not isinstance(self.kernel, tuple):
            raise TypeError(f"kernel must be a string or three, not {type(self.kernel).__name__}")
        if len(self.kernel) != len(STEPS):
            raise ValueError(f"kernel has {len(self.kernel)} names; it must have one or three")
        for step, kernel in zip(STEPS, self.kernel, strict=True):
            check.choice(f"kernel of {step}", kernel, MATMUL_KERNELS)
        if len(set(self.kernel)) == 1:
            self._set(kernel=self.kernel[0])

    def kernel_of(self, step: str) -> str:
        """Return the matmul kernel of one of `STEPS`."""
        return self.kernel if isinstance(self.kernel, str) else self.kernel[STEPS.index(step)]

    def weight_shape(self, shape: Shape) -> Shape:
        """Return the shape of the weight for an input of ``shape``; output channels first."""
        raise NotImplementedError

    def how(self, site: Site, step: str) -> dict[str, Any]:
        """Return what the binding of a step's matrix product takes besides its arrays."""
        return {
            "arithmetic": site.arithmetic,
            "kernel": self.kernel_of(step),
            "cores": site.cores,
            "stager": site.stager,
            "tile": site.tiles.get(step),
        }

    def bind_forward(self, site: Site, w: ndarray) -> list[Operation]:
        """Bind the output without bias."""
        raise NotImplementedError

    def bind_weight_grad(self, site: Site, dy: ndarray, dw: ndarray) -> list[Operation]:
        """Bind the weight's gradient."""
        raise NotImplementedError

    def bind_input_grad(self, site: Site, w: ndarray, dy: ndarray, dx: ndarray) -> list[Operation]:
        """Bind the input's gradient."""
        raise NotImplementedError

    def bind_bias_grad(self, site: Site, dy: ndarray, db: ndarray) -> list[Operation]:
        """Bind the bias's gradient."""
        raise NotImplementedError

    def parameter_shapes(self, *shapes: Shape) -> dict[str, Shape]:
        weight = self.weight_shape(shapes[0])
        return {"weight": weight, "bias": (weight[0],)} if self.bias else {"weight": weight}

    def initial(self, generator: np.random.Generator, *shapes: Shape) -> dict[str, ndarray]:
        values = {name: np.zeros(shape) for name, shape in self.parameter_shapes(*shapes).items()}
        weight = values["weight"]
        fan_in = weight.size // weight.shape[0]
        weight[...] = generator.standard_normal(weight.shape) * (self.gain / np.sqrt(fan_in))
        return values

    def forward(self, site: Site) -> list[Operation]:
        operations = self.bind_forward(site, site.parameters["weight"])
        if self.bias:
            bias = site.parameters["bias"]
            operations.append(
                bind_add_bias(bias, site.output, site.arithmetic, site.cores, rows=bias.size)
            )
        return operations

    def parameter_grads(
        self, site: Site, dy: ndarray, grads: dict[str, ndarray]
    ) -> list[Operation]:
        operations = self.bind_weight_grad(site, dy, grads["weight"])
        if self.bias:
            operations += self.bind_bias_grad(site, dy, grads["bias"])
        return operations

    def input_grads(self, site: Site, dy: ndarray, grads: tuple[ndarray, ...]) -> list[Operation]:
        return self.bind_input_grad(site, site.parameters["weight"], dy, grads[0])


def with_kernels(layer: Layer, kernels: Mapping[str, str]) -> Layer:
    """Return a layer with weights and the given matmul kernels of `STEPS`; the others stay."""
    for step in kernels:
        check.choice(f"step of {layer.name}", step, STEPS)
    assert isinstance(layer, Weighted)  # noqa: S101 - for the type checker
    forward, weight_grad, input_grad = (kernels.get(s, layer.kernel_of(s)) for s in STEPS)
    return replace(layer, kernel=(forward, weight_grad, input_grad))
