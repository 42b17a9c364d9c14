"""For each seeded defect: a call in which one element shows it, and training steps that it breaks.

In the calls all but one output is +0, so that where they differ is known beforehand.
"""

from dataclasses import dataclass

import numpy as np

from pyodl import golden, primitives


@dataclass(frozen=True)
class Shown:
    """A call with inputs in which a defect shows.

    Parameters
    ----------
    case : golden.Case
    inputs : dict
    element : tuple of int
        The first that differs.
    expected, got : float
        Its values without and with the defect.
    """

    case: golden.Case
    inputs: dict
    element: tuple
    expected: float
    got: float

    @property
    def vectors(self):
        return golden.vectors_of(self.case, self.inputs)


def _product(kernel, cores, shape, element, row, column):
    """A product of one row and one column that are not zero, B stored transposed."""
    n, k, m = shape
    a, b = np.zeros((n, k), np.float16), np.zeros((m, k), np.float16)
    a[element[0]], b[element[1]] = row, column
    case = golden.Case(
        "matmul",
        {"a": (n, k), "b": (m, k)},
        {"transpose_b": True, "kernel": kernel},
        arithmetic="fp16-fma",
        cores=cores,
    )
    return case, {"a": a, "b": b}


def _leftover():
    """2048 - 2048 + 1 is 1 if the 1 comes last, 0 if it is added to the first 2048."""
    product = _product("simd_2x4", 4, (6, 3, 8), (4, 5), [2048, 2048, 1], [1, -1, 1])
    return Shown(*product, (4, 5), 1.0, 0.0)


def _unfused():
    """(1 + 2^-10)^2 - (1 + 2^-9) is 2^-20, and 0 if the product is rounded first."""
    row, column = [1 + 2**-9, 1 + 2**-10], [-1, 1 + 2**-10]
    product = _product("naive", 8, (5, 2, 7), (3, 2), row, column)
    return Shown(*product, (3, 2), 2.0**-20, 0.0)


def _cores():
    """On 8 cores the 4x8 kernel runs, which adds the 1 to the 2048; on 9 the 2x4 kernel."""
    product = _product("simd_4x8", 8, (16, 3, 8), (9, 6), [2048, 2048, 1], [1, -1, 1])
    return Shown(*product, (9, 6), 0.0, 1.0)


def _padding():
    """A pixel at (2, 3) is output (3, 4) after one row above and one column to the left."""
    x, w = np.zeros((1, 5, 6), np.float16), np.zeros((2, 1, 1, 1), np.float16)
    x[0, 2, 3], w[1] = 3, 0.5
    case = golden.Case(
        "conv2d_forward",
        {"x": x.shape, "w": w.shape},
        {"padding": (1, 0, 1, 0), "kernel": "naive"},
        arithmetic="fp16-fma",
        cores=3,
    )
    return Shown(case, {"x": x, "w": w}, (1, 2, 3), 0.0, 1.5)  # where it is without them


CALLS = {"LEFTOVER": _leftover, "UNFUSED": _unfused, "PADDING": _padding, "CORES": _cores}


def explained(defect, case, inputs):
    """What the host computes if a call has the defect."""
    if defect == "UNFUSED":
        return case.run(inputs, arithmetic="fp16-muladd")
    if defect == "CORES":
        return case.run(inputs, cores=case.cores + 1)
    if defect == "PADDING":
        up, down, left, right = case.parameters["padding"]
        return case.run(inputs, padding=(down, up, right, left))
    a, b = inputs["a"], inputs["b"]  # even k and the last in lane 0, odd k in lane 1
    lanes = [
        primitives.matmul(
            *(np.ascontiguousarray(x[:, first::2]) for x in (a, b)),
            transpose_b=True,
            kernel="naive_m",
            arithmetic=case.arithmetic,
        )
        for first in (0, 1)
    ]
    return {"c": primitives.add(*lanes, arithmetic=case.arithmetic)}


_FUSED = {"arithmetic": "fp16-fma", "seed": 11}
STEPS = {  # the steps, and the first tensor that the defect reaches
    "LEFTOVER": (golden.StepCase("tiny_cnn", kernel="simd_2x4", **_FUSED), "activation/conv1"),
    "UNFUSED": (golden.StepCase("tiny_cnn", steps=2, **_FUSED), "activation/conv1"),
    "PADDING": (golden.StepCase("ds_cnn", **_FUSED), "activation/conv"),
    "CORES": (golden.StepCase("resnet8", kernel="simd_4x8", **_FUSED), "activation/stem_conv"),
}
