"""Matrix products in the order of every kernel of the cluster."""

import numpy as np

from pyodl import primitives as P
from pyodl.primitives.matmul import MATMUL_KERNELS, MATVEC_KERNELS

from .common import (
    ARITHMETICS,
    FP16,
    PRODUCTS,
    STEPS,
    WORK,
    bound,
    layer_program,
    product,
    tensor,
)


class Kernels:
    """All kernels on one layer of each network, in the products of its three steps.

    The other layers are timed in ``layers.py``, with the first kernel.
    """

    params = [
        list(MATMUL_KERNELS),
        ["resnet8.stack3_conv2", "ds_cnn.pointwise", "mobilenet.pw7"],
        STEPS,
        ARITHMETICS,
    ]
    param_names = ["kernel", "layer", "step", "arithmetic"]

    def setup(self, kernel, layer, step, arithmetic):
        self.program = layer_program(layer, step, arithmetic, kernel=kernel)

    def time_kernels(self, kernel, layer, step, arithmetic):
        self.program.run()


class Transposed:
    """Products with either layout of B; with B transposed the SIMD kernels sum in two lanes."""

    params = [list(MATMUL_KERNELS), [False, True], FP16]
    param_names = ["kernel", "transpose_b", "arithmetic"]

    def setup(self, kernel, transpose_b, arithmetic):
        how = {"kernel": kernel, "transpose_b": transpose_b}
        self.program, _ = product("64x576x64", arithmetic, **how)

    def time_kernels(self, kernel, transpose_b, arithmetic):
        self.program.run()


class Zeros:
    """Products whose A has zeros as behind a ReLU, in no order: the worst to leave out."""

    params = [[0.0, 0.5, 0.9], FP16]
    param_names = ["zeros", "arithmetic"]

    def setup(self, zeros, arithmetic):
        n, k, m = PRODUCTS["64x576x64"]
        a, b = tensor((n, k), arithmetic, 0), tensor((k, m), arithmetic, 1)
        a[np.random.default_rng(2).random(a.shape) < zeros] = 0
        loops = WORK // (n * k * m)
        self.program = bound(P.matmul, a, b, arithmetic=arithmetic, loops=loops)

    def time_product(self, zeros, arithmetic):
        self.program.run()


class Matvec:
    params = [list(MATVEC_KERNELS), ARITHMETICS]
    param_names = ["kernel", "arithmetic"]

    def setup(self, kernel, arithmetic):
        operands = tensor((256, 256), arithmetic, 0), tensor(256, arithmetic, 1)
        loops = WORK // 10 // 256**2
        how = {"kernel": kernel, "arithmetic": arithmetic}
        self.program = bound(P.matvec, *operands, loops=loops, **how)

    def time_kernels(self, kernel, arithmetic):
        self.program.run()
