"""Networks: layers in a graph, their parameters in one storage format, compiled into programs."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, replace
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl import _checkpoint
from pyodl import arithmetic as arithmetics
from pyodl import device as devices
from pyodl._compiled import Compiled
from pyodl._graph import INPUT, needed_gradients, resolve
from pyodl._kernels import Step
from pyodl._lines import zeros
from pyodl._packed import Packed
from pyodl.arithmetic import Arithmetic
from pyodl.device import Device
from pyodl.formats import round_to
from pyodl.layers import Layer, from_json, to_json
from pyodl.layers._weights import STEPS, Weighted, with_kernels
from pyodl.primitives import _check as check
from pyodl.primitives._tiling import Tile, TileLike, checked

__all__ = ["Network", "Seed", "host_threads"]


Seed = int | np.random.Generator | None


def host_threads(num_threads: int | None) -> int:
    """Return the threads to run a step with.

    None is one: a second thread makes little difference to networks that fit a microcontroller, and
    takes a processor.

    Raises
    ------
    TypeError, ValueError
        If it is no positive integer.
    """
    return 1 if num_threads is None else check.integer("num_threads", num_threads, 1)


class Network:
    """Layers in a graph, with parameters in the storage format of one arithmetic.

    A layer takes the output of the layer before it unless its ``inputs`` name others, so branches
    and joins are explicit; the last layer's output is the network's. One image is processed at a
    time. Everything that a step needs is allocated once; the arrays that `parameters`,
    `activations` and `gradients` return are the network's own and change with every step.

    A tensor that several layers take gets the sum of their gradients, each addition stored,
    beginning with the last of these layers (docs/numerics.md, section 5).

    Parameters
    ----------
    layers : iterable of pyodl.layers.Layer
    input_shape : (C, H, W)
        Or the shape of any tensor that the first layers take.
    arithmetic : str
    device : str, path or Device
        See `pyodl.device.get`. Its cores may decide bits, see `pyodl.primitives.matmul`.
    seed : int, numpy.random.Generator or None
        For the initial parameters, drawn in float64 and rounded once to the storage format, so
        that networks of several arithmetics begin with the same numbers.
    tiles : mapping or None
        See `tiles`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these, or layers do not fit together.

    Examples
    --------
    >>> from pyodl.layers import Conv2D, Flatten, Linear, ReLU
    >>> net = Network([Conv2D(4, 3), ReLU(), Flatten(), Linear(10)], (1, 8, 8))
    >>> net.output_shape
    (10,)
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        input_shape: tuple[int, ...],
        *,
        arithmetic: str | Arithmetic = "fp16-fp32acc",
        device: str | os.PathLike[str] | Device = "pulp-open",
        seed: Seed = 0,
        tiles: Mapping[tuple[str, str], TileLike] | None = None,
    ) -> None:
        self._arithmetic = arithmetics.get(arithmetic)
        self._device = devices.get(device)
        if not isinstance(input_shape, tuple | list) or not input_shape:
            raise TypeError(f"input_shape must be a tuple of integers, not {input_shape!r}")
        self._input_shape = tuple(
            check.integer(f"input_shape[{i}]", n, 1) for i, n in enumerate(input_shape)
        )
        check.instance("layers", layers, Iterable, "a list of layers")
        self._nodes = resolve(layers, self._input_shape)
        self._parameters = self._initial(check.generator("seed", seed))
        self._activations = {INPUT: zeros(self._input_shape, self._arithmetic.storage.dtype)}
        for node in self._nodes:
            inputs = tuple(self._activations[name] for name in node.inputs)
            self._activations[node.name] = node.layer.allocate_output(inputs)
        self._frozen: set[str] = set()
        self._compiled: Compiled | None = None
        self.notes: dict[str, Any] = {}
        self.tiles = tiles or {}

    def _initial(self, generator: np.random.Generator) -> Packed:
        storage = self._arithmetic.storage
        shapes = {n.name: n.layer.parameter_shapes(*n.input_shapes) for n in self._nodes}
        parameters = Packed(shapes, storage.dtype)
        for node in self._nodes:
            for name, values in node.layer.initial(generator, *node.input_shapes).items():
                parameters.layers[node.name][name][...] = round_to(values, storage)
        return parameters

    def __repr__(self) -> str:
        """Say how large the network is and what it computes in."""
        count = sum(array.size for array in self.parameters().values())
        return (
            f"<Network of {len(self._nodes)} layers and {count} parameters, "
            f"{self._arithmetic.name}, {self._device.name}>"
        )

    @property
    def arithmetic(self) -> Arithmetic:
        """How sums are computed and in which format tensors are stored."""
        return self._arithmetic

    @property
    def device(self) -> Device:
        """The device that is modelled."""
        return self._device

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return self._input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the last layer's output."""
        return self._nodes[-1].shape

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in order, each with its name and its inputs' names."""
        return tuple(node.layer for node in self._nodes)

    def parameters(self) -> dict[str, ndarray]:
        """Return the parameters by name, such as "conv2d1.weight".

        Returns
        -------
        dict of ndarray
            The network's own arrays: writing to one changes the network.
        """
        return self._parameters.flat_by_name()

    def gradients(self) -> dict[str, ndarray]:
        """Return the gradients of the last training step by parameter; frozen layers have none.

        With weight decay they include it, as they do on the device.

        Returns
        -------
        dict of ndarray
            The network's own arrays, overwritten by the next step.

        Raises
        ------
        RuntimeError
            If there was no training step, or layers were frozen or unfrozen since.
        """
        return self._trained().gradients.flat_by_name()

    def activations(self) -> dict[str, ndarray]:
        """Return the input and every layer's output of the last step, by layer and "input".

        Returns
        -------
        dict of ndarray
            The network's own arrays, overwritten by the next step; zeros before the first.
        """
        return dict(self._activations)

    def output_gradients(self) -> dict[str, ndarray]:
        """Return the gradients of the layers' outputs in the last training step, by layer.

        Layers below the lowest trained one have none.

        Returns
        -------
        dict of ndarray
            The network's own arrays, overwritten by the next step.

        Raises
        ------
        RuntimeError
            See `gradients`.
        """
        return dict(self._trained().output_gradients)

    def _trained(self) -> Compiled:
        if self._compiled is None or self._compiled.loss_name is None:
            raise RuntimeError("there are no gradients yet: run a training step first")
        return self._compiled

    def freeze(self, *names: str) -> None:
        """Stop training layers: sparse update.

        No gradient is computed for their parameters, and none at all below the lowest layer that
        is trained.

        Parameters
        ----------
        *names : str
            Layers that have parameters.

        Raises
        ------
        ValueError
            If there is no such layer, it has no parameters, or none would be trained.
        """
        frozen = self._frozen | self._checked(names)
        if frozen >= self._trainable():
            raise ValueError(f"freezing {', '.join(names)} leaves no layer to train")
        self._set_frozen(frozen)

    def unfreeze(self, *names: str) -> None:
        """Train layers again; all of them without arguments.

        Parameters
        ----------
        *names : str
            Layers that have parameters.

        Raises
        ------
        ValueError
            If there is no such layer or it has no parameters.
        """
        self._set_frozen(self._frozen - self._checked(names) if names else set())

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the frozen layers, in order."""
        return tuple(node.name for node in self._nodes if node.name in self._frozen)

    def _trainable(self) -> set[str]:
        return {name for name, parameters in self._parameters.layers.items() if parameters}

    def _checked(self, names: Iterable[str]) -> set[str]:
        allowed = [node.name for node in self._nodes if self._parameters.layers[node.name]]
        return {check.choice("name", name, allowed) for name in names}

    def _set_frozen(self, frozen: set[str]) -> None:
        if frozen != self._frozen:
            self._frozen = frozen
            self._compiled = None

    @property
    def tiles(self) -> Mapping[tuple[str, str], Tile]:
        """The tiles that steps run in: {(layer, step): tile}, to be set as a whole.

        A step is "forward", "weight_grad" or "input_grad" of a layer with weights; the others run
        as one tile. `pyodl.device.tiles.network_tiles` returns the tiles of plans. Tiles that leave
        K whole change no bit; those that cut it do (docs/numerics.md, section 4).
        """
        return dict(self._tiles)

    @tiles.setter
    def tiles(self, tiles: Mapping[tuple[str, str], TileLike]) -> None:
        weighted = [node.name for node in self._nodes if isinstance(node.layer, Weighted)]
        chosen = {}
        for (layer, step), tile in tiles.items():
            check.choice("tiles' layer", layer, weighted)
            check.choice("tiles' step", step, STEPS)
            found = checked(tile)
            if found is not None:
                chosen[layer, step] = found
        self._tiles: dict[tuple[str, str], Tile] = chosen
        self._compiled = None

    def set_kernels(self, kernels: Mapping[str, Mapping[str, str]]) -> None:
        """Choose the matmul kernels of layers, step by step; the others keep theirs.

        Kernels may differ in bits; `pyodl.tune` says which do not.

        Parameters
        ----------
        kernels : mapping
            {layer: {step: kernel}}, with the steps "forward", "weight_grad" and "input_grad"; the
            form of ``pyodl.Tuning.kernels``.

        Raises
        ------
        TypeError, ValueError
            If there is no such layer, step or kernel, or the layer has no weights; then nothing is
            changed.
        """
        layers = {node.name: node.layer for node in self._nodes}
        allowed = [name for name, layer in layers.items() if isinstance(layer, Weighted)]
        for name, chosen in kernels.items():
            check.choice("layer", name, allowed)
            layers[name] = with_kernels(layers[name], chosen)
        self._nodes = tuple(replace(node, layer=layers[node.name]) for node in self._nodes)
        self._compiled = None

    def macs(self) -> dict[str, dict[str, int]]:
        """Return the multiply-accumulates of a training step, by layer and step.

        Frozen layers and all below the lowest trained layer count only what is computed. Layers
        without multiply-accumulates are left out.

        Returns
        -------
        dict of dict
            {layer: {"forward": n, "weight_grad": n, "input_grad": n}}
        """
        trained = self._trainable() - self._frozen
        needed = needed_gradients(self._nodes, trained)
        result = {}
        for node in self._nodes:
            macs = node.layer.macs(*node.input_shapes)
            if macs:
                result[node.name] = {
                    "forward": macs,
                    "weight_grad": macs * (node.name in trained),
                    "input_grad": macs * (not needed.isdisjoint(node.inputs)),
                }
        return result

    def compiled(self, loss: str | None = None) -> Compiled:
        """Return the programs of this network, compiled for ``loss`` if they are not yet.

        Parameters
        ----------
        loss : str or None
            None takes what there is, and compiles the forward pass alone if there is nothing.
        """
        if self._compiled is None or loss not in (None, self._compiled.loss_name):
            self._compiled = Compiled(
                *(self._nodes, self._activations, self._parameters),
                *(self._arithmetic, self._device.cores, loss),
                self._trainable() - self._frozen,
                self._tiles,
            )
        return self._compiled

    @property
    def latest_step(self) -> Step | None:
        """The training step that was taken last, if nothing has changed since."""
        compiled = self._compiled
        return None if compiled is None or compiled.loss_name is None else compiled.step

    def forward(self, x: ndarray, *, num_threads: int | None = None) -> ndarray:
        """Compute the output for one input.

        Parameters
        ----------
        x : ndarray, shape `input_shape`
            In the storage dtype.
        num_threads : int or None
            Threads of the host; no bit depends on them. None is one.

        Returns
        -------
        ndarray, shape `output_shape`
            A new array.

        Raises
        ------
        TypeError, ValueError
            If ``x`` has another dtype or shape or is not C-contiguous.
        """
        threads = host_threads(num_threads)
        check.tensor("x", x, self._arithmetic, shape=self._input_shape)
        compiled = self.compiled()
        np.copyto(compiled.input, x)
        compiled.forward.run(threads)
        return compiled.output.copy()

    def predict(self, x: ndarray, *, num_threads: int | None = None) -> int:
        """Return the class of one input: where the output is largest, the first if several are.

        Parameters
        ----------
        x, num_threads
            See `forward`.

        Returns
        -------
        int

        Raises
        ------
        TypeError, ValueError
            See `forward`.
        """
        return int(np.argmax(self.forward(x, num_threads=num_threads)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the architecture, the arithmetic, the parameters' bits and `notes`.

        The file is a NumPy ``.npz`` without pickles. It is written whole or not at all.

        Parameters
        ----------
        path : str or path
            Taken as it is: no suffix is added.

        Raises
        ------
        OSError
            If it cannot be written; a file that was there is as it was.
        TypeError, ValueError
            If `notes` are none for JSON.
        """
        description = {
            "arithmetic": self._arithmetic.name,
            "device": asdict(self._device),
            "input_shape": self._input_shape,
            "layers": [to_json(node.layer) for node in self._nodes],
            "frozen": self.frozen,
            "tiles": [[*step, *astuple(tile)] for step, tile in self._tiles.items()],
            "notes": self.notes,
        }
        _checkpoint.write(path, description, self.parameters())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Network":
        """Return the network that `save` saved, bit for bit.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        Network

        Raises
        ------
        FileNotFoundError
            If there is no such file; another OSError if it cannot be read.
        ValueError
            If it is no such file or is damaged; the message names it.
        """
        description, bits = _checkpoint.read(path)
        try:
            net = cls(
                [from_json(layer) for layer in description["layers"]],
                description["input_shape"],
                arithmetic=description["arithmetic"],
                device=Device(**description["device"]),
            )
            own = net.parameters()
            shapes = {name: array.shape for name, array in own.items()}
            values = _checkpoint.as_values(bits, shapes, net.arithmetic.storage)
            net._set_frozen(net._checked(description["frozen"]))
            tiles = description.get("tiles", [])
            net.tiles = {(layer, step): tuple(tile) for layer, step, *tile in tiles}
            net.notes = dict(description["notes"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)} is not a pyodl network: {error}") from error
        for name, array in values.items():
            own[name][...] = array
        return net
