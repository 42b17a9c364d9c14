"""Layers as dictionaries for JSON, and back: what a checkpoint holds of an architecture."""

from dataclasses import MISSING, asdict, fields
from typing import Any

from pyodl.layers._layer import Layer
from pyodl.layers.convolution import Conv2D, DepthwiseConv2D, PointwiseConv2D
from pyodl.layers.elementwise import Add, Flatten, LeakyReLU, ReLU, Sigmoid
from pyodl.layers.linear import Linear
from pyodl.layers.spatial import AvgPool2D, InstanceNorm, MaxPool2D

__all__ = ["from_json", "to_json"]

_KINDS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        *(Add, AvgPool2D, Conv2D, DepthwiseConv2D, Flatten, InstanceNorm, LeakyReLU, Linear),
        *(MaxPool2D, PointwiseConv2D, ReLU, Sigmoid),
    )
}


def to_json(layer: Layer) -> dict[str, Any]:
    """Return a layer as a dictionary: its kind, and what differs from the defaults."""
    values = asdict(layer)
    given = {f.name: values[f.name] for f in fields(layer) if values[f.name] != f.default}
    return {"layer": type(layer).__name__, **given}


def from_json(item: Any) -> Layer:
    """Return the layer that `to_json` described.

    Raises
    ------
    TypeError, ValueError
        If ``item`` is no such description.
    """
    if not isinstance(item, dict) or item.get("layer") not in _KINDS:
        raise ValueError(f"{item!r} does not describe a layer")
    kind = _KINDS[item["layer"]]
    known = {f.name for f in fields(kind)}
    required = {f.name for f in fields(kind) if f.default is MISSING}
    given = {name: _tuples(value) for name, value in item.items() if name != "layer"}
    if not required <= given.keys() <= known:
        raise ValueError(f"a {kind.__name__} has {sorted(given)}; it may have {sorted(known)}")
    return kind(**given)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
