"""Random cases of every kernel that the firmware has: shapes, kernels, cores and data."""

import firmware_harness as harness
import numpy as np

from pyodl import golden
from pyodl.golden import _data

DATA = ("normal", *_data.DATA)  # ordinary numbers twice as often


class Chooser:
    """Draws what a case is made of."""

    def __init__(self, seed, name):
        self._seed = seed
        self._rng = np.random.default_rng([seed, *name.encode()])

    def upto(self, most, least=1):
        return int(self._rng.integers(least, most + 1))

    def of(self, options):
        return options[self.upto(len(options)) - 1]

    def turn(self, options, every):
        """Take turns: another option after ``every`` seeds."""
        return options[self._seed // every % len(options)]

    def environment(self):
        """Arithmetic, cores, data and seed."""
        return {
            "arithmetic": self.of(list(harness.ARITHMETICS)),
            "cores": self.upto(self.of([1, 3, 9])),
            "data": self.of(DATA),
            "seed": self.upto(10**6),
        }

    def window(self):
        """An image and a window that fits into it."""
        size = (self.upto(5), self.upto(9), self.upto(9))
        padding = self.of([0, (self.upto(2, 0), self.upto(2, 0), self.upto(2, 0), self.upto(2, 0))])
        up, down, left, right = padding or (0, 0, 0, 0)
        kernel = (
            self.upto(min(4, size[1] + up + down)),
            self.upto(min(4, size[2] + left + right)),
        )
        stride = (self.upto(3), self.upto(3))
        return size, {"kernel_size": kernel, "stride": stride, "padding": padding}


def _matmul(c, name):
    most = c.of([6, 40, 60])
    size = (c.upto(most), c.upto(c.of([2, 9, 40])), c.upto(most))
    how = {
        "kernel": c.turn(harness.KERNELS, 1),
        "transpose_b": c.turn([True, False, True], len(harness.KERNELS)),
    }
    return golden.case_of(name, size, **how, **c.environment())


def _conv2d(c, name):
    size, window = c.window()
    layout = {"layout": c.of(["CHW", "HWC"])}
    if name != "conv2d_bias_grad":
        layout |= {"algorithm": c.of(["im2row", "im2row", "direct"])}
        layout["kernel"] = c.of(harness.KERNELS)
    bias = name == "conv2d_forward" and c.of([True, False])
    return golden.case_of(
        name, size, out_channels=c.upto(17), bias=bias, **window, **layout, **c.environment()
    )


def _depthwise(c, name):
    size, window = c.window()
    return golden.case_of(name, size, **window, **c.environment())


def _pointwise(c, name):
    size = (c.upto(17), c.upto(5), c.upto(5))
    how = {"layout": c.of(["CHW", "HWC"]), "kernel": c.of(harness.KERNELS)}
    return golden.case_of(name, size, out_channels=c.upto(17), **how, **c.environment())


def _linear(c, name):
    how = {} if name == "linear_bias_grad" else {"kernel": c.of(harness.KERNELS)}
    bias = name == "linear_forward" and c.of([True, False])
    size = (c.upto(33),)
    return golden.case_of(name, size, out_channels=c.upto(17), bias=bias, **how, **c.environment())


def _pool(c, name):
    size = (c.upto(4), c.upto(9), c.upto(9))
    how = {"kernel_size": (c.upto(size[1]), c.upto(size[2])), "stride": (c.upto(3), c.upto(3))}
    return golden.case_of(name, size, **how, **c.environment())


def _elements(c, name):
    size = (c.upto(4), c.upto(5), c.upto(5))
    if name.startswith("cross_entropy"):
        size = (c.upto(12),)
    how = {"lr": 0.01, "weight_decay": c.of([0.0, 0.1])} if name == "sgd" else {}
    how |= {"shape": size[::-1]} if name == "reshape" else {}
    return golden.case_of(name, size, **how, **c.environment())


_FAMILIES = {
    "matmul": _matmul,
    "matvec": lambda c, name: golden.case_of(
        name, (c.upto(20), c.upto(20)), kernel=c.of(["simd_2x1", "simd_4x1"]), **c.environment()
    ),
    "conv2d": _conv2d,
    "depthwise": _depthwise,
    "pointwise": _pointwise,
    "linear": _linear,
    "avg_pool": _pool,
    "max_pool": _pool,
}


def random_case(name, seed):
    """A case of the primitive ``name``; the same for the same seed."""
    family, _ = golden.family_and_step(name)
    return _FAMILIES.get(family, _elements)(Chooser(seed, name), name)
