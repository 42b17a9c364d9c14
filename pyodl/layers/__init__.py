"""Layers: descriptions without arrays, which a `pyodl.Network` turns into kernels on its arrays.

A layer says how the shapes of its inputs become shapes of its output and parameters, and binds each
of its steps (forward, parameters' gradients, inputs' gradients) to the arrays of a network. One
description serves networks of every arithmetic, and is what a checkpoint stores.
"""

from pyodl.layers._describe import from_json, to_json
from pyodl.layers._layer import Layer, Shape, Site
from pyodl.layers.convolution import Conv2D, DepthwiseConv2D, PointwiseConv2D
from pyodl.layers.elementwise import Add, Flatten, LeakyReLU, ReLU, Sigmoid
from pyodl.layers.linear import Linear
from pyodl.layers.spatial import AvgPool2D, InstanceNorm, MaxPool2D

__all__ = [
    "Add",
    "AvgPool2D",
    "Conv2D",
    "DepthwiseConv2D",
    "Flatten",
    "InstanceNorm",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2D",
    "PointwiseConv2D",
    "ReLU",
    "Shape",
    "Sigmoid",
    "Site",
    "from_json",
    "to_json",
]
