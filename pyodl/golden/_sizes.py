"""Cases from the sizes that a layer is described by, instead of the shapes of all its tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyodl.golden import _primitives as table
from pyodl.golden.cases import Case
from pyodl.primitives import _check as check

__all__ = ["case_of"]

Shape = tuple[int, ...]


def case_of(
    primitive: str,
    size: Shape,
    *,
    out_channels: int | None = None,
    bias: bool = False,
    arithmetic: str = "fp16-fp32acc",
    cores: int = 8,
    seed: int = 0,
    data: str = "normal",
    **parameters: Any,
) -> Case:
    """Return the case of a layer's step, with the shapes of all tensors worked out.

    Parameters
    ----------
    primitive : str
        A function of `pyodl.primitives`.
    size : tuple of int
        (C, H, W) of the input image, whatever the layout; (N, K, M) of a matrix product, (N, K) of
        a matrix-vector product, (In,) of a linear layer; otherwise the shape of the input.
    out_channels : int or None
        Of a convolution or pointwise convolution; outputs of a linear layer.
    bias : bool
        Whether a bias is added, where the primitive can.
    arithmetic, cores, seed, data
        See `Case`.
    **parameters
        The primitive's, and those that its tensors' shapes follow from: kernel_size, stride,
        padding and layout.

    Returns
    -------
    Case

    Raises
    ------
    TypeError, ValueError
        If an argument is missing, not taken, or not one of these.

    Examples
    --------
    >>> case = case_of("conv2d_weight_grad", (16, 32, 32), out_channels=8, kernel_size=3, padding=1)
    >>> case.shapes["dy"]
    (8, 32, 32)
    """
    known = table.get(primitive)
    family = table.family_and_step(primitive)[0]
    rule = _RULES.get(family, _RULES[""])
    size = tuple(check.integer(f"the input size[{i}]", n, 1) for i, n in enumerate(size))
    if rule.dimensions and len(size) != len(rule.dimensions):
        wanted = ", ".join(rule.dimensions)
        raise ValueError(f"the input size is {size}; {primitive} takes ({wanted})")
    taken = {*known.parameters, *rule.takes} - {"input_size"}  # which follows from the size
    unknown = parameters.keys() - taken
    if unknown:
        allowed = ", ".join(sorted(taken)) or "no parameters"
        raise ValueError(f"{primitive} takes no {min(unknown)}; it takes {allowed}")
    if (out_channels is None) == rule.out_channels:
        needs = "needs" if rule.out_channels else "takes no"
        raise ValueError(f"{primitive} {needs} out_channels")
    if bias and "bias" not in known.tensors:
        raise ValueError(f"{primitive} takes no bias")
    missing = [name for name in rule.needs if name not in parameters]
    if missing:
        raise ValueError(f"{primitive} needs {missing[0]}")
    if rule.out_channels:
        check.integer("out_channels", out_channels, 1)
    shapes, more = rule.shapes(_Given(size, out_channels or 0, parameters))
    given = {**parameters, **more}
    wanted_tensors = [n for n in known.tensors if n not in known.optional or (bias and n == "bias")]
    return Case(
        primitive,
        {name: shapes.get(name, shapes.get("", size)) for name in wanted_tensors},
        {name: given[name] for name in known.parameters if name in given},
        arithmetic,
        cores,
        seed,
        data,
    )


@dataclass(frozen=True)
class _Given:
    """What a layer is described by."""

    size: Shape
    out_channels: int
    parameters: dict[str, Any]

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.size[1], self.size[2]

    def shaped(self, channels: int, size: tuple[int, int]) -> Shape:
        """Return (C, H, W) in the layout."""
        hwc = self.parameters.get("layout") == "HWC"
        return (*size, channels) if hwc else (channels, *size)

    def windows(self, stride: Any = 1) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return kernel size and output size; ``stride`` is the default."""
        kernel = check.pair("kernel_size", self.parameters["kernel_size"], 1)
        sh, sw = check.pair("stride", self.parameters.get("stride", stride), 1)
        up, down, left, right = check.padding(self.parameters.get("padding", 0))
        height, width = self.image[0] + up + down, self.image[1] + left + right
        check.fits("kernel_size", kernel, (height, width))
        return kernel, ((height - kernel[0]) // sh + 1, (width - kernel[1]) // sw + 1)


_Result = tuple[dict[str, Shape], dict[str, Any]]


@dataclass(frozen=True)
class _Rule:
    """How sizes become shapes by tensor, and parameters that follow from them.

    Tensors that ``shapes`` does not name have the shape under "", or else the input's.
    """

    shapes: Callable[[_Given], _Result]
    dimensions: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    out_channels: bool = False


def _conv2d(given: _Given) -> _Result:
    kernel, out = given.windows()
    shapes = {
        "x": given.shaped(given.size[0], given.image),
        "w": (given.out_channels, *given.shaped(given.size[0], kernel)),
        "dy": given.shaped(given.out_channels, out),
        "bias": (given.out_channels,),
    }
    return shapes, {"input_size": given.image}


def _depthwise(given: _Given) -> _Result:
    kernel, out = given.windows()
    channels = given.size[0]
    return {"w": (channels, *kernel), "dy": (channels, *out)}, {"input_size": given.image}


def _pointwise(given: _Given) -> _Result:
    shapes = {
        "x": given.shaped(given.size[0], given.image),
        "w": (given.out_channels, given.size[0]),
        "dy": given.shaped(given.out_channels, given.image),
    }
    return shapes, {}


def _linear(given: _Given) -> _Result:
    out = (given.out_channels,)
    return {"w": (*out, *given.size), "dy": out, "bias": out}, {}


def _matmul(given: _Given) -> _Result:
    n, k, m = given.size
    return {"a": (n, k), "b": (m, k) if given.parameters.get("transpose_b") else (k, m)}, {}


def _pool(given: _Given) -> _Result:
    kernel, out = given.windows(given.parameters["kernel_size"])
    how = {"input_size": given.image, "stride": given.parameters.get("stride", kernel)}
    return {"dy": (given.size[0], *out)}, how


def _per_channel(given: _Given) -> _Result:
    return {"x": given.size, "dy": given.size, "": given.size[:1]}, {}


def _moved(given: _Given) -> _Result:
    return {"x": given.shaped(given.size[0], given.image)}, {}


def _alike(_: _Given) -> _Result:
    return {}, {}


_CHW = ("C", "H", "W")
_WINDOW = ("kernel_size", "stride", "padding")
_RULES = {
    "conv2d": _Rule(_conv2d, _CHW, (*_WINDOW, "layout"), ("kernel_size",), out_channels=True),
    "depthwise": _Rule(_depthwise, _CHW, _WINDOW, ("kernel_size",)),
    "pointwise": _Rule(_pointwise, _CHW, ("layout",), out_channels=True),
    "linear": _Rule(_linear, ("In",), out_channels=True),
    "matmul": _Rule(_matmul, ("N", "K", "M")),
    "matvec": _Rule(lambda given: ({"v": given.size[1:]}, {}), ("N", "K")),
    "avg_pool": _Rule(_pool, _CHW, needs=("kernel_size",), takes=("kernel_size", "stride")),
    "max_pool": _Rule(_pool, _CHW, needs=("kernel_size",), takes=("kernel_size", "stride")),
    "instance_norm": _Rule(_per_channel, _CHW),
    "add_bias": _Rule(_per_channel),
    "im2row": _Rule(_moved, _CHW, needs=("kernel_size",)),
    "im2col": _Rule(_moved, _CHW, needs=("kernel_size",)),
    "pad": _Rule(_moved, _CHW, needs=("padding",)),
    "chw_to_hwc": _Rule(_alike, _CHW),
    "hwc_to_chw": _Rule(_alike, ("H", "W", "C")),
    "block_transpose": _Rule(_alike, ("axis 0", "axis 1", "axis 2", "axis 3")),
    "cross_entropy": _Rule(_alike, ("classes",)),
    "leaky_relu": _Rule(_alike, needs=("slope",)),
    "sgd": _Rule(_alike, needs=("lr",)),
    "transpose": _Rule(_alike, needs=("axes",)),
    "reshape": _Rule(_alike, needs=("shape",)),
    "": _Rule(_alike),
}
