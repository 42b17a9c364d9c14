"""Matrix products in the order of every kernel of the cluster."""

from pyodl import primitives as P
from pyodl.primitives.matmul import MATMUL_KERNELS, MATVEC_KERNELS

from .common import ARITHMETICS, FP16, STEPS, WORK, bound, layer_program, product, tensor


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
