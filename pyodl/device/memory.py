"""Where every tensor of a training step lies: L2 by liveness, L1 tile by tile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyodl.device._device import Device
from pyodl.device._step import Step
from pyodl.device.tiles import TilePlan
from pyodl.device.tiles import plan as plan_tiles

__all__ = ["MemoryPlan", "Placed", "plan"]

_ALIGNMENT = 4  # bytes: the DMA and packed SIMD take words
_WHOLE = ("weight", "bias", "loss")  # what lives longer than the step: parameters and its result


@dataclass(frozen=True)
class Placed:
    """A tensor in L2.

    Parameters
    ----------
    name, role : str
        See `pyodl.device.steps.Operand`; the role is that of its first use.
    bytes, offset : int
    first, last : int
        Steps of its first and last use, as indices; parameters live through all of them.
    """

    name: str
    role: str
    bytes: int
    offset: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of one training step.

    Parameters
    ----------
    tensors : tuple of Placed
        In the order of their first use.
    plans : tuple of TilePlan
        One for each step.
    l2_bytes : int
        The peak of L2: from offset 0 to the end of the last tensor.
    l2_live_bytes : int
        The most that lives at once, a lower bound of ``l2_bytes``.
    l1_bytes : int
        The peak of L1.
    """

    tensors: tuple[Placed, ...]
    plans: tuple[TilePlan, ...]
    l2_bytes: int
    l2_live_bytes: int
    l1_bytes: int

    @property
    def l1_peak(self) -> TilePlan:
        """The step with the largest tile."""
        return max(self.plans, key=lambda plan: plan.l1_bytes)

    def live(self, step: int) -> tuple[Placed, ...]:
        """Return the tensors that live during a step."""
        return tuple(tensor for tensor in self.tensors if tensor.first <= step <= tensor.last)


def plan(
    work: Sequence[Step], device: Device, *, plans: Iterable[TilePlan] | None = None
) -> MemoryPlan:
    """Return the memory plan of a training step.

    Tensors live in L2, in whole; a step brings tiles of them to L1 and back. An activation lives
    until the last step that reads it, forward or backward; a gradient until it is used up.
    Parameters live always. im2row matrices and transposed weights are made tile by tile in L1 and
    take no L2. Offsets are given to the largest tensor first, each the lowest that no tensor takes
    that lives at the same time.

    Parameters
    ----------
    work : sequence of Step
        See `pyodl.device.steps.steps`.
    device : Device
    plans : iterable of TilePlan or None
        One for each step; None plans them with `pyodl.device.tiles.plan`.

    Returns
    -------
    MemoryPlan

    Raises
    ------
    ValueError
        If a step does not fit L1, or the tensors do not fit L2; the message names the layer, the
        step and by how many bytes. Or if ``plans`` are not those of the steps.
    """
    chosen = tuple(plan_tiles(step, device) for step in work) if plans is None else tuple(plans)
    if tuple(found.step for found in chosen) != tuple(work):
        raise ValueError("plans are not those of the steps")
    for found in chosen:
        _check(found.step, "L1", found.l1_bytes, device.l1_bytes, device)
    tensors = _placed(_lives(work))
    live = [sum(t.bytes for t in tensors if t.first <= i <= t.last) for i in range(len(work))]
    peak = max(tensor.offset + tensor.bytes for tensor in tensors)
    _check(work[live.index(max(live))], "L2", peak, device.l2_bytes, device)
    return MemoryPlan(tensors, chosen, peak, max(live), max(found.l1_bytes for found in chosen))


def _check(step: Step, memory: str, needed: int, available: int, device: Device) -> None:
    if needed > available:
        raise ValueError(
            f"layer {step.layer!r}, {step.step}: {needed} bytes of {memory} are needed, "
            f"{needed - available} more than the {available} of {device.name}"
        )


def _lives(work: Sequence[Step]) -> list[Placed]:
    """Return every tensor with its life, not yet placed, in the order of first uses."""
    found: dict[str, Placed] = {}
    for i, step in enumerate(work):
        for operand in step.operands:
            if operand.role == "buffer":
                continue
            seen = found.get(operand.name)
            # The input and the target are there before the step begins.
            first = i if operand.stores else 0
            whole = operand.role in _WHOLE
            size = -(-operand.bytes // _ALIGNMENT) * _ALIGNMENT
            found[operand.name] = Placed(
                *(operand.name, operand.role if seen is None else seen.role, size, 0),
                first=0 if whole else (first if seen is None else seen.first),
                last=len(work) - 1 if whole else i,
            )
    return list(found.values())


def _placed(tensors: Sequence[Placed]) -> tuple[Placed, ...]:
    """Give offsets: the largest first, at the lowest place that is free for all of its life."""
    done: list[Placed] = []
    for tensor in sorted(tensors, key=lambda t: (-t.bytes, t.first)):
        offset = 0
        for other in sorted(done, key=lambda t: t.offset):
            apart = other.last < tensor.first or tensor.last < other.first
            if (
                not apart
                and offset < other.offset + other.bytes
                and (other.offset < offset + tensor.bytes)
            ):
                offset = other.offset + other.bytes
        done.append(
            Placed(tensor.name, tensor.role, tensor.bytes, offset, tensor.first, tensor.last)
        )
    order = {tensor.name: i for i, tensor in enumerate(tensors)}
    return tuple(sorted(done, key=lambda t: order[t.name]))
