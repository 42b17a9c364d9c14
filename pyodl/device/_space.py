"""What can be tiled in a step, and how much of each operand a tile needs."""

from dataclasses import dataclass

__all__ = ["Matmul", "Operand", "Space", "Span"]

Range = tuple[int, int]


@dataclass(frozen=True)
class Matmul:
    """The product that a step is: (N, K) x (K, M), or (M, K) where B is stored transposed."""

    n: int
    k: int
    m: int
    transpose_b: bool


@dataclass(frozen=True)
class Space:
    """The extents that a step can be tiled in.

    Parameters
    ----------
    channels : int
        Channels of the output: the rows N of a matmul.
    rows : int
        Rows of the output: image rows of an activation, input channels of a weight gradient,
        elements of a vector. Together with ``columns`` they are the columns M of a matmul.
    columns : int
        Outputs of one row of one channel.
    k : int
        Units that the reduction can be cut in.
    k_unit : int
        Terms of one such unit.
    """

    channels: int
    rows: int
    columns: int = 1
    k: int = 1
    k_unit: int = 1


@dataclass(frozen=True)
class Span:
    """How many indices of an operand a range of indices of the step needs.

    Parameters
    ----------
    total : int
        Indices of the operand.
    kernel, stride, before : int
        A window over the operand, and the padding before its first index. The default maps one to
        one.
    gradient : bool
        Whether the step's indices are those that the window slides over (the input gradient).
    """

    total: int
    kernel: int = 1
    stride: int = 1
    before: int = 0
    gradient: bool = False

    @property
    def one_to_one(self) -> bool:
        """Whether every index needs just its own."""
        return self.kernel == self.stride == 1 and not self.before

    def needed(self, start: int, stop: int) -> Range:
        """Return the range of the operand for ``[start, stop)``; padding is not part of it."""
        if self.gradient:
            first = -(-(start + self.before - self.kernel + 1) // self.stride)
            last = (stop - 1 + self.before) // self.stride + 1
        else:
            first = start * self.stride - self.before
            last = (stop - 1) * self.stride - self.before + self.kernel
        first = min(max(first, 0), self.total)
        return first, max(first, min(last, self.total))

    def count(self, start: int, stop: int) -> int:
        """Return how many indices `needed` has."""
        first, last = self.needed(start, stop)
        return last - first


@dataclass(frozen=True)
class Operand:
    """A tensor of a step, and what a tile needs of it.

    Parameters
    ----------
    name : str
        Of the tensor: "input", a layer, "layer.weight"; gradients begin with "d_". Buffers in L1
        are named by what they are.
    role : str
        "input", "weight", "bias", "output", "output_gradient", "input_gradient",
        "parameter_gradient", "statistics", "target", "loss" or "buffer".
    elements : int
        Of the whole tensor.
    element_bytes : int
    fixed : int
        Elements for one index of all that the operand depends on.
    channels, rows, k : Span or None
        What a tile's channels, rows and units of K select; None if the operand does not depend on
        them.
    loads, stores : bool
        Whether the DMA brings it to L1, and back to L2. A buffer has neither.
    """

    name: str
    role: str
    elements: int
    element_bytes: int
    fixed: int
    channels: Span | None = None
    rows: Span | None = None
    k: Span | None = None
    loads: bool = True
    stores: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.elements * self.element_bytes

    def piece(self, channels: Range, rows: Range, k: Range) -> int:
        """Return the bytes that a tile with these ranges needs."""
        size = self.fixed * self.element_bytes
        for span, taken in ((self.channels, channels), (self.rows, rows), (self.k, k)):
            if span is not None:
                size *= span.count(*taken)
        return size
