"""``pyodl train``: a network, its FP32 twin beside it, and what is written about them."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import pyodl
from pyodl import arithmetic as arithmetics
from pyodl import datasets, device
from pyodl._files import whole_file
from pyodl._progress import ProgressLine
from pyodl.cli import _curves, _device_defects
from pyodl.cli._arguments import output
from pyodl.datasets import Dataset
from pyodl.device import Device
from pyodl.device.tune import read_kernels
from pyodl.layers import Layer
from pyodl.layers._weights import Weighted
from pyodl.models import MODELS
from pyodl.network import Network
from pyodl.training import History, Progress, fit

__all__ = ["Job", "prepare", "run"]


@dataclass(frozen=True)
class Settings:
    """What decides the bits of a run, beside the network; a checkpoint keeps it.

    The learning rate falls from ``lr`` towards 0 as this power of what remains of the run. With
    batches of one image it is the small rates at the end that steady the accuracy.
    """

    data: str
    epochs: int
    lr: float
    power: float = 1.0
    seed: int = 0

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        return float(self.lr * (1 - epoch / self.epochs) ** self.power)


_DEFAULTS = {
    "resnet8": Settings("digits", epochs=6, lr=0.03),
    "ds_cnn": Settings("keywords", epochs=10, lr=0.02, power=2.0),
    "tiny_cnn": Settings("digits", epochs=10, lr=0.02),
}


@dataclass
class Run:
    """One network in training."""

    net: Network
    images_done: int = 0
    train_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    history: History = field(default_factory=History)

    @property
    def label(self) -> str:
        """Name of the arithmetic."""
        return self.net.arithmetic.name


@dataclass
class Job:
    """Everything that a training run needs, checked before it begins."""

    model: str
    settings: Settings
    main: Run
    twin: Run | None
    train: Dataset
    test: Dataset
    threads: int | None
    warnings: list[str]
    save: Path | None
    plot: Path | None
    json: Path | None


class _StoppedError(Exception):
    """Raised between two updates of a network after Ctrl-C."""


def prepare(arguments: argparse.Namespace) -> Job:
    """Check the arguments, read the data and build the networks.

    Raises
    ------
    OSError, ValueError, ImportError
        If the run is not possible; nothing has been written.
    """
    save, plot, out = (output(arguments, name) for name in ("save", "plot", "json"))
    if plot is not None:
        _curves.check(plot)
    model = arguments.model
    if arguments.resume is not None:
        main, settings = _resumed(arguments)
    else:
        main, settings = Run(_network(arguments)), _settings(arguments, _DEFAULTS[model])
    _use_plan(arguments, main.net)
    train, test = _data(settings.data, main.net)
    if arguments.freeze:
        main.net.freeze(*arguments.freeze)
    if main.images_done >= settings.epochs * len(train):
        raise ValueError(
            f"{arguments.resume} has done its {settings.epochs} epochs; --epochs adds more"
        )
    twin = None
    if not arguments.no_fp32 and arguments.resume is None and main.label != "fp32":
        twin = Run(MODELS[model](arithmetic="fp32", device=main.net.device, seed=settings.seed))
        _use_plan(arguments, twin.net)
        if main.net.frozen:
            twin.net.freeze(*main.net.frozen)
    return Job(
        *(model, settings, main, twin, train, test),
        arguments.threads,
        _device_defects.warnings(model, main.net) if arguments.device else [],
        save=save,
        plot=plot,
        json=out,
    )


def _settings(arguments: argparse.Namespace, defaults: Settings) -> Settings:
    given = {name: getattr(arguments, name) for name in ("data", "epochs", "lr", "seed")}
    return replace(defaults, **{name: v for name, v in given.items() if v is not None})


def _device(arguments: argparse.Namespace) -> Device:
    """Return the device, with the cores that are asked for."""
    chosen = device.get(arguments.device or "pulp-open")
    return chosen if arguments.cores is None else replace(chosen, cores=arguments.cores)


def _network(arguments: argparse.Namespace) -> Network:
    chosen = arithmetics.get(arguments.arithmetic or "fp16-fp32acc")
    seed = _settings(arguments, _DEFAULTS[arguments.model]).seed
    return MODELS[arguments.model](arithmetic=chosen, device=_device(arguments), seed=seed)


def _resumed(arguments: argparse.Namespace) -> tuple[Run, Settings]:
    """Return the network of a checkpoint, and its settings with what the arguments add."""
    path = arguments.resume
    net = Network.load(path)
    notes = net.notes
    try:
        if notes["model"] != arguments.model or _unplanned(net) != _unplanned(
            MODELS[arguments.model]()
        ):
            raise ValueError(f"{path} is a checkpoint of {notes['model']}, not {arguments.model}")
        settings = Settings(**notes["settings"])
        run = Run(net, notes["images_done"], notes["train_loss"], notes["test_accuracy"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no checkpoint that pyodl train wrote") from error
    fixed = {
        "arithmetic": net.arithmetic.name,
        "cores": net.device.cores,
        "seed": settings.seed,
        "data": settings.data,
    }
    for name, value in fixed.items():
        if getattr(arguments, name) not in (None, value):
            raise ValueError(f"--{name} is {getattr(arguments, name)}, but {path} has {value}")
    if arguments.device and replace(_device(arguments), cores=net.device.cores) != net.device:
        raise ValueError(f"--device is {arguments.device}, but {path} has {net.device.name}")
    return run, _settings(arguments, settings)


def _use_plan(arguments: argparse.Namespace, net: Network) -> None:
    """Let a network use the kernels that ``pyodl tune`` chose, if there is a plan."""
    path = arguments.plan
    if path is None:
        return
    if arguments.resume is not None:
        raise ValueError(f"--plan {path}: a resumed network keeps the kernels that it began with")
    kernels, cores = read_kernels(path)
    if cores != net.device.cores:
        raise ValueError(
            f"--plan {path}: it is for {cores} cores, and the device has {net.device.cores}"
        )
    try:
        net.set_kernels(kernels)
    except ValueError as error:
        raise ValueError(f"--plan {path} is not for {arguments.model}: {error}") from error


def _unplanned(net: Network) -> list[Layer]:
    """Return the layers of a network, all with the kernel that none was chosen for."""
    return [replace(n, kernel="naive") if isinstance(n, Weighted) else n for n in net.layers]


def _data(spec: str, net: Network) -> tuple[Dataset, Dataset]:
    """Return the sets to train and to test on, which the network can take."""
    if spec == "digits" and net.input_shape[0] in (1, 3):
        train, test = datasets.digits(_image(net.input_shape)).split()
    else:
        train, test = datasets.load(spec)
    shape, classes = train.images.shape[1:], len(train.classes)
    if shape != net.input_shape or (classes,) != net.output_shape:
        raise ValueError(
            f"--data {spec} has images of shape {shape} in {classes} classes; the network takes "
            f"{net.input_shape} and has {net.output_shape[0]} classes"
        )
    return train, test


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    channels, height, width = shape
    return channels, height, width


def run(job: Job) -> int:
    """Train, and print and write the results; return the exit status.

    Raises
    ------
    OSError
        If a result cannot be written.
    """
    _print_head(job)
    with _interruptible() as interrupted, ThreadPoolExecutor(1) as beside:
        twin = beside.submit(_train, job, job.twin, interrupted) if job.twin else None
        try:
            _train(job, job.main, interrupted)
            if twin is not None:
                twin.result()
        except _StoppedError:
            _save(job)
            _print_stopped(job)
            return 1
        finally:
            interrupted.set()  # whatever went wrong here ends the twin too
    _print_results(job)
    if job.json is not None:
        with whole_file(job.json) as file:
            file.write(json.dumps(_results(job), indent=2, allow_nan=False).encode() + b"\n")
    if job.plot is not None:
        _curves.write(job.plot, job.model, job.settings, [r for r in (job.main, job.twin) if r])
    return 0


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C sets; a second Ctrl-C is not held back."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _train(job: Job, run: Run, interrupted: threading.Event) -> None:
    """Train one network; raise `_StoppedError` between two updates if there was an interruption."""
    alone = run is job.main
    line = ProgressLine(f"{run.label:<12}" if job.twin else run.label)
    total = len(job.train)

    def progress(state: Progress) -> None:
        run.images_done = state.epoch * total + state.image
        if alone:
            line.update(state)
        if interrupted.is_set() and run.images_done < job.settings.epochs * total:
            if alone:
                line.abandon()
            raise _StoppedError

    def end_epoch(net: Network, history: History) -> None:
        run.train_loss.append(history.train_loss[-1])
        run.test_accuracy.append(history.validation_accuracy[-1])
        if alone:
            line.end_epoch(net, history)
            _save(job)

    run.history = fit(
        run.net,
        job.train.images,
        job.train.labels,
        epochs=job.settings.epochs,
        lr=job.settings.rate,
        seed=job.settings.seed,
        validation=(job.test.images, job.test.labels),
        callbacks=[end_epoch],
        progress=progress,
        first_image=run.images_done,
        num_threads=job.threads,
    )


def _save(job: Job) -> None:
    """Write the checkpoint, if one is wanted."""
    if job.save is None:
        return
    main = job.main
    main.net.notes = {
        "model": job.model,
        "settings": asdict(job.settings),
        "images_done": main.images_done,
        "train_loss": [_number(value) for value in main.train_loss],
        "test_accuracy": main.test_accuracy,
    }
    main.net.save(job.save)


def _number(value: float) -> float | None:
    """Return a number that JSON has; a loss may be infinite or NaN."""
    return value if isfinite(value) else None


def _macs(net: Network) -> int:
    return sum(sum(steps.values()) for steps in net.macs().values())


def _results(job: Job) -> dict[str, Any]:
    main, twin = job.main, job.twin
    fp32 = main if main.label == "fp32" else twin
    return {
        "model": job.model,
        "arithmetic": main.label,
        "epochs": job.settings.epochs,
        "seed": job.settings.seed,
        "train_loss": [_number(value) for value in main.train_loss],
        "test_accuracy": main.test_accuracy[-1],
        "fp32_test_accuracy": fp32.test_accuracy[-1] if fp32 else None,
        "seconds_per_step": main.history.seconds_per_step,
        "data": job.settings.data,
        "lr": job.settings.lr,
        "cores": main.net.device.cores,
        "frozen": list(main.net.frozen),
        "macs_per_step": _macs(main.net),
        "test_accuracy_by_epoch": main.test_accuracy,
        "fp32_train_loss": [_number(value) for value in fp32.train_loss] if fp32 else None,
        "fp32_test_accuracy_by_epoch": fp32.test_accuracy if fp32 else None,
        "fp32_seconds_per_step": fp32.history.seconds_per_step if fp32 else None,
        "version": pyodl.__version__,
    }


def _print_head(job: Job) -> None:
    net = job.main.net
    count = sum(array.size for array in net.parameters().values())
    print(f"{job.model}: {count:,} parameters, {_macs(net):,} multiply-accumulates a training step")
    print(f"{job.settings.data}: {len(job.train):,} images to train on, {len(job.test):,} held out")
    print(f"{net.arithmetic.name} on {net.device.name}, {net.device.cores} cores", end="")
    print("; fp32 beside it" if job.twin else "", flush=True)
    for warning in job.warnings:
        print(f"pyodl: {warning}", file=sys.stderr)


def _print_results(job: Job) -> None:
    runs: list[Run] = [r for r in (job.main, job.twin) if r]
    for r in runs:
        milliseconds = 1e3 * r.history.seconds_per_step
        print(
            f"{r.label:<12}  held-out accuracy {r.test_accuracy[-1]:.4f}  "
            f"{milliseconds:.2f} ms a step"
        )
        if r.train_loss and not isfinite(r.train_loss[-1]):
            print(
                f"pyodl: the loss in {r.label} is not finite; a smaller --lr may help",
                file=sys.stderr,
            )
    if job.twin:
        difference = job.main.test_accuracy[-1] - job.twin.test_accuracy[-1]
        print(f"{'difference':<12}  {difference:+.4f}")
    if job.save:
        print(f"saved to {job.save}")


def _print_stopped(job: Job) -> None:
    epoch, image = divmod(job.main.images_done, len(job.train))
    if epoch == job.settings.epochs:
        text = f"interrupted while fp32 was training; {job.main.label} had ended"
    else:
        text = f"interrupted after {epoch} epochs and {image} images"
    if job.save and epoch < job.settings.epochs:
        text += f"; pyodl train {job.model} --resume {job.save} goes on"
    print(f"pyodl: {text}", file=sys.stderr)
