"""Matrix products in the order of every kernel of the cluster."""

import numpy as np

from pyodl import bench
from pyodl import primitives as P
from pyodl._kernels import Program
from pyodl.primitives.matmul import MATMUL_KERNELS, MATVEC_KERNELS

from .common import FP16, WORK, bound, tensor

SHAPES = {"64x576x64": (64, 576, 64), "256x256x256": (256, 256, 256)}


def product(shape, arithmetic, *, loops=None, **how):
    """Return a program of matmuls and its multiply-accumulates."""
    n, k, m = SHAPES[shape]
    b_shape = (m, k) if how.get("transpose_b") else (k, m)
    operands = tensor((n, k), arithmetic, 0), tensor(b_shape, arithmetic, 1)
    loops = loops or -(-WORK // (n * k * m))
    return bound(P.matmul, *operands, arithmetic=arithmetic, loops=loops, **how), n * k * m * loops


class Kernels:
    """All kernels; with B transposed the SIMD kernels sum in two lanes."""

    params = [list(MATMUL_KERNELS), [False, True], FP16]
    param_names = ["kernel", "transpose_b", "arithmetic"]

    def setup(self, kernel, transpose_b, arithmetic):
        how = {"kernel": kernel, "transpose_b": transpose_b}
        self.program, _ = product("64x576x64", arithmetic, **how)
        self.program.run()

    def time_kernels(self, kernel, transpose_b, arithmetic):
        self.program.run()


class Formats:
    """The first kernel in the arithmetics that the layers leave out."""

    params = [["bf16-fp32acc", "bf16-fma", "fp32"]]
    param_names = ["arithmetic"]

    def setup(self, arithmetic):
        try:
            self.program, _ = product("64x576x64", arithmetic)
        except ImportError as error:  # bfloat16 needs ml_dtypes
            raise NotImplementedError from error
        self.program.run()

    def time_kernels(self, arithmetic):
        self.program.run()


class Matvec:
    params = [list(MATVEC_KERNELS), FP16]
    param_names = ["kernel", "arithmetic"]

    def setup(self, kernel, arithmetic):
        operands = tensor((256, 256), arithmetic, 0), tensor(256, arithmetic, 1)
        loops = -(-WORK // 256**2)
        how = {"kernel": kernel, "arithmetic": arithmetic}
        self.program = bound(P.matvec, *operands, loops=loops, **how)
        self.program.run()

    def time_kernels(self, kernel, arithmetic):
        self.program.run()


class Rate:
    """Products beside an FMA loop on registers, in turns."""

    params = [list(SHAPES), FP16]
    param_names = ["shape", "arithmetic"]

    def setup(self, shape, arithmetic):
        self.program, macs = product(shape, arithmetic, loops=1)
        repeats = max(1, 2_000_000 // macs)
        self.program = Program(self.program.operations * repeats)
        self.macs = macs * repeats
        self.peak, self.peak_macs = bench.fma_peak()

    def seconds(self):
        return bench.in_turns([self.program.run, self.peak.run], 40)

    def track_gmac_per_second(self, shape, arithmetic):
        return self.macs / float(np.median(self.seconds()[:, 0])) / 1e9

    track_gmac_per_second.unit = "GMAC/s"

    def track_fraction_of_peak(self, shape, arithmetic):
        product, peak = self.seconds().T
        return float(np.median(self.macs / product / (self.peak_macs / peak)))

    track_fraction_of_peak.unit = "of the FMA peak"
