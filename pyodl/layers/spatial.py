"""Layers that summarise an image: pooling and instance normalisation."""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation
from pyodl.layers._layer import Layer, Shape, Site, image
from pyodl.primitives import _check as check
from pyodl.primitives.norm import (
    bind_instance_norm_apply,
    bind_instance_norm_input_grad,
    bind_instance_norm_param_grad,
    bind_instance_norm_statistics,
)
from pyodl.primitives.pooling import (
    bind_avg_pool_backward,
    bind_avg_pool_forward,
    bind_max_pool_backward,
    bind_max_pool_forward,
)

__all__ = ["AvgPool2D", "InstanceNorm", "MaxPool2D"]

Pair = int | tuple[int, int]


@dataclass(frozen=True)
class _Pool(Layer):
    """Windows over an image: by default one that is the whole image."""

    kernel_size: Pair | None = None
    stride: Pair | None = None

    def check(self) -> None:
        if self.kernel_size is not None:
            self._set(kernel_size=check.pair("kernel_size", self.kernel_size, 1))
        if self.stride is not None:
            self._set(stride=check.pair("stride", self.stride, 1))

    def windows(self, shape: Shape) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the size and the stride of the windows."""
        size = shape[1:]
        kernel = check.pair("kernel_size", self.kernel_size or size, 1)
        return kernel, check.pair("stride", self.stride or kernel, 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        channels, *size = image(type(self).__name__, shapes[0])
        kernel, stride = self.windows(shapes[0])
        check.fits("kernel_size", kernel, (size[0], size[1]))
        height, width = ((n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True))
        return channels, height, width


@dataclass(frozen=True)
class AvgPool2D(_Pool):
    """The mean of each window.

    Parameters
    ----------
    kernel_size : int, (int, int) or None
        None is the whole image: global pooling.
    stride : int, (int, int) or None
        None is the kernel's size.
    name, inputs
        See `Linear`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    """

    def forward(self, site: Site) -> list[Operation]:
        how = (*self.windows(site.inputs[0].shape), site.arithmetic, site.cores)
        return [bind_avg_pool_forward(site.inputs[0], site.output, *how)]

    def input_grads(self, site: Site, dy: ndarray, grads: tuple[ndarray, ...]) -> list[Operation]:
        how = (*self.windows(site.inputs[0].shape), site.arithmetic, site.cores)
        return [bind_avg_pool_backward(dy, grads[0], *how)]


@dataclass(frozen=True)
class MaxPool2D(_Pool):
    """The maximum of each window.

    Parameters
    ----------
    kernel_size, stride
        See `AvgPool2D`.
    name, inputs
        See `Linear`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    """

    def forward(self, site: Site) -> list[Operation]:
        how = (*self.windows(site.inputs[0].shape), site.arithmetic, site.cores)
        return [bind_max_pool_forward(site.inputs[0], site.output, *how)]

    def input_grads(self, site: Site, dy: ndarray, grads: tuple[ndarray, ...]) -> list[Operation]:
        how = (*self.windows(site.inputs[0].shape), site.arithmetic, site.cores)
        return [bind_max_pool_backward(site.inputs[0], dy, grads[0], *how)]


@dataclass(frozen=True)
class InstanceNorm(Layer):
    """Each channel to mean 0 and deviation 1, then gamma * x + beta.

    Parameters
    ----------
    name, inputs
        See `Linear`.
    """

    def output_shape(self, *shapes: Shape) -> Shape:
        return image("InstanceNorm", shapes[0])

    def parameter_shapes(self, *shapes: Shape) -> dict[str, Shape]:
        return {"gamma": (shapes[0][0],), "beta": (shapes[0][0],)}

    def initial(self, generator: np.random.Generator, *shapes: Shape) -> dict[str, ndarray]:
        channels = shapes[0][0]
        return {"gamma": np.ones(channels), "beta": np.zeros(channels)}

    def workspace(self, site: Site) -> list[ndarray]:
        """Return mean, standard deviation and variance of each channel."""
        x = site.inputs[0]
        return [np.zeros(x.shape[0], x.dtype) for _ in range(3)]

    def forward(self, site: Site) -> list[Operation]:
        how = (site.arithmetic, site.cores)
        x, (mean, std, var) = site.inputs[0], site.workspace
        gamma, beta = site.parameters["gamma"], site.parameters["beta"]
        return [
            bind_instance_norm_statistics(x, mean, std, var, *how),
            bind_instance_norm_apply(x, gamma, beta, mean, std, site.output, *how),
        ]

    def parameter_grads(
        self, site: Site, dy: ndarray, grads: dict[str, ndarray]
    ) -> list[Operation]:
        mean, std, _ = site.workspace
        outputs = (grads["gamma"], grads["beta"])
        how = (site.arithmetic, site.cores)
        return [bind_instance_norm_param_grad(site.inputs[0], dy, mean, std, *outputs, *how)]

    def input_grads(self, site: Site, dy: ndarray, grads: tuple[ndarray, ...]) -> list[Operation]:
        mean, std, var = site.workspace
        inputs = (site.inputs[0], dy, site.parameters["gamma"], mean, std, var)
        return [bind_instance_norm_input_grad(*inputs, grads[0], site.arithmetic, site.cores)]
