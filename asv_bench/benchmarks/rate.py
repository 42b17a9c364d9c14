"""How near products and training steps come to the processor's peak.

That is a loop of fused multiply-adds on registers: in binary16 for fp16-fma and fp16-muladd where
the processor has them, else in binary32.

asv takes a figure that grows for one that is worse, so judge a change by the times of the other
files. These say how much is left to gain, whatever clock the machine runs at.
"""

import numpy as np

from pyodl import bench
from pyodl._kernels import Program

from .common import FP16, NETWORKS, PRODUCTS, product


class Product:
    """Products beside an FMA loop on registers, in turns."""

    params = [list(PRODUCTS), FP16]
    param_names = ["shape", "arithmetic"]

    def setup(self, shape, arithmetic):
        self.program, macs = product(shape, arithmetic, loops=1)
        repeats = max(1, 2_000_000 // macs)
        self.program = Program(self.program.operations * repeats)
        self.macs = macs * repeats
        self.peak, self.peak_macs = bench.fma_peak(arithmetic=arithmetic)

    def seconds(self):
        return bench.in_turns([self.program.run, self.peak.run], 40)

    def track_gmac_per_second(self, shape, arithmetic):
        return self.macs / float(np.median(self.seconds()[:, 0])) / 1e9

    track_gmac_per_second.unit = "GMAC/s"

    def track_fraction_of_peak(self, shape, arithmetic):
        product, peak = self.seconds().T
        return float(np.median(self.macs / product / (self.peak_macs / peak)))

    track_fraction_of_peak.unit = "of the FMA peak"


class TrainStep:
    """Steps beside their kernels alone and beside an FMA loop on registers, in turns."""

    params = [NETWORKS, FP16]
    param_names = ["model", "arithmetic"]

    def track_gmac_per_second(self, model, arithmetic):
        return bench.measure(model, arithmetic, steps=20).rate / 1e9

    track_gmac_per_second.unit = "GMAC/s"

    def track_fraction_of_peak(self, model, arithmetic):
        return bench.measure(model, arithmetic, steps=20).share_of_peak.median

    track_fraction_of_peak.unit = "of the FMA peak"
