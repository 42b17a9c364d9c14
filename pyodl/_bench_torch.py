"""PyTorch as the peer of `pyodl.bench`: the same network and the same step in FP32, eagerly.

Written to cost PyTorch as little as it allows: functions instead of modules, ReLU in place, no
optimizer object, the image and the target converted beforehand.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numpy import ndarray

from pyodl.layers import (
    Add,
    AvgPool2D,
    Conv2D,
    DepthwiseConv2D,
    Flatten,
    Layer,
    Linear,
    PointwiseConv2D,
    ReLU,
)
from pyodl.network import Network

__all__ = ["TorchStep", "load_torch", "torch_threads"]

_Function = Callable[..., Any]


def load_torch() -> Any:
    """Return the module ``torch``.

    Raises
    ------
    ImportError
        If PyTorch is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise ImportError(f"--against torch needs PyTorch: pip install torch ({error})") from error


@contextmanager
def torch_threads(torch: Any, threads: int) -> Iterator[None]:
    """Let PyTorch use as many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchStep:
    """A training step of a network in PyTorch: cross-entropy, autograd and plain SGD.

    Parameters
    ----------
    torch : module
    net : Network
        In the arithmetic "fp32": its initial weights are taken.
    channels_last : bool
        Whether images and weights are stored with their channels last.

    Raises
    ------
    TypeError
        If there is a layer that has no counterpart here.
    """

    def __init__(self, torch: Any, net: Network, *, channels_last: bool = False) -> None:
        self._torch = torch
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self.parameters: dict[str, Any] = {}
        self._nodes: list[tuple[_Function, list[int], list[Any]]] = []
        values = net.parameters()
        shapes = {name: array.shape for name, array in net.activations().items()}
        places = {"input": 0}
        for layer in net.layers:
            weights = [
                self._parameter(f"{layer.name}.{name}", values[f"{layer.name}.{name}"], layer)
                for name in ("weight", "bias")
                if f"{layer.name}.{name}" in values
            ]
            source = shapes[layer.inputs[0]]
            function = _translate(torch, layer, source, shapes[layer.name])
            self._nodes.append((function, [places[name] for name in layer.inputs], weights))
            places[layer.name] = len(self._nodes)
        self._trained = list(self.parameters.values())

    def _parameter(self, name: str, value: ndarray, layer: Layer) -> Any:
        tensor = self._torch.from_numpy(value.copy())
        if isinstance(layer, DepthwiseConv2D) and tensor.ndim == 3:
            tensor = tensor[:, None]
        elif isinstance(layer, PointwiseConv2D) and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=self._format)
        self.parameters[name] = tensor.requires_grad_(True)
        return self.parameters[name]

    def image(self, x: ndarray) -> Any:
        """Return an image (C, H, W) as this network takes it."""
        return self._torch.from_numpy(x.copy())[None].contiguous(memory_format=self._format)

    def target(self, label: int) -> Any:
        """Return a class as this network takes it."""
        return self._torch.tensor([label])

    def __call__(self, image: Any, target: Any, lr: float) -> float:
        """Train on one image and return the loss before the update."""
        torch = self._torch
        values = [image]
        for function, inputs, weights in self._nodes:
            values.append(function(*[values[i] for i in inputs], *weights))
        loss = torch.nn.functional.cross_entropy(values[-1], target)
        gradients = torch.autograd.grad(loss, self._trained)
        with torch.no_grad():
            for weight, gradient in zip(self._trained, gradients, strict=True):
                weight.add_(gradient, alpha=-lr)
        return float(loss.item())


def _translate(torch: Any, layer: Layer, shape: tuple[int, ...], out: tuple[int, ...]) -> _Function:
    """Return the function that computes ``layer`` from its inputs and its weights."""
    functional = torch.nn.functional
    if isinstance(layer, (Conv2D, DepthwiseConv2D)):
        groups = shape[0] if isinstance(layer, DepthwiseConv2D) else 1
        return _convolution(torch, layer, shape, out, groups)
    if isinstance(layer, AvgPool2D):
        kernel, stride = layer.windows(shape)
        return lambda x: functional.avg_pool2d(x, kernel, stride)
    simple: dict[type[Layer], _Function] = {
        PointwiseConv2D: functional.conv2d,
        Linear: functional.linear,
        ReLU: functional.relu_,
        Add: torch.add,
        Flatten: lambda x: x.flatten(1),
    }
    if type(layer) not in simple:
        raise TypeError(f"layer {layer.name!r}: there is no {type(layer).__name__} for PyTorch")
    return simple[type(layer)]


def _convolution(
    torch: Any,
    layer: Conv2D | DepthwiseConv2D,
    shape: tuple[int, ...],
    out: tuple[int, ...],
    groups: int,
) -> _Function:
    """Return the convolution; padding that differs between two sides is a step of its own."""
    functional = torch.nn.functional
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    up, down, left, right = _sides(layer.padding, shape[1:], out[1:], kernel, stride)
    if (up, left) == (down, right):
        return lambda x, w, b=None: functional.conv2d(x, w, b, stride, (up, left), 1, groups)
    return lambda x, w, b=None: functional.conv2d(
        functional.pad(x, (left, right, up, down)), w, b, stride, 0, 1, groups
    )


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _sides(
    padding: int | tuple[int, int, int, int] | str,
    size: tuple[int, ...],
    out: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
) -> tuple[int, ...]:
    """Return the padding of (up, down, left, right)."""
    if isinstance(padding, int):
        return (padding,) * 4
    if not isinstance(padding, str):
        return padding
    sides: list[int] = []
    for n, o, k, s in zip(size, out, kernel, stride, strict=True):
        total = max((o - 1) * s + k - n, 0)
        sides += [total // 2, total - total // 2]
    return tuple(sides)
