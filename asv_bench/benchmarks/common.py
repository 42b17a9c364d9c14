"""What the benchmarks share: tensors, primitives bound without running them, and layer shapes."""

import importlib
from dataclasses import dataclass
from unittest import mock

import numpy as np

from pyodl import primitives as P
from pyodl._kernels import Program
from pyodl.arithmetic import ARITHMETICS as _TABLE
from pyodl.arithmetic import get
from pyodl.formats import round_to

ARITHMETICS = list(_TABLE)
FP16 = ["fp16-fp32acc", "fp16-fma", "fp16-muladd"]
NETWORKS = ["resnet8", "ds_cnn"]
STEPS = ["forward", "weight_grad", "input_grad"]
WORK = 100_000_000  # multiply-accumulates of one timed call: 1 ms at the best of rates
PRODUCTS = {"64x576x64": (64, 576, 64), "256x256x256": (256, 256, 256)}
MOST_LOOPS = 5000  # of small layers, whose time is not that of multiply-accumulates


def tensor(shape, arithmetic, seed=0):
    """Return values of a unit normal distribution in the storage format."""
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return round_to(values, get(arithmetic).storage)


def bound(function, *args, loops=1, **kwargs):
    """Return what a primitive would run, ``loops`` times, as a program: kernels without Python.

    Primitives check, bind, and hand what they have bound to their module's ``run``, which does not
    run it here. So this needs nothing but the public signature, at any commit.
    """
    caught = []

    def keep(operations, result, num_threads):
        caught.extend(operations)
        return result

    with mock.patch.object(importlib.import_module(function.__module__), "run", keep):
        function(*args, **kwargs)
    return Program(caught * loops)


def product(shape, arithmetic, *, loops=None, **how):
    """Return a program of matmuls and its multiply-accumulates."""
    n, k, m = PRODUCTS[shape]
    b_shape = (m, k) if how.get("transpose_b") else (k, m)
    operands = tensor((n, k), arithmetic, 0), tensor(b_shape, arithmetic, 1)
    loops = loops or -(-WORK // (n * k * m))
    return bound(P.matmul, *operands, arithmetic=arithmetic, loops=loops, **how), n * k * m * loops


@dataclass(frozen=True)
class Shape:
    """A layer with weights: how its three steps are called."""

    kind: str
    c_in: int
    c_out: int
    size: tuple = (1, 1)
    kernel: tuple = (1, 1)
    stride: int = 1
    padding: object = 0

    @property
    def sides(self):
        return (self.padding,) * 4 if isinstance(self.padding, int) else self.padding

    @property
    def out_size(self):
        up, down, left, right = self.sides
        (height, width), (kh, kw) = self.size, self.kernel
        return (
            (height + up + down - kh) // self.stride + 1,
            (width + left + right - kw) // self.stride + 1,
        )

    @property
    def macs(self):
        """Multiply-accumulates of one step."""
        channels = self.c_out if self.kind == "depthwise" else self.c_in * self.c_out
        return int(channels * np.prod(self.kernel) * np.prod(self.out_size))

    @property
    def loops(self):
        """How often a step is run in one timed call, the same at every commit."""
        work = WORK // 5 if self.kind == "depthwise" else WORK
        return min(-(-work // self.macs), MOST_LOOPS)

    def tensors(self, arithmetic):
        """Return input, weights and output gradient."""
        if self.kind == "linear":
            shapes = (self.c_in,), (self.c_out, self.c_in), (self.c_out,)
        else:
            weights = {
                "conv2d": (self.c_out, self.c_in, *self.kernel),
                "depthwise": (self.c_out, *self.kernel),
                "pointwise": (self.c_out, self.c_in),
            }[self.kind]
            shapes = (self.c_in, *self.size), weights, (self.c_out, *self.out_size)
        return [tensor(shape, arithmetic, seed) for seed, shape in enumerate(shapes)]

    def call(self, step, arithmetic):
        """Return the primitive of a step, its arguments and its options."""
        x, w, dy = self.tensors(arithmetic)
        slides = self.kind in {"conv2d", "depthwise"}
        how = {"stride": self.stride, "padding": self.padding} if slides else {}
        args = {
            "forward": (x, w),
            "weight_grad": (x, dy, self.kernel) if slides else (x, dy),
            "input_grad": (w, dy, self.size) if slides else (w, dy),
        }[step]
        return getattr(P, f"{self.kind}_{step}"), args, {**how, "arithmetic": arithmetic}


def _conv(c_in, c_out, size, kernel=3, stride=1, padding=1):
    return Shape("conv2d", c_in, c_out, (size, size), (kernel, kernel), stride, padding)


def _separable(layers, name, c_in, c_out, size, stride=1):
    """Add a depthwise and a pointwise layer of MobileNet, padded as TFLite pads."""
    padding = 1 if stride == 1 else (0, 1, 0, 1)
    depthwise = Shape("depthwise", c_in, c_in, (size, size), (3, 3), stride, padding)
    layers[f"mobilenet.dw{name}"] = depthwise
    layers[f"mobilenet.pw{name}"] = Shape("pointwise", c_in, c_out, depthwise.out_size)


LAYERS = {
    "resnet8.stem": _conv(3, 16, 32),
    "resnet8.stack1": _conv(16, 16, 32),
    "resnet8.stack2_conv1": _conv(16, 32, 32, stride=2),
    "resnet8.stack2_conv2": _conv(32, 32, 16),
    "resnet8.stack2_proj": _conv(16, 32, 32, kernel=1, stride=2, padding=0),
    "resnet8.stack3_conv1": _conv(32, 64, 16, stride=2),
    "resnet8.stack3_conv2": _conv(64, 64, 8),
    "resnet8.stack3_proj": _conv(32, 64, 16, kernel=1, stride=2, padding=0),
    "resnet8.linear": Shape("linear", 64, 10),
    "ds_cnn.conv": Shape("conv2d", 1, 64, (49, 10), (10, 4), 2, (4, 5, 1, 1)),
    "ds_cnn.depthwise": Shape("depthwise", 64, 64, (25, 5), (3, 3), 1, 1),
    "ds_cnn.pointwise": Shape("pointwise", 64, 64, (25, 5)),
    "ds_cnn.linear": Shape("linear", 64, 12),
    "mobilenet.conv": _conv(3, 8, 96, stride=2, padding=(0, 1, 0, 1)),
}
# MobileNetV1-0.25 on 96x96x3; layers that are alike appear once.
_separable(LAYERS, 1, 8, 16, 48)
_separable(LAYERS, 2, 16, 32, 48, stride=2)
_separable(LAYERS, 3, 32, 32, 24)
_separable(LAYERS, 4, 32, 64, 24, stride=2)
_separable(LAYERS, 5, 64, 64, 12)
_separable(LAYERS, 6, 64, 128, 12, stride=2)
_separable(LAYERS, 7, 128, 128, 6)
_separable(LAYERS, 12, 128, 256, 6, stride=2)
_separable(LAYERS, 13, 256, 256, 3)
LAYERS["mobilenet.linear"] = Shape("linear", 256, 2)


def layer_program(layer, step, arithmetic, **how):
    """Return a program that runs a layer's step as often as one timed call does."""
    function, args, options = LAYERS[layer].call(step, arithmetic)
    return bound(function, *args, loops=LAYERS[layer].loops, **options, **how)
