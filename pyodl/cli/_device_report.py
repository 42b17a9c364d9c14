"""``pyodl profile`` and ``pyodl tune``: predictions for a device, as tables and files."""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pyodl
from pyodl import arithmetic as arithmetics
from pyodl._files import whole_file
from pyodl.cli import _curves, _roofline
from pyodl.cli._arguments import MODELS as NAMES
from pyodl.cli._arguments import output
from pyodl.cli._table import Table
from pyodl.device import get
from pyodl.device.profile import Profile, Row, profile
from pyodl.device.tune import Tuning, tune
from pyodl.models import MODELS
from pyodl.network import Network

__all__ = ["prepare_profile", "prepare_tuning", "run_profile", "run_tuning"]

_STEPS = {"forward": "forward", "weight_grad": "weight grad", "input_grad": "input grad"}


@dataclass
class ProfileJob:
    """A profile, and where it goes."""

    name: str
    found: Profile
    plot: Path | None
    json: Path | None


@dataclass
class TuningJob:
    """A tuning, and where it goes."""

    name: str
    found: Tuning
    save: Path | None


def _network(arguments: argparse.Namespace) -> Network:
    """Return the network that was asked for, on its device."""
    name = arguments.network
    device = None if arguments.device is None else get(arguments.device)
    if name in NAMES:
        chosen = arithmetics.get(arguments.arithmetic or "fp16-fma")
        return MODELS[name](arithmetic=chosen, device=device or "pulp-open")
    if not name.endswith(".npz"):
        raise ValueError(
            f"{name} is neither one of {', '.join(NAMES)} nor a file that ends in .npz"
        )
    return Network.load(name)


def prepare_profile(arguments: argparse.Namespace) -> ProfileJob:
    """Check the arguments and predict.

    Raises
    ------
    OSError, ValueError, ImportError
        If they ask for what is not possible; nothing has been written.
    """
    plot, out = (output(arguments, name) for name in ("plot", "json"))
    if plot is not None:
        _curves.check(plot)
    net = _network(arguments)
    found = profile(net, arguments.device, arithmetic=arguments.arithmetic, kernel=arguments.kernel)
    return ProfileJob(arguments.network, found, plot, out)


def run_profile(job: ProfileJob) -> int:
    """Print the table and write the files; return the exit status.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    found = job.found
    _print_head(job.name, found)
    columns = {"layer": "<14", "step": "<11", "MACs": ">9", "kernel": "<10", "tile": ">9"}
    columns |= {"n": ">3", "cycles": ">10", "MAC/clk": ">7", "ms": ">7"}
    columns |= {"L1": ">6", "L2": ">7", "DMA": ">7", "vs FP32": ">7"}
    table = Table(columns)
    others = found.fp32.rows if found.fp32 else (None,) * len(found.rows)
    for row, other in zip(found.rows, others, strict=True):
        table.row(*_cells(row, other))
    _print_totals(found)
    if job.json is not None:
        content = {"network": job.name, "version": pyodl.__version__, **found.to_json()}
        with whole_file(job.json) as file:
            file.write(json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")
    if job.plot is not None:
        _roofline.write(job.plot, job.name, found)
    return 0


def _print_head(name: str, found: Profile) -> None:
    device = found.device
    print(
        f"{name} on {device.name}: {device.cores} cores, {device.l1_bytes // 1024} KiB of L1, "
        f"{device.clock_hz / 1e6:g} MHz; {found.arithmetic}, predicted"
    )
    print("tile: output channels x rows x columns, n of them; L1, L2 and DMA in bytes")


def _cells(row: Row, other: Row | None) -> list[str]:
    return [
        row.layer,
        _STEPS.get(row.step, row.step.replace("_", " ")),
        f"{row.macs}" if row.macs else "",
        row.kernel or row.kind[:10] if not row.macs or row.kernel else "",
        "x".join(str(n) for n in row.tile),
        str(row.tiles),
        f"{row.cycles:.0f}",
        f"{row.macs_per_cycle:.2f}" if row.macs else "",
        f"{row.milliseconds:.3f}",
        *(str(n) for n in (row.l1_bytes, row.l2_bytes, row.dma_bytes)),
        f"{other.cycles / row.cycles:.2f}" if other else "",
    ]


def _print_totals(found: Profile) -> None:
    for each in filter(None, (found, found.fp32)):
        print(
            f"{each.arithmetic:<12}  {each.macs} MACs, {each.cycles:.0f} cycles, "
            f"{each.macs_per_cycle:.2f} MAC/clk, {each.milliseconds:.2f} ms, "
            f"{each.dma_bytes} bytes of DMA; peaks: {each.l1_bytes} bytes of L1, "
            f"{each.l2_bytes} of L2"
        )
    if found.speed_up is not None:
        print(f"{'speed-up':<12}  {found.speed_up:.2f} over fp32")
    if found.fp32_missing:
        print(f"{'fp32':<12}  does not fit: {found.fp32_missing}")


def prepare_tuning(arguments: argparse.Namespace) -> TuningJob:
    """Check the arguments and search.

    Raises
    ------
    OSError, ValueError
        If they ask for what is not possible; nothing has been written.
    """
    save = output(arguments, "save")
    net = _network(arguments)
    # Spawned processes, since this one may have threads by now.
    with (
        ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn"))
        if arguments.jobs > 1
        else nullcontext()
    ) as executor:
        found = tune(
            net,
            arguments.device,
            arithmetic=arguments.arithmetic,
            any_bits=arguments.any_bits,
            executor=executor,
        )
    return TuningJob(arguments.network, found, save)


def run_tuning(job: TuningJob) -> int:
    """Print the choices and write the file; return the exit status.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    found = job.found
    _print_head(job.name, found.profile)
    columns = {"layer": "<14", "step": "<11", "before": "<10", "kernel": "<10", "tile": ">9"}
    table = Table(columns | {"cycles": ">10", "gain": ">6", "bits": "<7"})
    for choice, row in zip(found.choices, found.profile.rows, strict=True):
        table.row(
            choice.layer,
            _STEPS.get(choice.step, choice.step.replace("_", " ")),
            choice.before,
            choice.kernel,
            "x".join(str(n) for n in row.tile),
            f"{choice.cycles:.0f}",
            f"{choice.cycles_before / choice.cycles:.2f}",
            "" if not choice.kernel else "same" if choice.same_bits else "change",
        )
    print(
        f"{found.cycles_before:.0f} cycles before, {found.profile.cycles:.0f} after: "
        f"{found.cycles_before / found.profile.cycles:.2f} times as fast"
    )
    changed = [f"{choice.layer} {choice.step}" for choice in found.changed]
    print(f"bits change in: {', '.join(changed)}" if changed else "no bit changes")
    if job.save is not None:
        found.save(job.save)
        print(f"saved to {job.save}")
    return 0
