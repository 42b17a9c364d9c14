"""What a layer is: a description without arrays, which binds kernels to the arrays it is given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray

from pyodl._kernels import Operation
from pyodl._lines import zeros
from pyodl.arithmetic import Arithmetic
from pyodl.primitives._staging import Stager
from pyodl.primitives._tiling import Tile

__all__ = ["Layer", "Shape", "Site", "image", "same_shape"]

Shape = tuple[int, ...]


@dataclass
class Site:
    """The arrays of one layer in one network.

    Parameters
    ----------
    inputs : tuple of ndarray
        Outputs of the layers it takes.
    output : ndarray
    parameters : dict
        Arrays by their names in the layer, such as "weight".
    arithmetic : Arithmetic
    cores : int
        Cores of the device.
    stager : Stager
        Widens the operands of the layer's steps.
    tiles : mapping
        The tiles of the steps that run tile by tile: "forward", "weight_grad", "input_grad".
    workspace : object
        What the layer's `Layer.workspace` made, to be shared by its steps.
    """

    inputs: tuple[ndarray, ...]
    output: ndarray
    parameters: dict[str, ndarray]
    arithmetic: Arithmetic
    cores: int
    stager: Stager
    tiles: Mapping[str, Tile] = field(default_factory=dict)
    workspace: Any = None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Base of all layers: what one without parameters does.

    A layer holds no arrays, so that one description serves networks of several arithmetics; the
    network owns the parameters. Batch 1, CHW.

    Parameters
    ----------
    name : str
        Name in the network; by default the kind and a number.
    inputs : str or tuple of str
        Names of the layers whose outputs it takes, or "input"; by default the layer before it.
    """

    name: str = ""
    inputs: str | tuple[str, ...] = ()

    arity: ClassVar[int] = 1  # how many inputs it takes

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, not {type(self.name).__name__}")
        if "." in self.name or "/" in self.name or self.name == "input":
            raise ValueError(f'name is {self.name!r}; it may not be "input" or have a "." or "/"')
        names = (self.inputs,) if isinstance(self.inputs, str) else tuple(self.inputs)
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"inputs is {self.inputs!r}; it must be names of layers")
        self._set(inputs=names)
        self.check()

    def _set(self, **values: Any) -> None:
        """Replace fields by their checked values, while the layer is being made."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def check(self) -> None:
        """Check the layer's own arguments; raise TypeError or ValueError."""

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of the output for the shapes of the inputs; raise ValueError."""
        return shapes[0]

    def parameter_shapes(self, *shapes: Shape) -> dict[str, Shape]:
        """Return the shapes of the parameters by name."""
        return {}

    def initial(self, generator: np.random.Generator, *shapes: Shape) -> dict[str, ndarray]:
        """Draw parameters in float64; the network rounds them to its storage format."""
        return {}

    def macs(self, *shapes: Shape) -> int:
        """Return the multiply-accumulates of one step; all three steps have as many."""
        return 0

    def allocate_output(self, inputs: tuple[ndarray, ...]) -> ndarray:
        """Return the array for the output: a new one, or a view where nothing is computed."""
        shape = self.output_shape(*(x.shape for x in inputs))
        return zeros(shape, inputs[0].dtype)

    def allocate_input_grads(self, inputs: tuple[ndarray, ...], dy: ndarray) -> tuple[ndarray, ...]:
        """Return arrays for the inputs' gradients: new, or ``dy`` where nothing is computed."""
        return tuple(zeros(x.shape, x.dtype) for x in inputs)

    def workspace(self, site: Site) -> Any:
        """Return what the steps below share, for `Site.workspace`."""
        return None

    def forward(self, site: Site) -> list[Operation]:
        """Bind the computation of ``site.output``."""
        return []

    def parameter_grads(
        self, site: Site, dy: ndarray, grads: dict[str, ndarray]
    ) -> list[Operation]:
        """Bind the computation of the parameters' gradients, after `forward`."""
        return []

    def input_grads(self, site: Site, dy: ndarray, grads: tuple[ndarray, ...]) -> list[Operation]:
        """Bind the computation of the inputs' gradients, after `forward`."""
        return []


def same_shape(kind: str, shapes: Iterable[Shape]) -> Shape:
    """Return the one shape that all inputs have; raise ValueError."""
    distinct = sorted(set(shapes))
    if len(distinct) != 1:
        raise ValueError(f"{kind} takes inputs of one shape, not {distinct}")
    return distinct[0]


def image(kind: str, shape: Shape) -> tuple[int, int, int]:
    """Return (C, H, W); raise ValueError if the shape is no image's."""
    if len(shape) != 3:
        raise ValueError(f"{kind} takes an image (C, H, W), not shape {shape}")
    return shape[0], shape[1], shape[2]
