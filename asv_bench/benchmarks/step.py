"""Training steps: time, memory, and a digest of the bits that they write."""

import hashlib

import numpy as np

import pyodl
from pyodl import _kernels, formats
from pyodl.models import MODELS

from .common import FP16, NETWORKS, tensor

# Steps after which a network on several threads tries no more schedules out, at commits that do.
SETTLED = getattr(_kernels, "TRIAL_RUNS", 0) + 1


def network(model, arithmetic):
    """Return a network and an image for it."""
    net = MODELS[model](arithmetic=arithmetic)
    return net, tensor(net.input_shape, arithmetic)


class TrainStep:
    params = [NETWORKS, FP16, [1, 2]]
    param_names = ["model", "arithmetic", "threads"]

    def setup(self, model, arithmetic, threads):
        self.net, self.x = network(model, arithmetic)
        for _ in range(1 if threads == 1 else SETTLED):
            pyodl.train_step(self.net, self.x, 3, lr=0.001, num_threads=threads)

    def time_train_step(self, model, arithmetic, threads):
        pyodl.train_step(self.net, self.x, 3, lr=0.001, num_threads=threads)


class Memory:
    params = [NETWORKS]
    param_names = ["model"]

    def peakmem_train_step(self, model):
        net, x = network(model, "fp16-fp32acc")
        pyodl.train_step(net, x, 3)


class Bits:
    """A digest of the weights after three steps.

    asv calls a figure worse that grows by some factor. So the digest is spread over fifteen decades
    and tracked together with its complement: if any bit changes, one of the two grows, and by
    a factor of less than 1.1 in one case of two hundred only.
    """

    params = [NETWORKS, [*FP16, "fp32"], ["digest", "complement"]]
    param_names = ["model", "arithmetic", "side"]

    def track_bits_digest(self, model, arithmetic, side):
        net, x = network(model, arithmetic)
        for label in (3, 1, 4):
            pyodl.train_step(net, x, label)
        digest = hashlib.sha256()
        for name, weights in sorted(net.parameters().items()):
            digest.update(name.encode())
            bits = formats.to_bits(weights)
            digest.update(np.ascontiguousarray(bits, bits.dtype.newbyteorder("<")).tobytes())
        share = int.from_bytes(digest.digest()[:6], "little") / 2**48
        return 10.0 ** (15 * (share if side == "digest" else 1 - share))

    track_bits_digest.unit = "digest"
