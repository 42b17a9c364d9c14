"""How fast a training step is: on its own, operation by operation, and against PyTorch.

What is compared runs in turns in one process on as many threads, so that whatever else the machine
does meets both; a ratio is the median of the turns' ratios, not a ratio of two medians.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from pyodl import _kernels, datasets
from pyodl import arithmetic as arithmetics
from pyodl._bench_torch import TorchStep, load_torch, torch_threads
from pyodl._kernels import TRIAL_RUNS, Operation
from pyodl.formats import round_to
from pyodl.models import MODELS
from pyodl.network import Network
from pyodl.primitives._steps import step_of
from pyodl.training import train_step

__all__ = ["Comparison", "Row", "Spread", "Timing", "compare", "measure", "profile"]

_LOSS = "cross_entropy"
_RATE = 1e-3  # small, so that what is learnt on a few images changes no timing
_IMAGES = 8
_WARM_UP = 10
_PEAK_ROUNDS = 2**17  # some tenths of a millisecond

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """A median, what half of the measurements lie between, and the least.

    Parameters
    ----------
    median, lower, upper, least : float
    """

    median: float
    lower: float
    upper: float
    least: float

    @classmethod
    def of(cls, values: Seconds) -> "Spread":
        """Return the median and the quartiles of ``values``."""
        least, lower, median, upper = np.percentile(values, [0, 25, 50, 75])
        return cls(float(median), float(lower), float(upper), float(least))


@dataclass(frozen=True)
class Timing:
    """What `measure` found for one network in one arithmetic.

    Parameters
    ----------
    model, arithmetic : str
    threads, steps : int
    macs : int
        Multiply-accumulates of a step.
    seconds : Spread
        Of `pyodl.train_step`, everything included.
    python : float
        Share of it that is not spent in kernels, by the lower quartiles of both: the medians of a
        busy machine say nothing about so small a difference.
    peak : Spread
        Multiply-accumulates a second of the FMA loop beside it (`fma_peak`), on as many threads.
    share_of_peak : Spread
        Of the step.
    """

    model: str
    arithmetic: str
    threads: int
    steps: int
    macs: int
    seconds: Spread
    python: float
    peak: Spread
    share_of_peak: Spread

    @property
    def rate(self) -> float:
        """Multiply-accumulates a second."""
        return self.macs / self.seconds.median


@dataclass(frozen=True)
class Comparison:
    """What `compare` found for one network in one arithmetic.

    Parameters
    ----------
    model, arithmetic : str
    threads, pairs : int
    peer : {"torch", "torch channels_last"}
        In FP32.
    seconds, peer_seconds : Spread
    ratio : Spread
        Time of pyodl over time of the peer, pair by pair.
    """

    model: str
    arithmetic: str
    threads: int
    pairs: int
    peer: str
    seconds: Spread
    peer_seconds: Spread
    ratio: Spread


@dataclass
class Row:
    """One step of one layer in a profile.

    Parameters
    ----------
    layer, step : str
        The step is "forward", "weight_grad" (with the bias's), "input_grad" or "update". The loss
        and the update belong to no layer.
    macs : int
    seconds : float
        Median.
    parts : dict
        The same by kind of operation, such as {"stage": seconds}.
    """

    layer: str
    step: str
    macs: int = 0
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


def measure(model: str, arithmetic: str, *, threads: int = 1, steps: int = 40) -> Timing:
    """Time the training step of a network, its kernels alone, and the processor's peak, in turns.

    Parameters
    ----------
    model : str
        A name in `pyodl.models.MODELS`.
    arithmetic : str
    threads, steps : int

    Returns
    -------
    Timing

    Raises
    ------
    ValueError
        If there is no such model or arithmetic.
    """
    net = _network(model, arithmetic)
    step = _step(net, model, threads)
    kernels = net.compiled(_LOSS).whole
    peak, peak_macs = fma_peak(threads, arithmetic=arithmetic)
    turns = [step, lambda: kernels.run(threads), lambda: peak.run(threads)]
    seconds = in_turns(turns, steps, _warm_up(threads))
    macs = sum(sum(layer.values()) for layer in net.macs().values())
    return Timing(
        *(model, arithmetic, threads, steps, macs),
        seconds=Spread.of(seconds[:, 0]),
        python=1 - Spread.of(seconds[:, 1]).lower / Spread.of(seconds[:, 0]).lower,
        peak=Spread.of(peak_macs / seconds[:, 2]),
        share_of_peak=Spread.of(macs / seconds[:, 0] / (peak_macs / seconds[:, 2])),
    )


def compare(
    model: str,
    arithmetic: str,
    *,
    threads: int = 1,
    steps: int = 40,
    channels_last: bool = False,
) -> Comparison:
    """Time training steps of pyodl and of PyTorch in FP32 in turns.

    Both train the same network, with biases, from the same weights on the same images with
    cross-entropy and SGD. PyTorch runs eagerly and gets its images and targets as tensors.

    Parameters
    ----------
    model, arithmetic, threads
        See `measure`.
    steps : int
        Pairs of steps.
    channels_last : bool
        Whether PyTorch stores images and weights with their channels last.

    Returns
    -------
    Comparison

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    ValueError
        See `measure`.
    """
    torch = load_torch()
    net = _network(model, arithmetic)
    peer = TorchStep(torch, _network(model, "fp32"), channels_last=channels_last)
    images, labels = _examples(model)
    turns = cycle(
        (peer.image(x), peer.target(int(label))) for x, label in zip(images, labels, strict=True)
    )
    with torch_threads(torch, threads):
        pair = [_step(net, model, threads), lambda: peer(*next(turns), _RATE)]
        seconds = in_turns(pair, steps, _warm_up(threads))
    return Comparison(
        *(model, arithmetic, threads, steps),
        peer="torch channels_last" if channels_last else "torch",
        seconds=Spread.of(seconds[:, 0]),
        peer_seconds=Spread.of(seconds[:, 1]),
        ratio=Spread.of(seconds[:, 0] / seconds[:, 1]),
    )


def profile(model: str, arithmetic: str, *, threads: int = 1, steps: int = 40) -> list[Row]:
    """Time every operation of a training step, and add them up by layer and step.

    On several threads these meet before each operation, which they do not in a step.

    Parameters
    ----------
    model, arithmetic, threads, steps
        See `measure`.

    Returns
    -------
    list of Row
        In the order in which they run.

    Raises
    ------
    ValueError
        See `measure`.
    """
    net = _network(model, arithmetic)
    step = _step(net, model, threads)
    step()
    compiled = net.compiled(_LOSS)
    whole, forward, backward = compiled.whole, len(compiled.forward), len(compiled.backward)
    for _ in range(_warm_up(threads)):
        whole.run(threads)
    with _without_collection():
        runs = [[seconds for _, seconds in whole.timed(threads)] for _ in range(steps)]
    names = [operation.name for operation in whole.operations]
    kinds = ["forward"] * forward + _backward_steps(names[forward : forward + backward])
    kinds += ["update"] * len(compiled.update)
    rows: dict[tuple[str, str], Row] = {}
    for name, kind, spent in zip(names, kinds, np.median(runs, axis=0), strict=True):
        layer, _, part = name.rpartition(": ")
        row = rows.setdefault((layer, kind), Row(layer, kind))
        row.seconds += float(spent)
        row.parts[part] = row.parts.get(part, 0.0) + float(spent)
    for layer, macs in net.macs().items():
        for kind, count in macs.items():
            if count and (layer, kind) in rows:
                rows[layer, kind].macs = count
    return list(rows.values())


def _backward_steps(names: Sequence[str]) -> list[str]:
    """Return which gradient each operation serves: one that prepares, what comes after it."""
    steps: list[str] = []
    following = "input_grad"
    for name in reversed(names):
        if "weight gradient" in name or "bias" in name:
            following = "weight_grad"
        elif not any(part in name for part in ("stage", "nonfinite", "survey")):
            following = "input_grad" if ": " in name else "forward"  # the loss has no layer
        steps.append(following)
    return steps[::-1]


def _warm_up(threads: int) -> int:
    """Return how many steps come before those that count: on several threads, until they settle."""
    return _WARM_UP if threads == 1 else TRIAL_RUNS + _WARM_UP


def in_turns(runs: Sequence[Callable[[], object]], rounds: int, warm_up: int = _WARM_UP) -> Seconds:
    """Call functions in turns and return the seconds of each call.

    Parameters
    ----------
    runs : sequence of callable
    rounds : int
    warm_up : int
        Rounds before, which are not timed.

    Returns
    -------
    ndarray, shape (rounds, len(runs))
    """
    seconds = np.empty((rounds, len(runs)))
    for _ in range(warm_up):
        for run in runs:
            run()
    with _without_collection():
        for i in range(rounds):
            for j, run in enumerate(runs):
                start = time.perf_counter()
                run()
                seconds[i, j] = time.perf_counter() - start
    return seconds


def fma_peak(
    threads: int = 1, rounds: int = _PEAK_ROUNDS, arithmetic: str = "fp32"
) -> tuple[Operation, int]:
    """Return the loop of multiply-adds on registers that a rate is measured against.

    Parameters
    ----------
    threads : int
        Each does all of the work.
    rounds : int
    arithmetic : str
        They are binary32's, but for arithmetics whose steps the processor does in binary16.

    Returns
    -------
    operation : Operation
    macs : int
        Of all threads together.
    """
    factor, totals = np.full(1, 0.5, np.float32), np.zeros(threads, np.float32)
    chosen = arithmetics.get(arithmetic)
    operation = _kernels.bind(
        *("fma_peak", [factor], [totals], [rounds]), arithmetic=chosen.code, cores=threads
    )
    operation.macs = _kernels.PEAK_MACS[step_of(chosen)] * rounds * threads
    return operation, operation.macs


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep the garbage collector out of what is timed."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _network(model: str, arithmetic: str) -> Network:
    if model not in MODELS:
        raise ValueError(f"model is {model!r}; it may be one of {', '.join(MODELS)}")
    return MODELS[model](arithmetic=arithmetic)


def _examples(model: str) -> tuple[ndarray, ndarray]:
    """Return some images and labels: real ones, since a kernel may look at its data."""
    shape = _network(model, "fp32").input_shape
    if model == "ds_cnn":
        data = datasets.keywords()
    else:
        data = datasets.digits((shape[0], shape[1], shape[2]))
    chosen = np.linspace(0, len(data.labels) - 1, _IMAGES).astype(int)
    return data.images[chosen].astype(np.float32), data.labels[chosen]


def _step(net: Network, model: str, threads: int) -> Callable[[], float]:
    """Return a function that trains ``net`` on the next image."""
    images, labels = _examples(model)
    stored = round_to(images, net.arithmetic.storage)
    turns = cycle(zip(stored, (int(label) for label in labels), strict=True))

    def step() -> float:
        image, label = next(turns)
        return train_step(net, image, label, loss=_LOSS, lr=_RATE, num_threads=threads)

    step()  # compiles the network's programs
    return step
