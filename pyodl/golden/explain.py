"""Why a device computed other bits: which hypotheses reproduce them exactly.

`explain` runs one operation under every hypothesis of `alternatives` and returns those that give
the device's bits. `identify` names the arithmetics and matmul kernels that do, for a dump of which
neither is known.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl.formats import to_bits
from pyodl.golden.alternatives import (
    Hypothesis,
    Inputs,
    arithmetics_of,
    hypotheses,
    reinterpreted,
)
from pyodl.golden.cases import Case, Operation
from pyodl.primitives._orders import MATMUL_KERNELS, MATVEC_KERNELS

__all__ = ["Explanation", "Identification", "explain", "identify", "listed"]

Bits = Mapping[str, ndarray]


@dataclass(frozen=True)
class Explanation:
    """Hypotheses of one kind that reproduce a device's bits exactly.

    Parameters
    ----------
    kind : str
        "arithmetic", "unfused", "kernel", "padding", "leftover", "cores", "blocks", "bias",
        "subnormals", "format" or "stale"; two of them joined by " + " where it takes both.
    choices : tuple of str
        Which of that kind; these data do not tell several of them apart.
    sentence : str
        For people.
    """

    kind: str
    choices: tuple[str, ...]
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as a dictionary of what JSON has."""
        return {"kind": self.kind, "choices": list(self.choices), "sentence": self.sentence}


def explain(
    operation: Operation, tensors: Mapping[str, ndarray], got: Bits
) -> tuple[Explanation, ...]:
    """Return what would explain a device's bits, the likeliest first.

    Parameters
    ----------
    operation : Operation
        The call that the device made, as it should be.
    tensors : mapping of str to ndarray
        Values of the operation's inputs by the chain's names, as the device had them; those of
        earlier steps as well, for parameters that may be stale.
    got : mapping of str to ndarray of uint16 or uint32
        The device's bits of the operation's outputs, or of some of them, by the chain's names.

    Returns
    -------
    tuple of Explanation
        All of them reproduce every bit of ``got``. Where no single hypothesis does, pairs of one
        with another arithmetic are tried. Empty where nothing does, or where the operation as it is
        gives these bits.

    Raises
    ------
    ValueError
        If ``got`` holds none of the operation's outputs.
    """
    wanted = _wanted(operation, got)
    given = {own: tensors[name] for own, name in operation.inputs.items()}
    case = operation.case
    if _gives(Hypothesis("", "", "", lambda c, x: c.run(x)), case, given, wanted):
        return ()
    singles = (*hypotheses(case), *_stale(operation, tensors))
    found = [h for h in singles if _gives(h, case, given, wanted)]
    if not found:
        found = [h for h in _pairs(case) if _gives(h, case, given, wanted)]
    return tuple(_told(found))


def _wanted(operation: Operation, got: Bits) -> dict[str, ndarray]:
    """Return a device's bits by the case's names."""
    wanted = {own: got[name] for own, name in operation.outputs.items() if name in got}
    if not wanted:
        names = ", ".join(operation.outputs.values())
        raise ValueError(f"got holds {sorted(got)}; it must hold one of {names}")
    return wanted


def _gives(hypothesis: Hypothesis, case: Case, given: Inputs, wanted: Bits) -> bool:
    """Whether a hypothesis makes sense for a case and gives exactly these bits."""
    try:
        found = hypothesis.run(case, given)
    except (TypeError, ValueError, ImportError):
        return False
    return all(
        found[own].shape == bits.shape and np.array_equal(to_bits(found[own]), bits)
        for own, bits in wanted.items()
    )


def _told(found: Iterable[Hypothesis]) -> Iterator[Explanation]:
    """Tell hypotheses of one kind together."""
    for (kind, sentence), group in groupby(found, key=lambda h: (h.kind, h.sentence)):
        choices = tuple(h.choice for h in group)
        yield Explanation(kind, choices, sentence.format(listed(choices)))


def listed(choices: tuple[str, ...]) -> str:
    """Return choices in words: "a", "a or b", "a, b or c"."""
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if choices[1:] else choices)


def _pairs(case: Case) -> Iterator[Hypothesis]:
    """Yield every hypothesis together with another arithmetic."""
    for first in arithmetics_of(case):
        changed = case.replace(arithmetic=first.choice)
        told = first.sentence.format(first.choice)
        for second in hypotheses(changed):
            if second.kind not in ("arithmetic", "unfused", "format"):
                yield Hypothesis(
                    f"arithmetic + {second.kind}",
                    second.choice,
                    f"{told}, and {second.sentence}",
                    _after(first.choice, second),
                )


def _after(arithmetic: str, hypothesis: Hypothesis) -> Any:
    return lambda case, x: hypothesis.run(case.replace(arithmetic=arithmetic), x)


def _stale(operation: Operation, tensors: Mapping[str, ndarray]) -> Iterator[Hypothesis]:
    """Yield parameters as they were before an earlier step's update."""
    for own, name in operation.inputs.items():
        found = re.fullmatch(r"step(\d+)/parameter/(.+)", name)
        if not found:
            continue
        last, parameter = int(found[1]), found[2]
        for step in range(last - 1, -2, -1):
            older = (
                f"step{step}/parameter/{parameter}"
                if step >= 0
                else f"initial/parameter/{parameter}"
            )
            if older in tensors:
                yield Hypothesis(
                    "stale",
                    older,
                    f"{own} is stale: it is {{}}",
                    _with(own, tensors[older]),
                )


def _with(own: str, tensor: ndarray) -> Any:
    return lambda case, x: case.run({**x, own: tensor})


@dataclass(frozen=True)
class Identification:
    """The arithmetics and matmul kernels that give a device's bits.

    Parameters
    ----------
    matches : tuple of (str, str or None)
        Arithmetic and kernel, None where the primitive has none; empty if nothing gives the bits.
    """

    matches: tuple[tuple[str, str | None], ...]

    @property
    def arithmetics(self) -> tuple[str, ...]:
        """The arithmetics among the matches."""
        return tuple(dict.fromkeys(arithmetic for arithmetic, _ in self.matches))

    @property
    def is_unique(self) -> bool:
        """Whether these data leave one arithmetic and one kernel."""
        return len(self.matches) == 1

    def __str__(self) -> str:
        """Say it for people."""
        if not self.matches:
            return "no arithmetic and kernel gives these bits"
        names = [name if kernel is None else f"{name} {kernel}" for name, kernel in self.matches]
        if self.is_unique:
            return names[0]
        return f"{', '.join(names)}: these data do not tell them apart"


def identify(operation: Operation, tensors: Mapping[str, ndarray], got: Bits) -> Identification:
    """Name every arithmetic and matmul kernel that gives a device's bits.

    Parameters
    ----------
    operation, tensors, got
        As for `explain`; the case's own arithmetic and kernel do not matter.

    Returns
    -------
    Identification
        Of the arithmetics whose formats have as many bits.

    Raises
    ------
    ValueError
        See `explain`.
    """
    wanted = _wanted(operation, got)
    given = {own: tensors[name] for own, name in operation.inputs.items()}
    case = operation.case
    width = arithmetics.get(case.arithmetic).storage.bits
    matches = [
        (name, kernel)
        for name, arithmetic in arithmetics.ARITHMETICS.items()
        if arithmetic.storage.bits == width
        for kernel in _kernels(case)
        if _gives(_known(name, kernel), case, given, wanted)
    ]
    return Identification(tuple(matches))


def _kernels(case: Case) -> tuple[str | None, ...]:
    """Return the kernels that a case's primitive can run."""
    if case.primitive == "matvec":
        return MATVEC_KERNELS
    direct = case.parameters.get("algorithm") == "direct"
    try:
        case.replace(kernel="naive")
    except (TypeError, ValueError):
        direct = True
    return (None,) if direct else MATMUL_KERNELS


def _known(arithmetic: str, kernel: str | None) -> Hypothesis:
    how = (
        {"arithmetic": arithmetic}
        if kernel is None
        else {"arithmetic": arithmetic, "kernel": kernel}
    )
    return Hypothesis(
        "known", arithmetic, "", lambda case, x: case.run(reinterpreted(x, arithmetic), **how)
    )
