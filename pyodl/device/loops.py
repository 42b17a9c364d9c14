"""Loop nests of a kernel, and the one function that counts their cycles.

A kernel is described by data: straight-line `Code`, which says how many instructions of each kind
it has, inside `Loop`s. `count` adds up what a core of the cluster takes for it. The facts about the
core are those of the CV32E40P user manual (sections on the pipeline and on hardware loops):

- one instruction is issued per cycle; a load or store that crosses a word takes one more;
- an instruction that follows a load at once and takes its result waits one cycle;
- a taken branch takes three cycles, one that is not taken takes one;
- two levels of loops cost nothing per iteration, once they are set up, if no branch is in them and
  the body has at least three instructions; the others count and branch.

Two things are modelled rather than known. Accesses of the other cores hit the same bank of L1 by
chance, and half of them come first. And the compiler takes the accumulators in turn, so that
dependent accumulations are as far apart as there are accumulators.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Code", "Core", "Cycles", "Loop", "Nest", "count"]

_TAKEN = 2  # further cycles of a taken branch
_HARDWARE_LEVELS = 2
_SHORTEST_BODY = 3  # instructions of a hardware loop


@dataclass(frozen=True)
class Code:
    """Straight-line code of one core, run once: its instructions by kind.

    Parameters
    ----------
    loads, stores : float
        Accesses to L1; a fraction is a mean.
    misaligned : float
        How many of these cross a word.
    fma : float
        Accumulations: fused multiply-adds, or the additions where products are rounded.
    chains : int
        Accumulators that these take in turn.
    products : float
        Multiplications whose results the accumulations take.
    fp : float
        Other floating-point instructions, independent of each other: conversions, sums of lanes.
    alu : float
        Integer instructions: addresses, shuffles, packing, zeros.
    skips, jumps : float
        Branches that are not taken, and that are.
    load_use : float
        Loads whose value the next instruction takes.
    busy : float
        Further cycles of instructions that take several, such as divisions.
    """

    loads: float = 0
    stores: float = 0
    misaligned: float = 0
    fma: float = 0
    chains: int = 1
    products: float = 0
    fp: float = 0
    alu: float = 0
    skips: float = 0
    jumps: float = 0
    load_use: float = 0
    busy: float = 0

    @property
    def accesses(self) -> float:
        """Loads and stores."""
        return self.loads + self.stores

    @property
    def floating(self) -> float:
        """Instructions of the floating-point unit."""
        return self.fma + self.products + self.fp

    @property
    def branches(self) -> float:
        """Branches, taken or not."""
        return self.skips + self.jumps

    @property
    def instructions(self) -> float:
        """All instructions."""
        return self.accesses + self.floating + self.alu + self.branches


@dataclass(frozen=True)
class Loop:
    """Code and loops that run ``trips`` times, one after the other."""

    trips: float
    body: tuple["Code | Loop", ...]


Nest = Sequence[Code | Loop]


@dataclass(frozen=True)
class Core:
    """What of a device decides the cycles of one core.

    Parameters
    ----------
    latency : int
        Cycles from a floating-point instruction to one that takes its result.
    pipelined : bool
        Whether the unit takes an instruction every cycle; else one in ``latency`` cycles.
    shared_by : int
        Cores that share one floating-point unit.
    banks : int
        Banks of L1.
    active : int
        Cores that run the same nest at the same time.
    """

    latency: int = 1
    pipelined: bool = True
    shared_by: int = 1
    banks: int = 16
    active: int = 1


@dataclass(frozen=True)
class Cycles:
    """Cycles by cause; their sum is `total`.

    Parameters
    ----------
    issue : float
        One per instruction, loop control included.
    loads : float
        Waits for loads, and second halves of accesses that cross a word.
    branches : float
        Refills of the pipeline after taken branches.
    fpu : float
        Waits for results of the floating-point unit, or for the unit.
    banks : float
        Waits for a bank of L1.
    busy : float
        Divisions and other long instructions.
    """

    issue: float = 0
    loads: float = 0
    branches: float = 0
    fpu: float = 0
    banks: float = 0
    busy: float = 0

    @property
    def total(self) -> float:
        """All cycles."""
        return self.issue + self.loads + self.branches + self.fpu + self.banks + self.busy

    def __add__(self, other: "Cycles") -> "Cycles":
        """Add cause by cause."""
        return Cycles(
            self.issue + other.issue,
            self.loads + other.loads,
            self.branches + other.branches,
            self.fpu + other.fpu,
            self.banks + other.banks,
            self.busy + other.busy,
        )

    def times(self, trips: float) -> "Cycles":
        """Return the cycles of so many repetitions."""
        return Cycles(
            self.issue * trips,
            self.loads * trips,
            self.branches * trips,
            self.fpu * trips,
            self.banks * trips,
            self.busy * trips,
        )


def count(nest: Nest, core: Core) -> Cycles:
    """Return the cycles that one core takes for a nest.

    Parameters
    ----------
    nest : sequence of Code and Loop
        One after the other.
    core : Core

    Returns
    -------
    Cycles
    """
    total = Cycles()
    for part in nest:
        total += _loop(part, core) if isinstance(part, Loop) else _code(part, core)
    return total


def _loop(loop: Loop, core: Core) -> Cycles:
    """Count a loop: its body, and what it costs to go round."""
    trips = loop.trips
    if trips <= 0:
        return Cycles()
    alone = len(loop.body) == 1 and isinstance(loop.body[0], Code)
    if alone:
        (code,) = loop.body
        assert isinstance(code, Code)  # noqa: S101 - for the type checker
        once = _code(code, core, recurrent=trips > 1)
    else:
        once = count(loop.body, core)
    if 0 < _levels(loop) <= _HARDWARE_LEVELS:
        padding = max(0.0, _SHORTEST_BODY - once.issue)
        return (once + Cycles(issue=padding)).times(trips) + Cycles(issue=1)
    return once.times(trips) + Cycles(issue=1 + 2 * trips, branches=_TAKEN * (trips - 1))


def _levels(loop: Loop) -> int:
    """Return how many levels of loops this is, or 0 if there is a branch in it."""
    deepest = 0
    for part in loop.body:
        if isinstance(part, Code):
            if part.branches:
                return 0
        elif part.trips > 0:
            levels = _levels(part)
            if not 0 < levels <= _HARDWARE_LEVELS:  # it ends in a branch itself
                return 0
            deepest = max(deepest, levels)
    return deepest + 1


def _code(code: Code, core: Core, *, recurrent: bool = False) -> Cycles:
    """Count straight-line code; ``recurrent`` if it follows itself."""
    issue = code.instructions
    loads = code.load_use + code.misaligned
    branches = code.jumps * _TAKEN
    fpu = _dependencies(code, core, recurrent)
    period = issue + loads + branches + fpu + code.busy
    occupied = 1 if core.pipelined else core.latency
    contended = max(0.0, core.shared_by * code.floating * occupied - period)
    period += contended
    return Cycles(
        issue, loads, branches, fpu + contended, _conflicts(code, core, period), code.busy
    )


def _dependencies(code: Code, core: Core, recurrent: bool) -> float:
    """Return the cycles that floating-point instructions wait for each other's results."""
    if not code.floating:
        return 0.0
    others = code.instructions - code.floating
    if not core.pipelined:
        gap = core.latency - 1
        last = max(0.0, gap - others) if recurrent else 0.0
        return max(0.0, code.floating - 1) * gap + last
    latency, rounds = core.latency, code.fma / code.chains
    converted = max(0.0, latency - code.fp) if code.fp else 0.0
    if not code.fma:
        return converted
    multiplied = max(0.0, latency - code.chains) if code.products else 0.0
    apart = code.chains * (2 if code.products else 1) + multiplied  # accumulations of one chain
    wait = converted + multiplied * rounds + max(0.0, latency - apart) * max(0.0, rounds - 1)
    if recurrent:
        wait += max(0.0, latency - apart - others - code.fp - converted)
    return wait


def _conflicts(code: Code, core: Core, period: float) -> float:
    """Return the expected waits for a bank: every other core has it with probability u / banks.

    u is how often a core accesses L1. Of two that meet, one waits a cycle.
    """
    if not code.accesses or core.active < 2:
        return 0.0
    often = code.accesses / period
    return code.accesses * (core.active - 1) * often / (2 * core.banks)
