"""Learning curves of a training run as a picture."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from pyodl._files import whole_file

if TYPE_CHECKING:
    from pyodl.cli._train_job import Run, Settings

__all__ = ["check", "write"]

_COLOURS = ("#d1495b", "#30638e")  # the arithmetic, and FP32 beside it
_INK = "#33383d"
_SUFFIXES = (".png", ".svg", ".pdf")


def check(path: Path) -> None:
    """Check that a plot can be drawn at ``path``, before time is spent on its data.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the suffix is unknown.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"--plot {path}: the name must end in {', '.join(_SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("--plot needs matplotlib: pip install 'pyodl[plot]'")


def write(path: Path, model: str, settings: "Settings", runs: Sequence["Run"]) -> None:
    """Draw loss and held-out accuracy of the runs and write them, whole or not at all.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.0), dpi=160, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    for axes, title in ((left, "Training loss"), (right, "Held-out accuracy")):
        _style(axes, title)
    for run, colour, width in zip(runs, _COLOURS, (2.8, 1.2), strict=False):  # the thin one on top
        line = {"color": colour, "linewidth": width, "solid_capstyle": "round"}
        left.plot(*_smoothed(run), **line)
        epochs = np.arange(len(run.test_accuracy)) + 1
        label = f"{run.label}  {run.test_accuracy[-1]:.3f}"
        right.plot(epochs, run.test_accuracy, marker="o", markersize=3 + width, label=label, **line)
    left.set_yscale("log")
    left.minorticks_off()
    left.set_xlim(0, settings.epochs)
    right.set_xlim(0.7, settings.epochs + 0.3)
    right.set_ylim(top=1.01)
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc="lower right", frameon=False, labelcolor=_INK)
    figure.suptitle(
        f"{model} on {settings.data}: {' and '.join(run.label for run in runs)}",
        color=_INK,
        fontsize=13,
        fontweight="bold",
    )
    with whole_file(path) as file:
        figure.savefig(file, format=path.suffix.lower().removeprefix("."))


def _style(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", color=_INK, fontsize=11)
    axes.set_xlabel("epoch", color=_INK)
    axes.grid(axis="y", which="major", color="#e4e7ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#b9bfc5")


def _smoothed(run: "Run") -> tuple[ndarray, ndarray]:
    """Return the loss of every image as a moving mean, over the epochs at which they were seen."""
    losses = np.asarray(run.history.step_loss, np.float64)
    per_epoch = max(run.images_done // max(len(run.test_accuracy), 1), 1)
    window = min(max(per_epoch // 6, 1), len(losses))
    mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    last = run.images_done / per_epoch
    at = last - np.arange(len(mean))[::-1] / per_epoch
    step = max(len(mean) // 2000, 1)  # more points than pixels only make the file larger
    return at[::step], np.maximum(mean[::step], 1e-4)
