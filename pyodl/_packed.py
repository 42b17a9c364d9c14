"""The parameters of all layers, or their gradients, one after the other in memory."""

from collections.abc import Collection, Mapping
from math import prod

from numpy import ndarray
from numpy.typing import DTypeLike

from pyodl._lines import zeros

__all__ = ["Packed"]


class Packed:
    """Arrays by layer and name that also are one array, for what treats all of them alike.

    Parameters
    ----------
    shapes : mapping
        {layer: {name: shape}}.
    dtype : dtype

    Attributes
    ----------
    flat : ndarray
        All of them, zeros at first.
    layers : dict of dict of ndarray
        {layer: {name: view of `flat`}}.
    """

    def __init__(
        self, shapes: Mapping[str, Mapping[str, tuple[int, ...]]], dtype: DTypeLike
    ) -> None:
        sizes = [prod(shape) for named in shapes.values() for shape in named.values()]
        self.flat: ndarray = zeros(sum(sizes), dtype)
        self.layers: dict[str, dict[str, ndarray]] = {layer: {} for layer in shapes}
        self._spans: dict[str, tuple[int, int]] = {}
        stop = 0
        for layer, named in shapes.items():
            first = stop
            for name, shape in named.items():
                start, stop = stop, stop + prod(shape)
                self.layers[layer][name] = self.flat[start:stop].reshape(shape)
            self._spans[layer] = first, stop

    def flat_by_name(self) -> dict[str, ndarray]:
        """Return {"layer.name": array}."""
        return {
            f"{layer}.{name}": array
            for layer, named in self.layers.items()
            for name, array in named.items()
        }

    def runs(self, layers: Collection[str]) -> list[ndarray]:
        """Return the arrays of ``layers``, in order, as few flat ones: neighbours in one."""
        spans: list[list[int]] = []
        for layer, (start, stop) in self._spans.items():
            if layer in layers and start < stop:
                if spans and spans[-1][1] == start:
                    spans[-1][1] = stop
                else:
                    spans.append([start, stop])
        return [self.flat[start:stop] for start, stop in spans]
