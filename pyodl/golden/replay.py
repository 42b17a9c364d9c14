"""Training sessions on record, and whether they come out the same again, bit for bit.

A session is a network as it was, the input, target and rates of every step, and what came of it:
the loss of every step, and parameters after some of them. pyodl records its own (`Recorder`); those
of a device are put together from what it logged (`Session`).

The file is a NumPy ``.npz`` without pickles, made by `Session.save`: a member of JSON, and the bits
of every array.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl import _checkpoint
from pyodl.formats import from_bits, to_bits
from pyodl.network import Network
from pyodl.primitives import _check as check
from pyodl.primitives.loss import LOSSES
from pyodl.training import train_step

__all__ = ["Recorder", "Replay", "Session", "replay"]

Path_ = str | os.PathLike[str]
_ROWS = ("inputs", "targets", "losses")


@dataclass(frozen=True, eq=False)
class Session:
    """A recorded training session of S steps.

    Parameters
    ----------
    network : bytes
        The file that `Network.save` writes, of the network before the first step.
    loss : {"cross_entropy", "mse", "l1", "berhu"}
    inputs : ndarray, shape (S, *net.input_shape)
        In the storage format.
    targets : ndarray, shape (S, *net.output_shape)
        One-hot or soft, in the storage format.
    rates : ndarray of float64, shape (S, 2)
        Learning rate and weight decay of every step.
    losses : ndarray, shape (S,)
        What every step gave, in the storage format.
    checkpoints : mapping of int to (mapping of str to ndarray)
        Parameters by name after so many steps, some of them or all.
    """

    network: bytes
    loss: str
    inputs: ndarray
    targets: ndarray
    rates: ndarray
    losses: ndarray
    checkpoints: Mapping[int, Mapping[str, ndarray]] = field(default_factory=dict)

    def save(self, path: Path_) -> None:
        """Write the session, whole or not at all.

        Raises
        ------
        OSError
            If the file cannot be written; one that was there is as it was.
        """
        arrays = {name: getattr(self, name) for name in _ROWS}
        arrays["rates"] = np.asarray(self.rates, np.float64)
        arrays["network"] = np.frombuffer(self.network, np.uint8)
        for step, parameters in self.checkpoints.items():
            for name, array in parameters.items():
                arrays[f"checkpoint/{step}/{name}"] = np.asarray(array)
        _checkpoint.write(path, {"kind": "session", "loss": self.loss}, arrays)

    @classmethod
    def load(cls, path: Path_) -> "Session":
        """Return the session that `save` wrote.

        Raises
        ------
        OSError
            If the file cannot be read; FileNotFoundError if there is none.
        ValueError
            If it is no session or is damaged; the message names it.
        """
        header, bits = _checkpoint.read(path, "session")
        try:
            return cls._of(header, bits)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)} is not a pyodl session: {error}") from error

    @classmethod
    def _of(cls, header: Mapping[str, Any], bits: dict[str, ndarray]) -> "Session":
        """Check what a file holds and return it as a session."""
        if header.get("kind") != "session":
            raise ValueError(f"its kind is {header.get('kind')!r}")
        network = bits["network"].tobytes()
        net = opened(network)
        storage = net.arithmetic.storage
        steps = len(bits["losses"])
        shapes = {
            "inputs": (steps, *net.input_shape),
            "targets": (steps, *net.output_shape),
            "losses": (steps,),
        }
        rows = _checkpoint.as_values({name: bits[name] for name in _ROWS}, shapes, storage)
        rates = bits["rates"].view(np.float64)
        if rates.shape != (steps, 2):
            raise ValueError(f"its rates have shape {rates.shape}, not {(steps, 2)}")
        checkpoints: dict[int, dict[str, ndarray]] = {}
        own = net.parameters()
        for name, array in bits.items():
            if not name.startswith("checkpoint/"):
                continue
            _, step, parameter = name.split("/", 2)
            if not 1 <= int(step) <= steps:
                raise ValueError(f"it has a checkpoint after step {step} of {steps}")
            shape = {parameter: own[parameter].shape}
            found = _checkpoint.as_values({parameter: array}, shape, storage)
            checkpoints.setdefault(int(step), {}).update(found)
        loss = check.choice("loss", header["loss"], LOSSES)
        return cls(network, loss, **rows, rates=rates, checkpoints=checkpoints)


def opened(network: bytes) -> Network:
    """Return the network of a file's content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        path.write_bytes(network)
        return Network.load(path)


def _content(net: Network) -> bytes:
    """Return what `Network.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        net.save(path)
        return path.read_bytes()


class Recorder:
    """Trains a network step by step and keeps a record.

    Parameters
    ----------
    net : Network
        Trained on from here; its parameters now are where the record begins.
    loss : {"cross_entropy", "mse", "l1", "berhu"}
    every : int
        Steps from one checkpoint of all parameters to the next; the last step has one in any case.

    Raises
    ------
    TypeError, ValueError
        If there is no such loss, or ``every`` is no positive integer.

    Examples
    --------
    >>> recorder = Recorder(models.tiny_cnn())
    >>> for x, label in zip(images, labels):
    ...     recorder.step(x, label, lr=0.02)
    >>> recorder.session().save("session.npz")
    """

    def __init__(self, net: Network, *, loss: str = "cross_entropy", every: int = 100) -> None:
        self._net = net
        self._loss = check.choice("loss", loss, LOSSES)
        self._every = check.integer("every", every, 1)
        self._network = _content(net)
        self._steps: list[tuple[ndarray, ndarray, tuple[float, float], float]] = []
        self._checkpoints: dict[int, dict[str, ndarray]] = {}

    def step(
        self, x: ndarray, target: ndarray | int, *, lr: float = 0.01, weight_decay: float = 0.0
    ) -> float:
        """Train on one input as `pyodl.train_step` does, and return the loss.

        Raises
        ------
        TypeError, ValueError
            As `pyodl.train_step`; nothing is recorded then.
        """
        loss = train_step(self._net, x, target, loss=self._loss, lr=lr, weight_decay=weight_decay)
        given = self._net.compiled(self._loss).target.copy()
        self._steps.append((x.copy(), given, (lr, weight_decay), loss))
        if len(self._steps) % self._every == 0:
            self._checkpoint()
        return loss

    def _checkpoint(self) -> None:
        own = self._net.parameters()
        self._checkpoints[len(self._steps)] = {name: array.copy() for name, array in own.items()}

    def session(self) -> Session:
        """Return the record so far.

        Raises
        ------
        ValueError
            If no step was taken.
        """
        if not self._steps:
            raise ValueError("no step was recorded")
        self._checkpoint()
        inputs, targets, rates, losses = zip(*self._steps, strict=True)
        storage = self._net.arithmetic.storage.dtype
        return Session(
            self._network,
            self._loss,
            np.stack(inputs),
            np.stack(targets),
            np.array(rates, np.float64),
            np.array(losses, np.float64).astype(storage),
            dict(self._checkpoints),
        )


@dataclass(frozen=True)
class Replay:
    """What came of replaying a session.

    Parameters
    ----------
    steps : int
        Steps replayed.
    checkpoints : int
        Checkpoints compared.
    difference : str or None
        The first difference in words; None if every bit was the same.
    """

    steps: int
    checkpoints: int
    difference: str | None

    @property
    def identical(self) -> bool:
        """Whether every recorded bit came out again."""
        return self.difference is None


def replay(
    session: Session,
    *,
    num_threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Replay:
    """Run a session again and compare its losses and checkpoints, up to the first difference.

    Parameters
    ----------
    session : Session
    num_threads : int or None
        Threads of the host; no bit depends on them.
    progress : callable or None
        Called with the steps done and all steps.

    Returns
    -------
    Replay

    Raises
    ------
    TypeError, ValueError
        If an input or a rate is none that `pyodl.train_step` takes.
    """
    net = opened(session.network)
    count, compared = len(session.losses), 0
    recorded = to_bits(session.losses)
    for step in range(count):
        lr, weight_decay = (float(rate) for rate in session.rates[step])
        how: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "num_threads": num_threads}
        x, target = session.inputs[step], session.targets[step]
        train_step(net, x, target, loss=session.loss, **how)
        loss = to_bits(net.compiled(session.loss).loss)[0]
        if loss != recorded[step]:
            said = f"the loss of step {step} is {_shown(net, loss)}; recorded is "
            return Replay(step + 1, compared, said + _shown(net, recorded[step]))
        expected = session.checkpoints.get(step + 1, {})
        compared += bool(expected)
        for name, array in expected.items():
            different = _first_difference(net, name, array)
            if different:
                return Replay(step + 1, compared, f"after step {step}, {different}")
        if progress is not None:
            progress(step + 1, count)
    return Replay(count, compared, None)


def _first_difference(net: Network, name: str, recorded: ndarray) -> str | None:
    """Say in words where a parameter differs from a recorded one."""
    got, want = to_bits(net.parameters()[name]), to_bits(recorded)
    differs = np.flatnonzero(got.reshape(-1) != want.reshape(-1))
    if not differs.size:
        return None
    place = tuple(int(i) for i in np.unravel_index(differs[0], got.shape))
    element = f"{name}[{', '.join(map(str, place))}]"
    return (
        f"{element} is {_shown(net, got[place])}; recorded is {_shown(net, want[place])} "
        f"({differs.size} of {got.size} elements differ)"
    )


def _shown(net: Network, bits: int) -> str:
    """Return bits in hexadecimal and as a number."""
    storage = net.arithmetic.storage
    return f"0x{int(bits):0{storage.bits // 4}x} ({float(from_bits(bits, storage)):.8g})"
