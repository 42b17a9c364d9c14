"""Networks that several files train, what goes into them, and what they run."""

import numpy as np

import pyodl
from pyodl import formats
from pyodl.layers import (
    Add,
    AvgPool2D,
    Conv2D,
    DepthwiseConv2D,
    Flatten,
    InstanceNorm,
    LeakyReLU,
    Linear,
    MaxPool2D,
    PointwiseConv2D,
    ReLU,
    Sigmoid,
)


def uneven(arithmetic):
    """Return a network with every kind of operation, whose sizes no team divides evenly."""
    layers = [
        Conv2D(16, 3, padding=1, name="stem"),
        ReLU(name="a"),
        Conv2D(34, 3, stride=2, padding="same", name="down"),
        ReLU(name="b"),
        Conv2D(35, 3, padding=1, name="plain"),
        ReLU(name="c"),
        Conv2D(35, 1, stride=2, inputs="a", name="proj"),
        Add(inputs=("c", "proj"), name="sum"),
        Conv2D(9, (3, 2), padding=1, algorithm="direct", name="direct"),
        InstanceNorm(name="norm"),
        DepthwiseConv2D(3, padding=1, name="dw"),
        LeakyReLU(0.25, name="leaky"),
        PointwiseConv2D(19, name="pw"),
        Sigmoid(name="sigmoid"),
        MaxPool2D(2, name="max"),
        AvgPool2D(2, name="avg"),
        Flatten(name="flat"),
        Linear(10, name="fc"),
    ]
    return pyodl.Network(layers, (3, 21, 26), arithmetic=arithmetic, seed=1)


def an_image(net, seed=0):
    values = np.random.default_rng(seed).standard_normal(net.input_shape)
    return formats.round_to(values, net.arithmetic.storage)


def bits(arrays):
    return {name: formats.to_bits(array).tolist() for name, array in arrays.items()}


def step_of_network(net):
    """Return the program that a training step runs."""
    return net.compiled("cross_entropy").whole
