"""What a training step costs on a device, layer by layer: `profile`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyodl import arithmetic as arithmetics
from pyodl._graph import Node, resolve
from pyodl.arithmetic import Arithmetic
from pyodl.device import memory
from pyodl.device._device import Device
from pyodl.device._file import get
from pyodl.device.cycles import Estimate, Model
from pyodl.device.search import fastest, named, nameless
from pyodl.device.steps import Step, steps
from pyodl.network import Network
from pyodl.primitives import _check as check
from pyodl.primitives._orders import MATMUL_KERNELS

__all__ = ["Profile", "Row", "profile"]


@dataclass(frozen=True)
class Row:
    """One step of one layer.

    Parameters
    ----------
    layer, step, kind : str
        See `pyodl.device.steps.Step`.
    macs : int
        Multiply-accumulates.
    kernel : str
        The matmul kernel that runs, after fall-backs; "" without a matmul.
    tile : tuple of int
        Output channels, rows and columns of a tile.
    tiles, buffers : int
        How many tiles there are, and how many buffers each operand has.
    cycles : float
        All together; the slowest core, forks and what of the DMA is not hidden.
    cores_cycles, forks_cycles, dma_cycles : float
        Of the slowest core, of forks and joins, and of the DMA, hidden or not.
    causes : dict
        ``cores_cycles`` by cause, see `pyodl.device.loops.Cycles`.
    macs_per_cycle : float
    milliseconds : float
        At the device's clock.
    l1_bytes, l2_bytes : int
        Buffers in L1, and all that lives in L2 during the step.
    dma_bytes : int
        Between L2 and L1, both directions.
    """

    layer: str
    step: str
    kind: str
    macs: int
    kernel: str
    tile: tuple[int, int, int]
    tiles: int
    buffers: int
    cycles: float
    cores_cycles: float
    forks_cycles: float
    dma_cycles: float
    causes: dict[str, float]
    macs_per_cycle: float
    milliseconds: float
    l1_bytes: int
    l2_bytes: int
    dma_bytes: int


@dataclass(frozen=True)
class Profile:
    """The predicted cost of a training step.

    Parameters
    ----------
    device : Device
    arithmetic : str
    rows : tuple of Row
        In the order in which the steps run.
    l1_bytes, l2_bytes : int
        Peaks of both memories, see `pyodl.device.memory.MemoryPlan`.
    fp32 : Profile or None
        The same network in FP32, each step with its own fastest kernel and tile; None if it was
        not asked for, is the same, or does not fit.
    fp32_missing : str
        Why FP32 does not fit; "" otherwise.
    """

    device: Device
    arithmetic: str
    rows: tuple[Row, ...]
    l1_bytes: int
    l2_bytes: int
    fp32: "Profile | None" = None
    fp32_missing: str = ""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the training step."""
        return sum(row.macs for row in self.rows)

    @property
    def cycles(self) -> float:
        """Cycles of the training step."""
        return sum(row.cycles for row in self.rows)

    @property
    def macs_per_cycle(self) -> float:
        """Multiply-accumulates per cycle, over everything."""
        return self.macs / self.cycles

    @property
    def milliseconds(self) -> float:
        """Milliseconds at the device's clock."""
        return 1e3 * self.cycles / self.device.clock_hz

    @property
    def dma_bytes(self) -> int:
        """Bytes between L2 and L1."""
        return sum(row.dma_bytes for row in self.rows)

    @property
    def speed_up(self) -> float | None:
        """Cycles in FP32 over cycles in this arithmetic."""
        return None if self.fp32 is None else self.fp32.cycles / self.cycles

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dictionary for JSON."""
        totals = {
            "macs": self.macs,
            "cycles": self.cycles,
            "macs_per_cycle": self.macs_per_cycle,
            "milliseconds": self.milliseconds,
            "dma_bytes": self.dma_bytes,
            "l1_bytes": self.l1_bytes,
            "l2_bytes": self.l2_bytes,
        }
        found: dict[str, Any] = {
            "device": asdict(self.device),
            "arithmetic": self.arithmetic,
            "total": totals,
            "rows": [asdict(row) for row in self.rows],
        }
        if self.fp32 is not None:
            found |= {"speed_up": self.speed_up, "fp32": self.fp32.to_json()}
        return found


def profile(
    net: Network,
    device: str | Device | None = None,
    *,
    arithmetic: str | Arithmetic | None = None,
    kernel: str = "auto",
    compare: bool = True,
) -> Profile:
    """Predict the cycles and the memory of one training step, layer by layer.

    Nothing is run: the cycles come from the loop nests of the kernels, see docs/device.md for what
    is in them and how far they were checked. A step is cut into the tiles that make it fastest,
    among those that no other contains; `pyodl.tune` tries all.

    Parameters
    ----------
    net : Network
        Frozen layers and all below the lowest trained layer count what is computed.
    device : str, Device or None
        A preset, the path of a TOML file, or a device; None is the network's.
    arithmetic : str or None
        None is the network's.
    kernel : str
        A matmul kernel for all steps, or "auto" for the fastest of each. Kernels may differ in
        bits, see `pyodl.tune`.
    compare : bool
        Whether to predict FP32 beside it.

    Returns
    -------
    Profile

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these, or a step does not fit L1 or L2; the message names the
        layer, the step and by how many bytes.
    OSError
        If the device's file cannot be read.
    """
    check.instance("net", net, Network, "a pyodl.Network")
    chosen = get(net.device if device is None else device)
    wanted = arithmetics.get(net.arithmetic if arithmetic is None else arithmetic)
    check.choice("kernel", kernel, ("auto", *MATMUL_KERNELS))
    check.flag("compare", compare)
    kernels = MATMUL_KERNELS if kernel == "auto" else (kernel,)
    found = _profile(net, Model(chosen, wanted), kernels)
    if not compare or wanted.name == "fp32":
        return found
    fp32, missing = None, ""
    try:
        fp32 = _profile(net, Model(chosen, arithmetics.get("fp32")), kernels)
    except ValueError as error:
        missing = str(error)
    return Profile(
        found.device,
        found.arithmetic,
        found.rows,
        found.l1_bytes,
        found.l2_bytes,
        fp32,
        missing,
    )


def places(net: Network) -> dict[str, Node]:
    """Return the layers of a network in their places, by name."""
    return {node.name: node for node in resolve(net.layers, net.input_shape)}


def _profile(net: Network, model: Model, kernels: Sequence[str]) -> Profile:
    work, nodes = steps(net, storage=model.arithmetic.storage), places(net)
    tasks = [nameless(step, nodes.get(step.layer)) for step in work]
    found = {task: fastest(model, *task, kernels) for task in dict.fromkeys(tasks)}
    estimates = [
        named(found[task], step, model.device, kernels[0] if step.matmul else "")
        for task, step in zip(tasks, work, strict=True)
    ]
    return summary(model, work, estimates)


def summary(model: Model, work: Sequence[Step], estimates: Sequence[Estimate]) -> Profile:
    """Return the profile of steps that are estimated; raise ValueError if they do not fit."""
    device = model.device
    plans = memory.plan(work, device, plans=[estimate.plan for estimate in estimates])
    rows = []
    for index, (step, estimate) in enumerate(zip(work, estimates, strict=True)):
        plan = estimate.plan
        rows.append(
            Row(
                *(step.layer, step.step, step.kind, step.macs, estimate.kernel),
                tile=(plan.tile.channels, plan.tile.rows, step.space.columns),
                tiles=plan.tiles,
                buffers=plan.buffers,
                cycles=estimate.cycles,
                cores_cycles=estimate.cores.total,
                forks_cycles=estimate.forks,
                dma_cycles=estimate.dma,
                causes=asdict(estimate.cores),
                macs_per_cycle=estimate.macs_per_cycle,
                milliseconds=1e3 * estimate.cycles / device.clock_hz,
                l1_bytes=plan.l1_bytes,
                l2_bytes=sum(tensor.bytes for tensor in plans.live(index)),
                dma_bytes=plan.dma_bytes,
            )
        )
    name = model.arithmetic.name
    return Profile(device, name, tuple(rows), plans.l1_bytes, plans.l2_bytes)
