"""A device's dump beside the vectors: what differs, where first, and where a difference began.

Tensors are compared in the order in which they are computed. What an operation computed wrongly,
and what only follows from that, is told apart by replaying: each operation runs on the host with
the tensors that the device itself had. Where the dump lacks one, the host's takes its place,
computed from the device's tensors before it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy import ndarray

import pyodl
from pyodl.formats import from_bits, to_bits, ulp_distance
from pyodl.golden.cases import Case, Operation
from pyodl.golden.export import Tensor, Vectors
from pyodl.golden.steps import StepCase

__all__ = [
    "Comparison",
    "DeviceTensors",
    "Difference",
    "TensorComparison",
    "compare",
    "operations_of",
]

Origin = Literal["given", "here", "unknown", "before"]
_AXES = {
    "c": "channel",
    "co": "output channel",
    "ci": "input channel",
    "h": "row",
    "w": "column",
    "kh": "kernel row",
    "kw": "kernel column",
    "in": "input",
    "out": "output",
    "i": "element",
}


@dataclass(frozen=True)
class Difference:
    """An element whose bits differ.

    Parameters
    ----------
    index : int
        In C order.
    place : tuple of int
        The same along each axis.
    axes : tuple of str
        Their names, outermost first.
    expected, got : int
        Bits.
    ulp : int or None
        Steps between the two numbers; None if one is NaN.
    """

    index: int
    place: tuple[int, ...]
    axes: tuple[str, ...]
    expected: int
    got: int
    ulp: int | None

    @property
    def where(self) -> str:
        """The place in words: "output channel 3, row 4, column 5"."""
        named = zip(self.axes, self.place, strict=True)
        return ", ".join(f"{_AXES.get(axis, axis)} {at}" for axis, at in named)


@dataclass(frozen=True, eq=False)
class TensorComparison:
    """A tensor of a dump beside the one of the vectors.

    Parameters
    ----------
    tensor : Tensor
        What is expected.
    got : ndarray of uint16 or uint32
        Bits, in the tensor's shape.
    operation : Operation or None
        What computes it; None for an input.
    origin : {"given", "here", "unknown", "before"}
        Where its difference began: the device was given other bits; this operation computed others
        from the device's own tensors; the same, or something that the dump lacks is wrong already;
        or it computed what follows from differences before it.
    """

    tensor: Tensor
    got: ndarray
    operation: Operation | None
    origin: Origin

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.tensor.name

    @cached_property
    def differs(self) -> ndarray:
        """Which elements have other bits, in the tensor's shape."""
        return np.asarray(self.got != self.tensor.bits)

    @cached_property
    def differing(self) -> int:
        """Number of elements that have other bits."""
        return int(np.count_nonzero(self.differs))

    @cached_property
    def differing_bits(self) -> int:
        """Number of bits that differ."""
        flipped = np.ascontiguousarray(self.got ^ self.tensor.bits)
        return int(np.unpackbits(flipped.reshape(-1).view(np.uint8)).sum(dtype=np.int64))

    @cached_property
    def distances(self) -> ndarray:
        """ULP distances of the differing elements, in C order; -1 if one of the two is NaN."""
        format = self.tensor.format
        pairs = (from_bits(bits[self.differs], format) for bits in (self.got, self.tensor.bits))
        distance = np.asarray(ulp_distance(*pairs))
        return np.where(distance == 1 << format.bits, -1, distance)

    @cached_property
    def histogram(self) -> dict[str, int]:
        """Number of differing elements by ULP: "0", "1", "2", "3-4", "5-8" and so on; "NaN".

        At 0 ULP are zeros of another sign and NaNs with other bits.
        """
        bins = np.where(self.distances > 1, np.ceil(np.log2(np.maximum(self.distances, 1))), 0)
        bins = np.where(self.distances > 0, bins + 1, np.where(self.distances < 0, 99, 0))
        values, counts = np.unique(bins.astype(np.int64), return_counts=True)
        return {_bin(int(v)): int(n) for v, n in zip(values, counts, strict=True)}

    @cached_property
    def first(self) -> Difference | None:
        """The first element that differs, in C order."""
        if not self.differing:
            return None
        index = int(np.argmax(self.differs))
        place = tuple(int(i) for i in np.unravel_index(index, self.tensor.shape))
        bits = int(self.tensor.bits[place]), int(self.got[place])
        distance = int(self.distances[0])
        ulp = distance if distance >= 0 else None
        return Difference(index, place, self.tensor.layout, *bits, ulp)

    def value(self, bits: int) -> str:
        """Return the number that has these bits, with digits that tell it from its neighbours."""
        with np.errstate(invalid="ignore"):  # a signalling NaN
            return f"{float(from_bits(bits, self.tensor.format)):.8g}"

    @property
    def most(self) -> str:
        """The greatest distance in ULP, "NaN" if there is one that is none; "" if all is equal."""
        if not self.differing:
            return ""
        return "NaN" if (self.distances < 0).any() else str(self.distances.max())

    def describe(self) -> list[str]:
        """Return lines of text on the first difference; the first names the tensor."""
        details = [] if self.tensor.step is None else [f"training step {self.tensor.step}"]
        if self.operation is not None:
            details += [f"layer {self.operation.layer}"] if self.operation.layer else []
            details.append(self.operation.case.primitive)
        lines = [f"{self.name} ({', '.join(details)})" if details else self.name]
        if self.first is None:
            return lines
        digits = 2 * self.got.dtype.itemsize
        expected, got = (
            f"0x{bits:0{digits}x} ({self.value(bits)})"
            for bits in (self.first.expected, self.first.got)
        )
        distance = "one is NaN" if self.first.ulp is None else f"{self.first.ulp} ULP"
        counts = ", ".join(f"{label}: {count}" for label, count in self.histogram.items())
        return [
            *lines,
            f"at {self.first.where} (element {self.first.index})",
            f"expected {expected}, got {got}, {distance}",
            f"elements by ULP: {counts}",
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a dictionary of what JSON has."""
        elements, operation, first = self.got.size, self.operation, self.first
        bits = elements * self.tensor.format.bits
        found: dict[str, Any] = {
            "name": self.name,
            "step": self.tensor.step,
            "layer": operation.layer if operation else None,
            "primitive": operation.case.primitive if operation else None,
            "identical": not self.differing,
            "elements": elements,
            "differing_elements": self.differing,
            "differing_elements_share": self.differing / elements,
            "bits": bits,
            "differing_bits": self.differing_bits,
            "differing_bits_share": self.differing_bits / bits,
            "ulp_histogram": self.histogram,
            "origin": self.origin if self.differing else None,
            "first": None,
        }
        if first is not None:
            digits = 2 * self.got.dtype.itemsize
            found["first"] = {
                "index": first.index,
                "place": dict(zip(first.axes, first.place, strict=True)),
                "where": first.where,
                "expected": f"0x{first.expected:0{digits}x}",
                "got": f"0x{first.got:0{digits}x}",
                "ulp": first.ulp,
            }
        return found


def _bin(number: int) -> str:
    """Return the label of a bin of the histogram."""
    if number == 99:
        return "NaN"
    high = 1 << max(number - 1, 0)
    return str(number) if number < 3 else f"{high // 2 + 1}-{high}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """A dump beside vectors.

    Parameters
    ----------
    vectors : Vectors
    tensors : tuple of TensorComparison
        Those that the dump holds, in the order of computation.
    device : DeviceTensors
        The tensors that the device had, as far as they are known.
    missing : tuple of str
        Computed tensors that the dump does not hold.
    unseen : tuple of str
        Those of them that the fault may have begun in: they lie between it and the tensors that
        the dump holds or that were given.
    """

    vectors: Vectors
    tensors: tuple[TensorComparison, ...]
    device: "DeviceTensors"
    missing: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether every tensor of the dump has the bits of the vectors."""
        return not self.differing

    @cached_property
    def differing(self) -> tuple[TensorComparison, ...]:
        """The tensors that differ, in the order of computation."""
        return tuple(tensor for tensor in self.tensors if tensor.differing)

    @property
    def first(self) -> TensorComparison | None:
        """The first tensor that differs."""
        return self.differing[0] if self.differing else None

    @property
    def fault(self) -> TensorComparison | None:
        """The first tensor that is not what follows from the device's own tensors."""
        return next((t for t in self.differing if t.origin in ("here", "unknown")), None)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a dictionary of what JSON has."""
        return {
            "format": "pyodl-comparison",
            "version": 1,
            "pyodl": pyodl.__version__,
            "case": self.vectors.case.to_json(),
            "identical": self.identical,
            "first": self.first.name if self.first else None,
            "fault": self.fault.name if self.fault else None,
            "missing": list(self.missing),
            "unseen": list(self.unseen),
            "tensors": [tensor.to_json() for tensor in self.tensors],
        }


def operations_of(case: Case | StepCase) -> tuple[Operation, ...]:
    """Return the calls of a case, in order; of a `Case` the one that it is."""
    if isinstance(case, StepCase):
        return case.operations
    names = {name: name for name in case.shapes}
    return (Operation(case, names, {name: name for name in case.outputs}, ""),)


def compare(dump: Mapping[str, ndarray], vectors: Vectors) -> Comparison:
    """Compare what a device dumped with what it should have computed.

    Parameters
    ----------
    dump : mapping of str to ndarray of uint16 or uint32
        Bits by the vectors' names, as `pyodl.golden.dumps.read_dump` returns them; it need not hold
        every tensor.
    vectors : Vectors

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If the dump holds no tensor, one that the vectors do not have, or one of another shape or
        dtype.
    """
    _check(dump, vectors)
    operations = operations_of(vectors.case)
    computes = {name: op for op in operations for name in op.outputs.values()}
    device = DeviceTensors(vectors, dump)
    origins: dict[str, Origin] = dict.fromkeys(dump, "given")
    for operation in operations:
        origins |= device.advance(operation)
    tensors = tuple(
        TensorComparison(tensor, dump[name], computes.get(name), origins[name])
        for name, tensor in vectors.tensors.items()
        if name in dump
    )
    missing = tuple(name for name in computes if name not in dump)
    found = Comparison(vectors, tensors, device, missing, ())
    if found.fault is None:
        return found
    return replace(found, unseen=_unseen(found.fault.name, computes, missing))


def _check(dump: Mapping[str, ndarray], vectors: Vectors) -> None:
    """Check that a dump holds tensors of the vectors."""
    if not dump:
        raise ValueError("the dump holds no tensors")
    for name, bits in dump.items():
        if name not in vectors.tensors:
            raise ValueError(f"the dump holds {name!r}, which the vectors do not have")
        expected = vectors.tensors[name].bits
        if bits.shape != expected.shape or bits.dtype != expected.dtype:
            raise ValueError(
                f"{name} has shape {bits.shape} and dtype {bits.dtype}; it must have "
                f"{expected.shape} and {expected.dtype}"
            )


class DeviceTensors(Mapping[str, ndarray]):
    """The values that the device had: the dump's, else the host's from those, else the vectors'.

    Parameters
    ----------
    vectors : Vectors
    dump : mapping of str to ndarray of uint16 or uint32
        Bits by the vectors' names.
    """

    def __init__(self, vectors: Vectors, dump: Mapping[str, ndarray]) -> None:
        self._vectors, self._dump = vectors, dump
        self._replayed: dict[str, ndarray] = {}

    def __getitem__(self, name: str) -> ndarray:
        """Return a tensor's values, in the storage format."""
        tensor = self._vectors.tensors[name]
        own = self._dump.get(name, self._replayed.get(name, tensor.bits))
        return np.asarray(from_bits(own, tensor.format))

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self._vectors.tensors)

    def __len__(self) -> int:
        """Return how many tensors there are."""
        return len(self._vectors.tensors)

    def source(self, name: str) -> str:
        """Return where a tensor is from: "dump", "given", "host" (replayed) or "vectors"."""
        if name in self._dump:
            return "dump"
        if self._vectors.tensors[name].role == "input":
            return "given"
        return "host" if name in self._replayed else "vectors"

    def _changed(self, name: str) -> bool:
        """Return whether the device had another tensor than that of the vectors."""
        own = self._dump.get(name, self._replayed.get(name))
        return own is not None and not np.array_equal(own, self._vectors.tensors[name].bits)

    def advance(self, operation: Operation) -> dict[str, Origin]:
        """Replay an operation; return where the differences in what it computed began."""
        inputs = operation.inputs.values()
        seen = all(self.source(name) in ("dump", "given") for name in inputs)
        wrong: Origin = "here" if seen else "unknown"
        if not any(self._changed(name) for name in inputs):  # the vectors have what it computes
            return {name: wrong for name in operation.outputs.values() if name in self._dump}
        origins: dict[str, Origin] = {}
        for name, values in operation.run(self).items():
            bits = np.asarray(to_bits(values))
            if name not in self._dump:
                self._replayed[name] = bits
            else:
                follows = np.array_equal(bits, self._dump[name])
                origins[name] = "before" if follows else wrong
        return origins


def _unseen(
    name: str, computes: Mapping[str, Operation], missing: Collection[str]
) -> tuple[str, ...]:
    """Return the missing tensors that a tensor is computed from, without one known between."""
    found: set[str] = set()
    todo = [name]
    while todo:
        for source in computes[todo.pop()].inputs.values():
            if source in missing and source not in found:
                found.add(source)
                todo.append(source)
    return tuple(other for other in computes if other in found)
