"""Why a dump differs: the hypotheses that reproduce its bits.

First the whole run is replayed in other arithmetics, with other matmul kernels and core counts: one
that gives every tensor of the dump is the simplest cause. Then the first operations that computed
wrongly are replayed one by one under every hypothesis of `pyodl.golden.explain`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl.formats import from_bits, to_bits
from pyodl.golden.cases import Operation
from pyodl.golden.compare import Comparison, TensorComparison, operations_of
from pyodl.golden.explain import Explanation, Identification, explain, identify, listed
from pyodl.golden.steps import StepCase
from pyodl.primitives._orders import MATMUL_KERNELS

__all__ = ["Cause", "Diagnosis", "diagnose", "identify_dump"]

_MOST_CORES = 16
_WHOLE = {"arithmetic": "in {}", "kernel": "whose matmul kernel is {}", "cores": "on {} cores"}


@dataclass(frozen=True, eq=False)
class Cause:
    """An operation that computed wrongly, and what would explain it.

    Parameters
    ----------
    tensor : TensorComparison
        The first of its outputs that differs.
    sources : dict
        Where each of its inputs was taken from to replay it: "dump"; "given", for an input of the
        case; or, where the dump lacks it, "vectors", or "host" if what is before it differs.
    explanations : tuple of Explanation
        Each reproduces the device's bits exactly; empty if nothing that was tried does.
    identification : Identification
        The arithmetics and matmul kernels that do.
    """

    tensor: TensorComparison
    sources: dict[str, str]
    explanations: tuple[Explanation, ...]
    identification: Identification

    def describe(self) -> list[str]:
        """Return a line for each explanation, and one for arithmetics and kernels that match."""
        if not self.explanations:
            lines = ["nothing that was tried gives these bits"]
        else:
            lines = [explanation.sentence for explanation in self.explanations]
        if self.identification.matches:
            lines.append(f"arithmetic and kernel that give these bits: {self.identification}")
        lacking = [name for name, source in self.sources.items() if source in ("vectors", "host")]
        if lacking:
            lines.append(f"the dump lacks {', '.join(lacking)}: replayed with those of pyodl")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the cause as a dictionary of what JSON has."""
        operation = self.tensor.operation
        return {
            "tensor": self.tensor.name,
            "primitive": operation.case.primitive if operation else None,
            "layer": operation.layer if operation else None,
            "replayed_from": self.sources,
            "explanations": [explanation.to_json() for explanation in self.explanations],
            "identification": [list(match) for match in self.identification.matches],
        }


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What would explain a dump.

    Parameters
    ----------
    whole : tuple of Explanation
        Of every tensor of the dump at once.
    causes : tuple of Cause
        Of the first operations that computed wrongly, in order.
    """

    whole: tuple[Explanation, ...]
    causes: tuple[Cause, ...]

    @property
    def common(self) -> Identification:
        """The arithmetics and matmul kernels that give the bits of every one of the causes."""
        return _in_common([cause.identification for cause in self.causes])

    def describe(self) -> list[str]:
        """Return lines on what explains more than one operation."""
        count = len(self.causes)
        if self.whole:
            return [explanation.sentence for explanation in self.whole]
        if count > 1 and self.common.matches:
            return [f"the first {count} wrong operations all agree with {self.common}"]
        return []

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as a dictionary of what JSON has."""
        return {
            "whole": [explanation.to_json() for explanation in self.whole],
            "common": [list(match) for match in self.common.matches],
            "causes": [cause.to_json() for cause in self.causes],
        }


def diagnose(found: Comparison, most: int = 3) -> Diagnosis:
    """Search for what reproduces the bits of a dump.

    Parameters
    ----------
    found : Comparison
    most : int
        How many of the operations that computed wrongly to explain, the first of them first.

    Returns
    -------
    Diagnosis
        Without causes if the dump is identical, or if all follows from what the device was given.
    """
    faults: dict[int, TensorComparison] = {}
    for tensor in found.differing:
        if tensor.origin in ("here", "unknown"):
            faults.setdefault(id(tensor.operation), tensor)
    causes = [_cause(found, tensor) for tensor in list(faults.values())[:most]]
    case = found.vectors.case
    whole = _whole(found, case) if causes and isinstance(case, StepCase) else ()
    return Diagnosis(whole, tuple(causes))


def _in_common(every: Sequence[Identification]) -> Identification:
    """Return what is in every identification; an operation without a kernel agrees with any."""
    if not every:
        return Identification(())
    matches = [identification.matches for identification in every]
    with_kernel = [m for m in matches if any(kernel is not None for _, kernel in m)]
    return Identification(
        tuple(
            (arithmetic, kernel)
            for arithmetic, kernel in (with_kernel or matches)[0]
            if all((arithmetic, kernel) in m or (arithmetic, None) in m for m in matches)
        )
    )


def identify_dump(
    found: Comparison, most: int = 8
) -> tuple[Identification, dict[str, Identification]]:
    """Name the arithmetics and matmul kernels that give a dump's bits, whether they differ or not.

    Parameters
    ----------
    found : Comparison
        The arithmetic and the kernels of its case do not matter, only its shapes.
    most : int
        How many operations to look at: the first whose inputs and outputs the dump holds, those
        with a matmul kernel before others.

    Returns
    -------
    common : Identification
        What gives the bits of all of these operations.
    single : dict of Identification
        What gives each, by the name of the first tensor that it computes.
    """
    got = {tensor.name: tensor.got for tensor in found.tensors}
    known = [
        operation
        for operation in operations_of(found.vectors.case)
        if any(name in got for name in operation.outputs.values())
        and all(found.device.source(n) in ("dump", "given") for n in operation.inputs.values())
    ]
    known.sort(key=lambda operation: "kernel" not in operation.case.parameters)
    single = {
        next(iter(operation.outputs.values())): identify(operation, found.device, got)
        for operation in known[:most]
    }
    return _in_common(list(single.values())), single


def _cause(found: Comparison, tensor: TensorComparison) -> Cause:
    """Explain one operation."""
    operation = tensor.operation
    if operation is None:
        raise AssertionError(f"{tensor.name} is given")
    names = set(operation.outputs.values())
    got = {other.name: other.got for other in found.tensors if other.name in names}
    sources = {name: found.device.source(name) for name in operation.inputs.values()}
    return Cause(
        tensor,
        sources,
        explain(operation, found.device, got),
        identify(operation, found.device, got),
    )


def _whole(found: Comparison, case: StepCase) -> tuple[Explanation, ...]:
    """Return the other ways to run the steps that give every tensor of the dump."""
    got = {tensor.name: tensor.got for tensor in found.tensors}
    storage = arithmetics.get(case.arithmetic).storage
    inputs = {
        name: np.asarray(from_bits(got.get(name, tensor.bits), storage))
        for name, tensor in found.vectors.tensors.items()
        if tensor.role == "input"
    }

    def search(case: StepCase, kinds: tuple[str, ...], told: str, of: str) -> Iterator[Explanation]:
        for kind in kinds:
            choices = tuple(
                str(choice)
                for choice in _choices(case, kind)
                if _gives(case.replace(**{kind: choice}).operations, inputs, got)
            )
            if choices:
                sentence = f"{told} {_WHOLE[kind].format(listed(choices))}"
                yield Explanation(of + kind, choices, sentence)

    told = "every tensor of the dump is that of a run"
    single = tuple(search(case, tuple(_WHOLE), told, ""))
    if single:
        return single
    return tuple(
        explanation
        for other in _choices(case, "arithmetic")
        for explanation in search(
            case.replace(arithmetic=other),
            ("kernel", "cores"),
            f"{told} in {other}",
            f"arithmetic {other} + ",
        )
    )


def _choices(case: StepCase, kind: str) -> Iterator[str | int]:
    """Return the other choices of a kind."""
    if kind == "arithmetic":
        own = arithmetics.get(case.arithmetic)
        for name, other in arithmetics.ARITHMETICS.items():
            if other.storage is own.storage and name != case.arithmetic:
                yield name
    else:
        every = MATMUL_KERNELS if kind == "kernel" else range(1, _MOST_CORES + 1)
        yield from (choice for choice in every if choice != getattr(case, kind))


def _gives(
    operations: tuple[Operation, ...], inputs: Mapping[str, ndarray], got: Mapping[str, ndarray]
) -> bool:
    """Return whether operations compute these bits; stop at the first that does not."""
    tensors = dict(inputs)
    for operation in operations:
        found = operation.run(tensors)
        for name, values in found.items():
            if name in got and not np.array_equal(to_bits(values), got[name]):
                return False
        tensors.update(found)
    return True
