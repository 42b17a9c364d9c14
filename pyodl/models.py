"""Networks of MLPerf Tiny, without batch norm, as deployed: it is folded into the weights.

Without batch norm it is the initial weights that must keep signals at one scale: He's, but less for
the last convolution of each residual branch, which adds to its shortcut. (With zeros there, as is
common with batch norm, ResNet8 stays on its first plateau for epochs.)
"""

from pyodl.arithmetic import Arithmetic
from pyodl.device import Device
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
from pyodl.network import Network, Seed

__all__ = ["MODELS", "ds_cnn", "resnet8", "tiny_cnn"]


def _stack(number: int, channels: int, stride: int, before: str) -> list[Layer]:
    """Return one residual stack: two convolutions, and a shortcut that is projected if it must."""
    name = f"stack{number}"
    layers: list[Layer] = [
        Conv2D(channels, 3, stride, 1, name=f"{name}_conv1", inputs=before),
        ReLU(name=f"{name}_relu1"),
        Conv2D(channels, 3, 1, 1, name=f"{name}_conv2", gain=1.0),
    ]
    shortcut = before
    if stride > 1:
        shortcut = f"{name}_proj"
        layers.append(Conv2D(channels, 1, stride, name=shortcut, inputs=before, gain=1.0))
    layers.append(Add(name=f"{name}_sum", inputs=(shortcut, f"{name}_conv2")))
    layers.append(ReLU(name=name))
    return layers


def resnet8(
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    device: str | Device = "pulp-open",
    seed: Seed = 0,
    classes: int = 10,
) -> Network:
    """Return the ResNet8 of MLPerf Tiny's image classification, for (3, 32, 32).

    12,501,632 multiply-accumulates forward and 37,062,528 in a training step, with 10 classes.

    Parameters
    ----------
    arithmetic, device, seed
        See `pyodl.Network`.
    classes : int

    Returns
    -------
    Network

    Raises
    ------
    TypeError, ValueError
        See `pyodl.Network`.
    """
    layers: list[Layer] = [Conv2D(16, 3, 1, 1, name="stem_conv"), ReLU(name="stem")]
    before = "stem"
    for number, (channels, stride) in enumerate(((16, 1), (32, 2), (64, 2)), 1):
        layers += _stack(number, channels, stride, before)
        before = f"stack{number}"
    layers += [AvgPool2D(name="pool"), Flatten(name="flatten")]
    layers.append(Linear(classes, name="linear", gain=1.0))
    return Network(layers, (3, 32, 32), arithmetic=arithmetic, device=device, seed=seed)


def ds_cnn(
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    device: str | Device = "pulp-open",
    seed: Seed = 0,
    classes: int = 12,
) -> Network:
    """Return the DS-CNN of MLPerf Tiny's keyword spotting, for (1, 49, 10) features.

    2,656,768 multiply-accumulates forward and 7,650,304 in a training step, with 12 classes.

    Parameters
    ----------
    arithmetic, device, seed
        See `pyodl.Network`.
    classes : int

    Returns
    -------
    Network

    Raises
    ------
    TypeError, ValueError
        See `pyodl.Network`.
    """
    layers: list[Layer] = [Conv2D(64, (10, 4), 2, "same", name="conv"), ReLU(name="relu")]
    for number in range(1, 5):
        layers += [
            DepthwiseConv2D(3, 1, 1, name=f"depthwise{number}"),
            ReLU(name=f"depthwise{number}_relu"),
            PointwiseConv2D(64, name=f"pointwise{number}"),
            ReLU(name=f"pointwise{number}_relu"),
        ]
    layers += [AvgPool2D(name="pool"), Flatten(name="flatten")]
    layers.append(Linear(classes, name="linear", gain=1.0))
    return Network(layers, (1, 49, 10), arithmetic=arithmetic, device=device, seed=seed)


def tiny_cnn(
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    device: str | Device = "pulp-open",
    seed: Seed = 0,
    classes: int = 10,
) -> Network:
    """Return a network of two convolutions for (1, 8, 8) images, small enough for examples.

    Parameters
    ----------
    arithmetic, device, seed
        See `pyodl.Network`.
    classes : int

    Returns
    -------
    Network

    Raises
    ------
    TypeError, ValueError
        See `pyodl.Network`.
    """
    layers: list[Layer] = [
        Conv2D(8, 3, 1, 1, name="conv1"),
        ReLU(name="relu1"),
        Conv2D(16, 3, 2, 1, name="conv2"),
        ReLU(name="relu2"),
        Flatten(name="flatten"),
        Linear(classes, name="linear", gain=1.0),
    ]
    return Network(layers, (1, 8, 8), arithmetic=arithmetic, device=device, seed=seed)


MODELS = {"resnet8": resnet8, "ds_cnn": ds_cnn, "tiny_cnn": tiny_cnn}
