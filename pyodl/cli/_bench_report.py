"""``pyodl bench``: runs the measurements of `pyodl.bench` and prints them as tables."""

import argparse
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import pyodl
from pyodl import _kernels, bench
from pyodl import arithmetic as arithmetics
from pyodl._bench_torch import load_torch
from pyodl._files import whole_file
from pyodl.cli._table import Table

__all__ = ["Job", "prepare", "run"]

_ARITHMETICS = ("fp16-fp32acc", "fp16-fma", "fp16-muladd")
_STEPS = ("forward", "weight_grad", "input_grad", "update")


@dataclass
class Job:
    """What to measure, checked."""

    models: Sequence[str]
    arithmetics: Sequence[str]
    threads: int
    steps: int
    against: str | None
    profile: bool
    json: Path | None
    results: dict[str, Any] = field(default_factory=dict)


def prepare(arguments: argparse.Namespace) -> Job:
    """Check the arguments.

    Raises
    ------
    ImportError, OSError, ValueError
        If they ask for what is not possible; nothing has been measured.
    """
    names = [arithmetics.get(name) for name in arguments.arithmetic or _ARITHMETICS]
    for chosen in names:
        _ = chosen.storage.dtype  # bfloat16 needs a package
    if arguments.against == "torch":
        load_torch()
    path = None if arguments.json is None else Path(arguments.json)
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise ValueError(f"--json {path}: no file can be made there")
    if arguments.threads > 1 and not _kernels.has_openmp():
        raise ValueError(f"--threads {arguments.threads}: built without OpenMP")
    return Job(
        models=arguments.models,
        arithmetics=[chosen.name for chosen in names],
        threads=arguments.threads,
        steps=arguments.steps,
        against=arguments.against,
        profile=arguments.profile,
        json=path,
    )


def run(job: Job) -> int:
    """Measure, print as it goes, write what was asked for; return the exit status."""
    job.results = {"machine": _machine(job), "steps": [], "comparisons": [], "profiles": []}
    print(_headline(job.results["machine"]))
    if job.against is None:
        _print_own(job)
    else:
        _print_comparisons(job)
    if job.profile:
        for model in job.models:
            for arithmetic in job.arithmetics:
                _print_profile(job, model, arithmetic)
    if job.json is not None:
        with whole_file(job.json) as file:
            file.write(json.dumps(job.results, indent=2, allow_nan=False).encode() + b"\n")
    return 0


def _machine(job: Job) -> dict[str, Any]:
    versions = {
        "pyodl": pyodl.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    if job.against == "torch":
        versions["torch"] = load_torch().__version__
    return {
        "versions": versions,
        "machine": platform.machine(),
        "kernels": _kernels.ISA,
        "processors": _kernels.processors(),
        "threads": job.threads,
        "steps": job.steps,
    }


def _headline(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return (
        f"{versions}\n{machine['kernels']} kernels, {threads} of {machine['processors']}; medians "
        f"of {machine['steps']} steps, quartiles in parentheses\n"
    )


def _print_own(job: Job) -> None:
    columns = {"model": "<8", "arithmetic": "<12", "ms/step": ">7", "|": "<15"}
    table = Table({**columns, "GMAC/s": ">6", "of peak": ">7", "Python": ">6"})
    for model in job.models:
        for arithmetic in job.arithmetics:
            timing = bench.measure(model, arithmetic, threads=job.threads, steps=job.steps)
            job.results["steps"].append(asdict(timing))
            table.row(
                model,
                arithmetic,
                *_milliseconds(timing.seconds),
                f"{timing.rate / 1e9:.2f}",
                f"{timing.share_of_peak.median:.1%}",
                f"{timing.python:.1%}",
            )


def _print_comparisons(job: Job) -> None:
    columns = {"model": "<8", "arithmetic": "<12", "ms/step": ">7", "|": "<15"}
    peer = {
        "peer in FP32": "<19",
        "ms/step|peer": ">7",
        "|peer": "<15",
        "ratio": ">6",
        "|ratio": "<13",
    }
    table = Table(columns | peer)
    for model in job.models:
        for arithmetic in job.arithmetics:
            for last in (False, True):
                found = bench.compare(
                    model, arithmetic, threads=job.threads, steps=job.steps, channels_last=last
                )
                job.results["comparisons"].append(asdict(found))
                table.row(
                    model,
                    arithmetic,
                    *_milliseconds(found.seconds),
                    found.peer,
                    *_milliseconds(found.peer_seconds),
                    f"{found.ratio.median:.3f}",
                    f"({found.ratio.lower:.3f}-{found.ratio.upper:.3f})",
                )


def _print_profile(job: Job, model: str, arithmetic: str) -> None:
    """Print the time of each layer and step beside its limit: its work at the FMA peak."""
    rows = bench.profile(model, arithmetic, threads=job.threads, steps=job.steps)
    peak, macs = bench.fma_peak(job.threads, arithmetic=arithmetic)
    seconds = bench.in_turns([lambda: peak.run(job.threads)], job.steps)
    rate = macs / float(seconds.min())
    print(f"\n{model}, {arithmetic}: us by layer and step, beside the limit at {rate / 1e9:.1f}")
    print("GMAC/s where there are multiply-accumulates")
    total, limit = sum(row.seconds for row in rows), sum(row.macs for row in rows) / rate
    columns = {"layer": "<14"}
    for step in _STEPS:
        columns |= {step: ">11", f"limit|{step}": ">6"}
    table = Table(columns)
    for layer in dict.fromkeys(row.layer for row in rows):
        cells = {row.step: row for row in rows if row.layer == layer}
        table.row(layer or "(all)", *_cells(cells, rate))
    print(f"sum {total * 1e6:.1f} us, limit {limit * 1e6:.1f} us ({limit / total:.1%})\n")
    parts: dict[str, float] = {}
    for row in rows:
        for part, spent in row.parts.items():
            parts[part] = parts.get(part, 0.0) + spent
    table = Table({"operation": "<26", "us": ">9", "share": ">6"})
    for part, spent in sorted(parts.items(), key=lambda item: -item[1]):
        table.row(part, f"{spent * 1e6:.1f}", f"{spent / total:.1%}")
    job.results["profiles"].append(
        {
            "model": model,
            "arithmetic": arithmetic,
            "peak": rate,
            "rows": [asdict(row) for row in rows],
            "parts": parts,
        }
    )


def _cells(rows: dict[str, bench.Row], rate: float) -> Iterable[str]:
    for step in _STEPS:
        row = rows.get(step)
        yield f"{row.seconds * 1e6:.1f}" if row else ""
        yield f"{row.macs / rate * 1e6:.1f}" if row and row.macs else ""


def _milliseconds(spread: bench.Spread) -> tuple[str, str]:
    """Return a median and its quartiles in milliseconds."""
    return (
        f"{spread.median * 1e3:.3f}",
        f"({spread.lower * 1e3:.2f}-{spread.upper * 1e3:.2f})",
    )
