"""Training: one step, or epochs of them with shuffling, mini-batches and schedules.

Everything is deterministic: the same seed gives the same bits for any number of threads.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl._kernels import Step
from pyodl._progress import ProgressLine
from pyodl.formats import round_to
from pyodl.network import Network, host_threads
from pyodl.primitives import _check as check
from pyodl.primitives.elementwise import bind_add
from pyodl.primitives.loss import LOSSES

__all__ = ["History", "Progress", "evaluate", "fit", "train_step"]

Rate = float | Callable[[int], float]
Labelled = tuple[ndarray, ndarray]


def train_step(
    net: Network,
    x: ndarray,
    target: ndarray | int,
    *,
    loss: str = "cross_entropy",
    lr: float = 0.01,
    weight_decay: float = 0.0,
    num_threads: int | None = None,
) -> float:
    """Train on one input: forward, backward, and an update of every layer that is not frozen.

    Parameters
    ----------
    net : Network
    x : ndarray, shape ``net.input_shape``
        In the storage dtype.
    target : ndarray, shape ``net.output_shape``, or int
        One-hot or soft vector in the storage dtype, or the index of a class.
    loss : {"cross_entropy", "mse", "l1", "berhu"}
    lr, weight_decay : float
        Rounded to the storage format, as on the device.
    num_threads : int or None
        Threads of the host; no bit depends on them. None is one. With several, the first 138 steps
        try out how they share the work best, and one does it all where a team saves too little.

    Returns
    -------
    float
        The loss as stored.

    Raises
    ------
    TypeError
        If an argument is of another type or an array of another dtype.
    ValueError
        If a shape does not fit, a target is NaN, infinite or no class, a rate is negative, or
        there is no such loss. Nothing is changed then.
    """
    check.instance("net", net, Network, "a pyodl.Network")
    step = net.latest_step
    if step is not None:
        result = step.take(x, target, loss, lr, weight_decay, num_threads)
        if result is not None:
            return result
    return _settled(net, x, target, loss, lr, weight_decay, num_threads).run()


def _settled(
    net: Network,
    x: ndarray,
    target: ndarray | int,
    loss: str,
    lr: float,
    weight_decay: float,
    num_threads: int | None,
) -> Step:
    """Check everything that a step takes, and put it where the step reads it."""
    threads = host_threads(num_threads)
    arithmetic = net.arithmetic
    check.choice("loss", loss, LOSSES)
    check.tensor("x", x, arithmetic, shape=net.input_shape)
    if isinstance(target, ndarray):
        check.tensor("target", target, arithmetic, shape=net.output_shape)
        if not np.isfinite(target).all():
            raise ValueError("target has an infinity or NaN; it must be finite")
    else:
        target = _class("target", target, net)
    rate = _rate("lr", lr, net), _rate("weight_decay", weight_decay, net)
    compiled = net.compiled(loss)
    np.copyto(compiled.input, x)
    if isinstance(target, ndarray):
        np.copyto(compiled.target, target)
    else:
        compiled.target.fill(0)
        compiled.target[target] = 1
    compiled.set_rate(*rate)
    compiled.step.settle(threads, loss, lr, weight_decay, num_threads)
    return compiled.step


def _class(name: str, value: Any, net: Network) -> int:
    """Return a class index that the network's output has."""
    if len(net.output_shape) != 1:
        raise ValueError(f"{name} is a class, but the output has shape {net.output_shape}")
    index = check.integer(name, value, 0)
    if index >= net.output_shape[0]:
        raise ValueError(f"{name} is {index}; it must be below {net.output_shape[0]}, the classes")
    return index


def _rate(name: str, value: float, net: Network) -> float:
    """Return a learning rate or decay rounded to the storage format."""
    rate = check.scalar(name, value, net.arithmetic)
    if rate < 0:
        raise ValueError(f"{name} is {value}; it must be at least 0")
    return rate


@dataclass
class History:
    """What `fit` recorded.

    Parameters
    ----------
    train_loss : list of float
        Mean loss of each epoch.
    validation_accuracy : list of float
        After each epoch, if there are images to validate on.
    learning_rate : list of float
        Of each epoch, before it is rounded.
    seconds : list of float
        Of training in each epoch, validation and callbacks excluded.
    step_loss : list of float
        Loss of every image, in the order of training.
    """

    train_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)

    @property
    def seconds_per_step(self) -> float:
        """Mean time for one image; 0 before the first epoch has ended."""
        steps = len(self.step_loss)
        return sum(self.seconds) / steps if steps else 0.0


@dataclass(frozen=True)
class Progress:
    """Where a training run is, after an update.

    Parameters
    ----------
    epoch, epochs : int
        Epochs done, and in all.
    image, images : int
        Images done in this epoch, and in all of it.
    loss : float
        Mean loss of the epoch so far.
    seconds : float
        Since the epoch began, or was resumed.
    rate : float
        Images per second.
    """

    epoch: int
    epochs: int
    image: int
    images: int
    loss: float
    seconds: float
    rate: float


def fit(
    net: Network,
    images: ndarray,
    labels: ndarray,
    *,
    epochs: int,
    lr: Rate = 0.01,
    batch_size: int = 1,
    accumulate: str = "storage",
    loss: str = "cross_entropy",
    weight_decay: float = 0.0,
    seed: int | np.random.Generator = 0,
    validation: Labelled | None = None,
    callbacks: Iterable[Callable[[Network, History], object]] = (),
    progress: bool | Callable[[Progress], object] = False,
    first_image: int = 0,
    num_threads: int | None = None,
) -> History:
    """Train for whole epochs, each in a new random order.

    The gradients of a mini-batch are added image by image, and the update is made at the rates
    ``lr / n`` and ``weight_decay * n`` for its n images: the step of the mean gradient, without a
    division on the device.

    Parameters
    ----------
    net : Network
    images : ndarray, shape (N, *net.input_shape)
        Of any real dtype; rounded once to the storage format.
    labels : ndarray, shape (N,) or (N, *net.output_shape)
        Classes as integers, or target vectors of a real dtype.
    epochs : int
        In all, those before ``first_image`` included.
    lr : float or callable
        A callable gets the number of the epoch, from 0.
    batch_size : int
        Images for one update; the last batch of an epoch may be smaller.
    accumulate : {"storage", "fp32"}
        Whether each sum of a batch's gradients is rounded to the storage format, as a device
        that accumulates in place has it, or kept in binary32 and rounded before the update.
    loss, weight_decay, num_threads
        See `train_step`.
    seed : int or numpy.random.Generator
        For the orders.
    validation : (images, labels) or None
        To compute the accuracy on after each epoch.
    callbacks : iterable of callable
        Called with the network and the `History` after each epoch.
    progress : bool or callable
        Called with a `Progress` after each update; True shows it on stderr.
    first_image : int
        Images that an interrupted run had trained on, at the end of an update. A run of the same
        seed goes on with the bits that it would have had.

    Returns
    -------
    History

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If shapes do not fit, an image or label is not finite or no class, or an argument is out of
        its range.
    """
    check.instance("net", net, Network, "a pyodl.Network")
    threads = host_threads(num_threads)
    check.integer("epochs", epochs, 1)
    check.integer("batch_size", batch_size, 1)
    check.integer("first_image", first_image, 0)
    check.choice("accumulate", accumulate, ("storage", "fp32"))
    check.choice("loss", loss, LOSSES)
    _rate("weight_decay", weight_decay, net)
    inputs, targets = _images(net, "images", images), _targets(net, labels, len(images))
    if validation is not None:
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise TypeError(f"validation must be (images, labels) or None, not {validation!r}")
        validation = _images(net, "validation images", validation[0]), validation[1]
        _targets(net, validation[1], len(validation[0]))
    check.instance("callbacks", callbacks, Iterable, "a list of functions")
    callbacks = tuple(callbacks)
    for i, callback in enumerate(callbacks):
        check.instance(f"callbacks[{i}]", callback, Callable, "a function")
    report = progress if callable(progress) else None
    if report is None and check.flag("progress", progress):
        line = ProgressLine()
        report, callbacks = line.update, (line.end_epoch, *callbacks)
    trainer = _Trainer(net, loss, accumulate, threads)
    history = History()
    for epoch, order in _orders(len(inputs), epochs, seed, first_image):
        learning_rate = lr(epoch) if callable(lr) else lr
        _rate("lr", learning_rate, net)
        skipped = len(inputs) - len(order)
        losses: list[float] = []
        start = time.perf_counter()
        for batch in _batches(order, batch_size):
            losses += trainer.train(inputs, targets, batch, learning_rate, weight_decay)
            if report is not None:
                seconds = time.perf_counter() - start
                place = (epoch, epochs, skipped + len(losses), len(inputs))
                mean = sum(losses) / len(losses)
                report(Progress(*place, mean, seconds, len(losses) / max(seconds, 1e-9)))
        history.seconds.append(time.perf_counter() - start)
        history.step_loss += losses
        history.train_loss.append(sum(losses) / len(losses))
        history.learning_rate.append(float(learning_rate))
        if validation is not None:
            history.validation_accuracy.append(evaluate(net, *validation, num_threads=num_threads))
        for callback in callbacks:
            callback(net, history)
    return history


def evaluate(
    net: Network, images: ndarray, labels: ndarray, *, num_threads: int | None = None
) -> float:
    """Return the share of images that the network puts into the right class.

    Parameters
    ----------
    net : Network
    images, labels
        See `fit`; of target vectors the largest element is the class.
    num_threads : int or None
        See `train_step`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        See `fit`.
    """
    check.instance("net", net, Network, "a pyodl.Network")
    inputs, targets = _images(net, "images", images), _targets(net, labels, len(images))
    right = sum(
        net.predict(x, num_threads=num_threads) == int(np.argmax(target))
        for x, target in zip(inputs, targets, strict=True)
    )
    return right / len(inputs)


class _Trainer:
    """Trains on batches, whose gradients it adds up."""

    def __init__(self, net: Network, loss: str, accumulate: str, threads: int) -> None:
        self._net = net
        self._compiled = net.compiled(loss)
        self._threads = threads
        self._wide = accumulate == "fp32"
        self._gradients = self._compiled.gradients.flat
        self._total = np.zeros_like(self._gradients, np.float32 if self._wide else None)
        how = (net.arithmetic, net.device.cores)
        self._add = None
        if not self._wide:
            self._add = bind_add(self._total, self._gradients, self._total, *how)

    def train(
        self,
        images: ndarray,
        targets: ndarray,
        batch: Sequence[int],
        lr: float,
        weight_decay: float,
    ) -> list[float]:
        """Train on the images with the numbers ``batch``; return their losses."""
        compiled, losses = self._compiled, []
        for place, number in enumerate(batch):
            np.copyto(compiled.input, images[number])
            np.copyto(compiled.target, targets[number])
            compiled.forward.run(self._threads)
            compiled.backward.run(self._threads)
            losses.append(float(compiled.loss[0]))
            if len(batch) > 1:
                self._accumulate(first=place == 0)
        if len(batch) > 1:
            total = self._total
            rounded = round_to(total, self._net.arithmetic.storage) if self._wide else total
            np.copyto(self._gradients, rounded)
        count = len(batch)
        compiled.set_rate(
            _rate("lr", lr / count, self._net),
            _rate("weight_decay", weight_decay * count, self._net),
        )
        compiled.update.run(self._threads)
        return losses

    def _accumulate(self, *, first: bool) -> None:
        if first:
            np.copyto(self._total, self._gradients)
        elif self._add is None:
            np.add(self._total, self._gradients, out=self._total)
        else:
            self._add.run(self._threads)


def _orders(
    count: int, epochs: int, seed: int | np.random.Generator, first_image: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield each epoch's number and the order of its images, without the first ones."""
    generator = check.generator("seed", seed)
    for epoch in range(epochs):
        order = generator.permutation(count).tolist()
        skipped = min(max(first_image - epoch * count, 0), count)
        if skipped < count:
            yield epoch, order[skipped:]


def _batches(order: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _images(net: Network, name: str, images: Any) -> ndarray:
    """Return images in the network's storage format."""
    if not isinstance(images, ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, not {type(images).__name__}")
    if images.shape[1:] != net.input_shape or len(images) == 0:
        wanted = ("N", *net.input_shape)
        raise ValueError(f"{name} have shape {images.shape}; it must be {wanted}".replace("'", ""))
    return _stored(net, name, images)


def _stored(net: Network, name: str, values: ndarray) -> ndarray:
    storage = net.arithmetic.storage
    rounded = values if values.dtype == storage.dtype else round_to(values, storage)
    if not np.isfinite(rounded).all():
        raise ValueError(f"{name} have an infinity or NaN in {storage.name}; they must be finite")
    return np.ascontiguousarray(rounded)


def _targets(net: Network, labels: Any, count: int) -> ndarray:
    """Return a target vector for each image, in the network's storage format."""
    if not isinstance(labels, ndarray):
        raise TypeError(f"labels must be a numpy.ndarray, not {type(labels).__name__}")
    if len(labels) != count:
        raise ValueError(f"there are {len(labels)} labels for {count} images")
    if labels.dtype.kind not in "iu":
        if labels.shape[1:] != net.output_shape:
            raise ValueError(
                f"labels have dtype {labels.dtype} and shape {labels.shape}; they must be classes "
                f"as integers, or targets of shape {(count, *net.output_shape)}"
            )
        return _stored(net, "labels", labels)
    if labels.ndim != 1:
        raise ValueError(f"labels have shape {labels.shape}; classes have one dimension")
    _class("the largest label", int(labels.max()), net)
    _class("the smallest label", int(labels.min()), net)
    targets = np.zeros((count, *net.output_shape), net.arithmetic.storage.dtype)
    targets[np.arange(count), labels] = 1
    return targets
