"""What can be exported: the tensors and parameters of each primitive, and shapes that fit.

Tensors and parameters are those of the functions' signatures. Besides the functions of
`pyodl.primitives` there are two that a chain of layers needs: ``add_bias`` and ``reshape``.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from pyodl import primitives as P
from pyodl.arithmetic import Arithmetic
from pyodl.primitives import _check as check

__all__ = ["PRIMITIVES", "STEPS", "Primitive", "axes_of", "family_and_step", "get"]

Shape = tuple[int, ...]
STEPS = ("forward", "weight_grad", "bias_grad", "input_grad", "param_grad", "backward", "grad")
_HOST = {"arithmetic", "cores", "num_threads"}


def add_bias(
    x: ndarray,
    bias: ndarray,
    *,
    arithmetic: str | Arithmetic = "fp16-fp32acc",
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Add a bias per channel, the first axis, to a stored result."""
    check.storage_tensor("x", x)
    check.storage_tensor("bias", bias, 1)
    if len(bias) != len(x):
        raise ValueError(f"bias has shape {bias.shape}; it must be {x.shape[:1]}")
    spread = bias.reshape(-1, *[1] * (x.ndim - 1))
    spread = np.ascontiguousarray(np.broadcast_to(spread, x.shape))
    return P.add(x, spread, arithmetic=arithmetic, cores=cores, num_threads=num_threads)


def reshape(
    x: ndarray,
    *,
    shape: tuple[int, ...],
    arithmetic: object = None,
    cores: int = 8,
    num_threads: int | None = None,
) -> ndarray:
    """Return the same elements, in the same order, in another shape."""
    check.storage_tensor("x", x)
    return x.reshape(shape).copy()


@dataclass(frozen=True)
class Primitive:
    """What is known of one function.

    Parameters
    ----------
    name : str
    function : callable
    tensors : tuple of str
        The arrays it takes, in order.
    optional : frozenset of str
        Those of the tensors that may be left out.
    parameters : tuple of str
        What else it takes, arithmetic, cores and threads aside.
    required : frozenset of str
        Those of the parameters that have no default.
    outputs : tuple of str
        Names for what it returns.
    """

    name: str
    function: Callable[..., Any]
    tensors: tuple[str, ...]
    optional: frozenset[str]
    parameters: tuple[str, ...]
    required: frozenset[str]
    outputs: tuple[str, ...]


_OUTPUTS: dict[str, tuple[str, ...]] = {
    "matmul": ("c",),
    "matvec": ("c",),
    "sgd": ("w_new", "grad_new"),
    "instance_norm_forward": ("y", "mean_used", "std_used"),
    "instance_norm_param_grad": ("dgamma", "dbeta"),
    **dict.fromkeys(("cross_entropy", "mse", "l1", "berhu"), ("loss",)),
}
_OUTPUT_OF_STEP = {"weight_grad": "dw", "bias_grad": "db", "input_grad": "dx", "backward": "dx"}


def family_and_step(name: str) -> tuple[str, str]:
    """Return what a primitive belongs to and its step there: "conv2d", "weight_grad"."""
    for step in STEPS:
        if name.endswith("_" + step):
            return name.removesuffix("_" + step), step
    return name, ""


def _described(name: str, function: Callable[..., Any]) -> Primitive:
    """Read a function's signature."""
    parameters = {
        parameter.name: parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in _HOST
    }
    tensors = [key for key, value in parameters.items() if "ndarray" in str(value.annotation)]
    others = [key for key in parameters if key not in tensors]
    step = family_and_step(name)[1]
    default = (_OUTPUT_OF_STEP.get(step, "grad" if step == "grad" else "y"),)
    return Primitive(
        name,
        function,
        tuple(tensors),
        frozenset(key for key in tensors if parameters[key].default is None),
        tuple(others),
        frozenset(key for key in others if parameters[key].default is inspect.Parameter.empty),
        _OUTPUTS.get(name, default),
    )


PRIMITIVES: tuple[str, ...] = (*P.__all__, "add_bias", "reshape")
_OWN: dict[str, Callable[..., Any]] = {"add_bias": add_bias, "reshape": reshape}


@cache
def get(name: str) -> Primitive:
    """Return the primitive called ``name``.

    Raises
    ------
    TypeError, ValueError
        If there is none of that name.
    """
    check.choice("primitive", name, PRIMITIVES)
    return _described(name, _OWN[name] if name in _OWN else getattr(P, name))


_ACTIVATIONS = {"x": "ci h w", "y": "co h w", "bias": "co"}
_AXES: dict[str, dict[str, str]] = {
    "matmul": {"a": "n k", "b": "k m", "c": "n m"},
    "matvec": {"a": "n k", "v": "k", "c": "n"},
    "conv2d": {**_ACTIVATIONS, "w": "co ci kh kw"},
    "depthwise": {"x": "c h w", "y": "c h w", "w": "c kh kw"},
    "pointwise": {**_ACTIVATIONS, "w": "co ci"},
    "linear": {"x": "in", "w": "out in", "y": "out", "bias": "out"},
    "im2row": {"y": "pixel tap"},
    "im2col": {"y": "tap pixel"},
    "block_transpose": {"x": "co ci kh kw", "w": "co ci kh kw", "y": "ci co kh kw"},
    "chw_to_hwc": {"y": "h w c"},
    "hwc_to_chw": {"x": "h w c"},
}
_GRADIENTS = {"dx": "x", "dy": "y", "dw": "w", "db": "bias"}
_BY_RANK = {1: "i", 2: "row column", 3: "c h w", 4: "co ci kh kw"}


def axes_of(name: str, tensor: str, ndim: int, parameters: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of a tensor's axes, outermost first: ("co", "ci", "kh", "kw")."""
    family = family_and_step(name)[0]
    axes = _AXES.get(family, {}).get(_GRADIENTS.get(tensor, tensor), _BY_RANK.get(ndim, ""))
    named = axes.split()
    if family == "matmul" and tensor == "b" and parameters.get("transpose_b"):
        named = ["m", "k"]
    if parameters.get("layout") == "HWC" and len(named) > 2 and family != "depthwise":
        channel = named.pop(len(named) - 3)
        named.append(channel)
    if len(named) != ndim:
        named = [f"axis{i}" for i in range(ndim)]
    return tuple(named)
