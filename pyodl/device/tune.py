"""The fastest kernels and tiles for a network on a device, without changing bits: `tune`."""

import json
import os
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyodl import arithmetic as arithmetics
from pyodl._files import whole_file
from pyodl.arithmetic import Arithmetic
from pyodl.device._device import Device
from pyodl.device._file import get
from pyodl.device.cycles import Estimate, Model
from pyodl.device.profile import Profile, places, summary
from pyodl.device.search import Work, bit_class, fastest, named, nameless
from pyodl.device.steps import Step, steps
from pyodl.network import Network
from pyodl.primitives import _check as check
from pyodl.primitives._orders import MATMUL_KERNELS

__all__ = ["Choice", "Tuning", "read_kernels", "same_bits", "tune"]

_STEPS = ("forward", "weight_grad", "input_grad")
_FORMAT = "pyodl tuning 1"


@dataclass(frozen=True)
class Choice:
    """What was chosen for one step.

    Parameters
    ----------
    layer, step : str
    before, kernel : str
        The layer's matmul kernel, and the chosen one; "" without a matmul.
    same_bits : bool
        Whether both are of one bit class: they sum every output in one order.
    orders : tuple of str
        The reduction orders of the chosen kernel.
    alternatives : tuple of str
        All kernels of the bit class of ``before``.
    channels, rows : int
        The tile.
    outer : str
        The outermost loop over tiles.
    buffers : int
    cycles_before, cycles : float
        With the kernel and tile before, and with those chosen.
    """

    layer: str
    step: str
    before: str
    kernel: str
    same_bits: bool
    orders: tuple[str, ...]
    alternatives: tuple[str, ...]
    channels: int
    rows: int
    outer: str
    buffers: int
    cycles_before: float
    cycles: float


@dataclass(frozen=True)
class Tuning:
    """The choices for a training step.

    Parameters
    ----------
    choices : tuple of Choice
        In the order of the steps.
    profile : Profile
        What the training step costs with them.
    """

    choices: tuple[Choice, ...]
    profile: Profile

    @property
    def cycles_before(self) -> float:
        """Cycles of the training step with the network's kernels."""
        return sum(choice.cycles_before for choice in self.choices)

    @property
    def changed(self) -> tuple[Choice, ...]:
        """The choices that change bits."""
        return tuple(choice for choice in self.choices if not choice.same_bits)

    @property
    def kernels(self) -> dict[str, dict[str, str]]:
        """The matmul kernels by layer and step, as `pyodl.Network.set_kernels` takes them."""
        found: dict[str, dict[str, str]] = {}
        for choice in self.choices:
            if choice.kernel:
                found.setdefault(choice.layer, {})[choice.step] = choice.kernel
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the choices as JSON, whole or not at all; `read_kernels` reads the kernels.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        OSError
            If it cannot be written.
        """
        found = {
            "format": _FORMAT,
            "device": self.profile.device.name,
            "cores": self.profile.device.cores,
            "arithmetic": self.profile.arithmetic,
            "cycles_before": self.cycles_before,
            "cycles": self.profile.cycles,
            "kernels": self.kernels,
            "steps": [vars(choice) for choice in self.choices],
        }
        with whole_file(path) as file:
            file.write(json.dumps(found, indent=2).encode() + b"\n")


def read_kernels(path: str | os.PathLike[str]) -> tuple[dict[str, dict[str, str]], int]:
    """Return the kernels that a saved `Tuning` chose, and the cores that it chose them for.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    dict of dict of str
        By layer and step, as `pyodl.Network.set_kernels` takes them.
    int

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no such file; the message names it.
    """
    where = os.fspath(path)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        check.choice("format", found["format"], (_FORMAT,))
        cores = check.integer("cores", found["cores"], 1)
        kernels = {
            str(layer): {
                check.choice("step", step, _STEPS): check.choice("kernel", kernel, MATMUL_KERNELS)
                for step, kernel in chosen.items()
            }
            for layer, chosen in found["kernels"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is no plan that pyodl tune wrote: {error}") from error
    return kernels, cores


def same_bits(step: Step, kernel: str, cores: int) -> tuple[str, ...]:
    """Return the kernels whose results have the bits of ``kernel``'s, for all operands.

    Parameters
    ----------
    step : Step
        With a matmul.
    kernel : str
    cores : int

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        If the step has no matmul.
    """
    if step.matmul is None:
        raise ValueError(f"layer {step.layer!r}, {step.step}: there is no matmul")
    wanted = bit_class(kernel, step.matmul, cores)
    return tuple(
        other for other in MATMUL_KERNELS if bit_class(other, step.matmul, cores) == wanted
    )


def tune(
    net: Network,
    device: str | Device | None = None,
    *,
    arithmetic: str | Arithmetic | None = None,
    any_bits: bool = False,
    executor: Executor | None = None,
) -> Tuning:
    """Choose the kernel and the tile of every step that take the fewest predicted cycles.

    Every tile of `pyodl.device.tiles.candidates` is tried, with one and two buffers and both orders
    of loops. Tiles in which a kernel would sum in another order than in the whole matrix are left
    out, so bits depend on the kernels alone; and unless ``any_bits`` is given, only kernels of the
    bit class of the layer's own kernel are tried. So tuning never changes a bit by itself.

    Parameters
    ----------
    net : Network
        It is not changed; `pyodl.Network.set_kernels` takes ``Tuning.kernels``.
    device, arithmetic
        See `pyodl.profile`.
    any_bits : bool
        Whether kernels may change bits; `Tuning.changed` says where they do.
    executor : concurrent.futures.Executor or None
        Runs the steps' searches: threads, processes, or a cluster's, such as that of Dask's
        ``Client.get_executor()``. None searches one after the other.

    Returns
    -------
    Tuning

    Raises
    ------
    TypeError, ValueError, OSError
        See `pyodl.profile`.
    """
    check.instance("net", net, Network, "a pyodl.Network")
    chosen = get(net.device if device is None else device)
    wanted = arithmetics.get(net.arithmetic if arithmetic is None else arithmetic)
    check.flag("any_bits", any_bits)
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            f"executor must be a concurrent.futures.Executor, not {type(executor).__name__}"
        )
    model = Model(chosen, wanted)
    work, nodes = steps(net, storage=wanted.storage), places(net)
    tasks = [nameless(step, nodes.get(step.layer)) for step in work]
    distinct = list(dict.fromkeys(tasks))
    apply = map if executor is None else executor.map
    search = partial(_search, model, any_bits)
    found = dict(zip(distinct, apply(search, distinct), strict=True))
    choices, estimates = [], []
    for step, task in zip(work, tasks, strict=True):
        before, after = (named(each, step, chosen, step.kernel) for each in found[task])
        choices.append(_choice(step, before, after, chosen.cores))
        estimates.append(after)
    return Tuning(tuple(choices), summary(model, work, estimates))


def _search(model: Model, any_bits: bool, task: Work) -> tuple[Estimate | None, Estimate | None]:
    """Return the fastest with the step's own kernel, and the fastest of all."""
    step = task.step
    own = kernels = _own(step)
    before = fastest(model, *task, own)
    if step.matmul is not None:
        cores = model.device.cores
        kernels = MATMUL_KERNELS if any_bits else same_bits(step, step.kernel, cores)
    after = fastest(model, *task, kernels, exhaustive=True)
    if before is not None and after is not None:
        after = min(before, after, key=lambda estimate: estimate.cycles)
    return before, after


def _own(step: Step) -> tuple[str, ...]:
    return (step.kernel,) if step.matmul is not None else ()


def _choice(step: Step, before: Estimate, after: Estimate, cores: int) -> Choice:
    plan = after.plan
    same: tuple[str, ...] = (step.kernel,)
    orders: tuple[str, ...] = ()
    if step.matmul is not None:
        same = same_bits(step, step.kernel, cores)
        regions = bit_class(plan.kernel, step.matmul, cores)
        orders = tuple(dict.fromkeys(region.order.name.lower() for region in regions))
    return Choice(
        *(step.layer, step.step, step.kernel, plan.kernel, plan.kernel in same),
        orders=tuple(order.replace("_", "-") for order in orders),
        alternatives=same if step.kernel else (),
        channels=plan.tile.channels,
        rows=plan.tile.rows,
        outer=plan.outer,
        buffers=plan.buffers,
        cycles_before=before.cycles,
        cycles=after.cycles,
    )
