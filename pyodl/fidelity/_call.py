"""A call whose defects are asked for, and the geometry that its options describe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyodl.primitives import _check as check
from pyodl.primitives._orders import MATMUL_KERNELS

__all__ = ["Call", "Defect", "Found", "Shape", "Window", "blocks", "down"]

Shape = tuple[int, ...]
Found = Iterator["Defect"]


@dataclass(frozen=True)
class Defect:
    """One defect of the firmware that a call meets.

    Parameters
    ----------
    kind : str
        ``"out-of-bounds"``: memory outside the tensors is read or written. ``"race"``: the result
        depends on which core comes first. ``"wrong result"``: other bits than the primitive means,
        reproducible or not.
    tensor : str
        The tensor concerned, by the name that the primitive gives it; ``"out"`` is the result.
    message : str
        What happens, in a sentence.
    item : int
        Number of the defect in docs/fidelity.md.
    modelled : bool
        Whether pyodl writes the same bits: the result is not what one expects, but it is defined.
    """

    kind: Literal["out-of-bounds", "race", "wrong result"]
    tensor: str
    message: str
    item: int
    modelled: bool = False


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution: rows, then columns; padding up, down, left, right."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]

    @property
    def axes(self) -> list[tuple[int, int, int, int, int]]:
        """Size, kernel, stride, padding before and after, of each axis."""
        before, after = self.padding[::2], self.padding[1::2]
        return list(zip(self.size, self.kernel, self.stride, before, after, strict=True))

    @property
    def out(self) -> int:
        """Pixels of the output."""
        rows, columns = ((n + b + a - k) // s + 1 for n, k, s, b, a in self.axes)
        return rows * columns

    @property
    def divides(self) -> bool:
        """Whether the strides come out even, as the firmware asks."""
        return all((n + b + a - k) % s == 0 for n, k, s, b, a in self.axes)

    @property
    def plain(self) -> bool:
        """Whether there is no stride and no padding."""
        return self.stride == (1, 1) and not any(self.padding)


@dataclass(frozen=True)
class Call:
    """A call of a primitive; what its options leave out has the primitive's default."""

    primitive: str
    shapes: tuple[Shape, ...]
    cores: int
    options: Mapping[str, Any]

    def shape(self, index: int, *dimensions: int) -> Shape:
        """Return the shape of an array that has one of these numbers of dimensions.

        Raises
        ------
        ValueError
            If there is no such array, or it has another number of dimensions.
        """
        if index >= len(self.shapes):
            raise ValueError(f"shapes has {len(self.shapes)} items; {self.primitive} takes more")
        shape = self.shapes[index]
        if len(shape) not in dimensions:
            wanted = " or ".join(map(str, dimensions))
            raise ValueError(f"shapes[{index}] is {shape}; it must have {wanted} dimensions")
        return shape

    @property
    def has_bias(self) -> bool:
        """Whether a bias is among the arrays, or said to be computed too."""
        return len(self.shapes) > 2 or self.flag("bias")

    def flag(self, name: str) -> bool:
        """Return an option that is a bool."""
        return check.flag(name, self.options.get(name, False))

    def choice(self, name: str, *allowed: str) -> str:
        """Return an option that is one of these strings; the first is the default."""
        return check.choice(name, self.options.get(name, allowed[0]), allowed)

    @property
    def kernel(self) -> str:
        """The matmul kernel."""
        return self.choice("kernel", *MATMUL_KERNELS)

    @property
    def layout(self) -> str:
        """CHW or HWC."""
        return self.choice("layout", "CHW", "HWC")

    @property
    def direct(self) -> bool:
        """Whether a convolution goes without a matmul."""
        return self.choice("algorithm", "im2row", "direct") == "direct"

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Up, down, left, right."""
        return check.padding(self.options.get("padding", 0))

    def pair(self, name: str) -> tuple[int, int]:
        """Return a size that the call must have.

        Raises
        ------
        ValueError
            If it does not have it.
        """
        if name not in self.options:
            raise ValueError(f"{name} is missing; {self.primitive} takes it")
        return check.pair(name, self.options[name], 1)

    def channels(self, shape: Shape) -> int:
        """Return the channels of an image."""
        return shape[0] if self.layout == "CHW" else shape[-1]

    def size(self, shape: Shape) -> tuple[int, int]:
        """Return (height, width) of an image, or of weights without their first dimension."""
        height, width = shape[1:] if self.layout == "CHW" else shape[:2]
        return height, width

    def window(self, size: tuple[int, int], kernel: tuple[int, int]) -> Window:
        """Return the geometry of a convolution over ``size``."""
        stride, padding = check.pair("stride", self.options.get("stride", 1), 1), self.padding
        padded = size[0] + padding[0] + padding[1], size[1] + padding[2] + padding[3]
        check.fits("the kernel", kernel, padded)
        return Window(size, kernel, stride, padding)


def blocks(size: int, cores: int) -> list[tuple[int, int]]:
    """Return every core's block as the firmware has it: late ones may start beyond the end."""
    block = -(-size // cores)
    return [(core * block, min((core + 1) * block, size)) for core in range(cores)]


def down(size: int, multiple: int) -> int:
    """Return ``size`` rounded down to a multiple."""
    return size - size % multiple
