"""One accumulation of a contraction, and in what form a build of the kernels takes its operands."""

from enum import IntEnum

import numpy as np

from pyodl._kernels import BY_PIXELS, LANES, LISTS_TERMS, OF_EXACT_PRODUCTS, OPERANDS
from pyodl.arithmetic import ARITHMETICS, Arithmetic

__all__ = ["Step", "step_of"]


class Step(IntEnum):
    """One accumulation; the numbers are ``enum pyodl_step``'s, those of the kernels' choice too."""

    EXACT_PRODUCT = 0
    FMA32 = 1
    HALF_FMA = 2
    HALF_MULADD = 3
    BFLOAT_FMA = 4
    HALF_VIA32 = 5
    BFLOAT_VIA32 = 6
    BOUNDED_MULADD = 7

    @property
    def lanes(self) -> int:
        """Outputs in one register of the host's."""
        return LANES[self]

    @property
    def operand(self) -> np.dtype:
        """What operands are staged as."""
        return np.dtype(OPERANDS[self])

    @property
    def effort(self) -> float:
        """How long one takes, about, in those of EXACT_PRODUCT."""
        if self.operand == np.float16:  # the processor's own, in registers twice as wide
            return 1.0 if self is Step.HALF_MULADD else 0.5
        return 1.0 if self in (Step.EXACT_PRODUCT, Step.FMA32) else 4.0

    @property
    def lists_terms(self) -> bool:
        """Whether zeros of operand a are left out: where a step costs many instructions."""
        return LISTS_TERMS[self]

    @property
    def by_pixels(self) -> bool:
        """Whether it pays to sum weight gradients by the pixels that are not zero."""
        return BY_PIXELS[self]

    @property
    def of_exact_products(self) -> "Step":
        """The quickest step with the same bits where products are exact and no sum is -0."""
        return Step(OF_EXACT_PRODUCTS[self])


_STEPS = dict(
    zip(
        ARITHMETICS,
        (
            Step.EXACT_PRODUCT,
            Step.HALF_FMA,
            Step.HALF_MULADD,
            Step.FMA32,
            Step.BFLOAT_FMA,
            Step.FMA32,
        ),
        strict=True,
    )
)
_VIA32 = {"float16": Step.HALF_VIA32, "bfloat16": Step.BFLOAT_VIA32}


def step_of(arithmetic: Arithmetic, *, via32: bool = False) -> Step:
    """Return the step of an arithmetic; ``via32`` where the firmware goes through a float.

    That detour is only taken with a 16-bit accumulator (docs/numerics.md, section 5, direct
    convolution).
    """
    if via32 and arithmetic.accumulator.name in _VIA32:
        return _VIA32[arithmetic.accumulator.name]
    return _STEPS[arithmetic.name]
