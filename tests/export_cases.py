"""What the tests of exported vectors share."""

from pyodl import golden

CONV = golden.Case(
    "conv2d_weight_grad",
    {"x": (3, 6, 7), "dy": (5, 6, 7)},
    {"kernel_size": 3, "padding": (1, 1, 1, 1), "kernel": "simd_4x8"},
    arithmetic="fp16-fma",
    cores=2,
    seed=7,
)
STEP = golden.StepCase("tiny_cnn", steps=2, arithmetic="fp16-fma", weight_decay=0.01)


def bits(arrays):
    return {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in arrays.items()}


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
