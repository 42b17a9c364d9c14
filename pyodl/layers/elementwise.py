"""Layers without weights that work element by element, join or reshape."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation
from pyodl.arithmetic import Arithmetic
from pyodl.layers._layer import Layer, Shape, Site, same_shape
from pyodl.primitives import _check as check
from pyodl.primitives.activation import (
    bind_leaky_relu_backward,
    bind_leaky_relu_forward,
    bind_relu_backward,
    bind_relu_forward,
    bind_sigmoid_backward,
    bind_sigmoid_forward,
)
from pyodl.primitives.elementwise import bind_add

__all__ = ["Add", "Flatten", "LeakyReLU", "ReLU", "Sigmoid"]


@dataclass(frozen=True)
class ReLU(Layer):
    """The larger of x and +0; NaN becomes +0.

    Parameters
    ----------
    name, inputs
        See `Linear`.
    """

    def forward(self, site: Site) -> list[Operation]:
        return [bind_relu_forward(site.inputs[0], site.output, site.arithmetic, site.cores)]

    def input_grads(self, site: Site, dy: ndarray, grads: tuple[ndarray, ...]) -> list[Operation]:
        return [bind_relu_backward(site.inputs[0], dy, grads[0], site.arithmetic, site.cores)]


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """x where it is positive, slope * x elsewhere.

    Parameters
    ----------
    slope : float
        Rounded to the storage format.
    name, inputs
        See `Linear`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    """

    slope: float = 0.01

    def check(self) -> None:
        if isinstance(self.slope, bool) or not isinstance(self.slope, int | float):
            raise TypeError(f"slope must be a number, not {type(self.slope).__name__}")

    def _slope(self, arithmetic: Arithmetic) -> float:
        return check.scalar("slope", self.slope, arithmetic)

    def forward(self, site: Site) -> list[Operation]:
        how = (self._slope(site.arithmetic), site.arithmetic, site.cores)
        return [bind_leaky_relu_forward(site.inputs[0], site.output, *how)]

    def input_grads(self, site: Site, dy: ndarray, grads: tuple[ndarray, ...]) -> list[Operation]:
        how = (self._slope(site.arithmetic), site.arithmetic, site.cores)
        return [bind_leaky_relu_backward(site.inputs[0], dy, grads[0], *how)]


@dataclass(frozen=True)
class Sigmoid(Layer):
    """1 / (1 + exp(-x)).

    Parameters
    ----------
    name, inputs
        See `Linear`.
    """

    def forward(self, site: Site) -> list[Operation]:
        return [bind_sigmoid_forward(site.inputs[0], site.output, site.arithmetic, site.cores)]

    def input_grads(self, site: Site, dy: ndarray, grads: tuple[ndarray, ...]) -> list[Operation]:
        return [bind_sigmoid_backward(site.output, dy, grads[0], site.arithmetic, site.cores)]


@dataclass(frozen=True)
class Add(Layer):
    """The sum of two tensors of one shape: the join of a residual branch.

    Parameters
    ----------
    inputs : (str, str)
    name
        See `Linear`.
    """

    arity: ClassVar[int] = 2

    def output_shape(self, *shapes: Shape) -> Shape:
        return same_shape("Add", shapes)

    def forward(self, site: Site) -> list[Operation]:
        a, b = site.inputs
        return [bind_add(a, b, site.output, site.arithmetic, site.cores)]

    def allocate_input_grads(self, inputs: tuple[ndarray, ...], dy: ndarray) -> tuple[ndarray, ...]:
        return dy, dy


@dataclass(frozen=True)
class Flatten(Layer):
    """The input as a vector, in C order; nothing is moved.

    Parameters
    ----------
    name, inputs
        See `Linear`.
    """

    def output_shape(self, *shapes: Shape) -> Shape:
        return (int(np.prod(shapes[0])),)

    def allocate_output(self, inputs: tuple[ndarray, ...]) -> ndarray:
        return inputs[0].reshape(-1)

    def allocate_input_grads(self, inputs: tuple[ndarray, ...], dy: ndarray) -> tuple[ndarray, ...]:
        return (dy.reshape(inputs[0].shape),)
