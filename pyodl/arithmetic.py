"""The named arithmetics: what is stored, what accumulates, and whether a step is fused.

One table, in the order of ``enum pyodl_arithmetic`` in the kernels (docs/numerics.md, section 2).
"""

from dataclasses import dataclass

from pyodl.formats import BFLOAT16, FLOAT16, FLOAT32, Format

__all__ = ["ARITHMETICS", "Arithmetic", "get"]


@dataclass(frozen=True)
class Arithmetic:
    """How a sum of products is computed.

    Parameters
    ----------
    name : str
        Name that the public API takes.
    code : int
        Number that the kernels take.
    storage : Format
        Format of every tensor.
    accumulator : Format
        Format of the running sum; a result is rounded once from it to ``storage``.
    fused : bool
        Whether a multiply-add has one rounding in the accumulator format.
    """

    name: str
    code: int
    storage: Format
    accumulator: Format
    fused: bool


ARITHMETICS = {
    name: Arithmetic(name, code, storage, accumulator, fused)
    for code, (name, storage, accumulator, fused) in enumerate(
        [
            ("fp16-fp32acc", FLOAT16, FLOAT32, True),
            ("fp16-fma", FLOAT16, FLOAT16, True),
            ("fp16-muladd", FLOAT16, FLOAT16, False),
            ("bf16-fp32acc", BFLOAT16, FLOAT32, True),
            ("bf16-fma", BFLOAT16, BFLOAT16, True),
            ("fp32", FLOAT32, FLOAT32, True),
        ]
    )
}


def get(name: str | Arithmetic) -> Arithmetic:
    """Return the arithmetic called ``name``.

    Raises
    ------
    TypeError
        If ``name`` is neither a string nor an `Arithmetic`.
    ValueError
        If no arithmetic has that name.
    """
    if isinstance(name, Arithmetic):
        return name
    if not isinstance(name, str):
        raise TypeError(f"arithmetic must be a string, not {type(name).__name__}")
    if name not in ARITHMETICS:
        raise ValueError(f"arithmetic is {name!r}; it may be one of {', '.join(ARITHMETICS)}")
    return ARITHMETICS[name]
