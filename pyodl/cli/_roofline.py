"""The roofline of a device with every layer on it, as a picture."""

from pathlib import Path
from typing import Any

import numpy as np

from pyodl import arithmetic as arithmetics
from pyodl._files import whole_file
from pyodl.device.profile import Profile

__all__ = ["write"]

_INK = "#33383d"
_STEPS = {
    "forward": ("forward", "o", "#d1495b"),
    "weight_grad": ("weight gradient", "s", "#30638e"),
    "input_grad": ("input gradient", "^", "#edae49"),
}


def write(path: Path, name: str, found: Profile) -> None:
    """Draw multiply-accumulates per cycle over those per byte of DMA; whole or not at all.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), dpi=160, layout="constrained", facecolor="white")
    axes = figure.subplots()
    profiles = [profile for profile in (found, found.fp32) if profile is not None]
    rows = [row for profile in profiles for row in profile.rows if row.macs]
    intensity = np.array([row.macs / row.dma_bytes for row in rows])
    ends = np.array([min(intensity.min(), 0.5) / 2, intensity.max() * 2])
    for profile in profiles:
        _roof(axes, profile, ends, main=profile is found)
    for step, (label, marker, colour) in _STEPS.items():
        for profile in reversed(profiles):
            _points(axes, profile, step, label, marker, colour, main=profile is found)
    axes.set(xscale="log", yscale="log", xlim=tuple(ends))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("multiply-accumulates per byte between L2 and L1", color=_INK)
    axes.set_ylabel("multiply-accumulates per cycle", color=_INK)
    axes.grid(which="major", color="#e4e7ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, which="both", length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower right", frameon=False, labelcolor=_INK)
    also = " (hollow: fp32)" if found.fp32 else ""
    axes.set_title(
        f"{name} on {found.device.name}, {found.arithmetic}{also}: predicted",
        loc="left",
        color=_INK,
        fontweight="bold",
    )
    with whole_file(path) as file:
        figure.savefig(file, format=path.suffix.lower().removeprefix("."))


def _roof(axes: Any, found: Profile, ends: np.ndarray, *, main: bool) -> None:
    """Draw what the DMA's bandwidth and the cores' multiply-accumulates allow."""
    device = found.device
    chosen = arithmetics.get(found.arithmetic)
    # Lanes are added in the accumulator's format: SIMD only where that is the storage's. A product
    # that is rounded on its own is one more instruction.
    each = device.lanes(chosen.accumulator) / (1 if chosen.fused else 2)
    peak = device.cores * each / device.fpu_shared_by
    knee = peak / device.dma_bytes_per_cycle
    at = np.array([ends[0], knee, max(ends[1], knee)])
    style = {"linewidth": 2.0} if main else {"linewidth": 1.0, "linestyle": "--"}
    axes.plot(at, np.minimum(at * device.dma_bytes_per_cycle, peak), color=_INK, **style)
    axes.annotate(
        f"{found.arithmetic}: {peak:g} MAC/cycle",
        (ends[1], peak),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        color=_INK,
        fontsize=9,
    )


def _points(
    axes: Any, found: Profile, step: str, label: str, marker: str, colour: str, *, main: bool
) -> None:
    """Draw the layers of one step, hollow for the comparison."""
    rows = [row for row in found.rows if row.macs and row.step == step]
    axes.plot(
        [row.macs / row.dma_bytes for row in rows],
        [row.macs_per_cycle for row in rows],
        marker,
        color=colour,
        markerfacecolor=colour if main else "none",
        markersize=7 if main else 5,
        alpha=0.9 if main else 0.6,
        label=label if main else None,
    )
