"""The fully connected layer."""

from dataclasses import dataclass

from numpy import ndarray

from pyodl._kernels import Operation
from pyodl.layers._layer import Shape, Site
from pyodl.layers._weights import Weighted
from pyodl.primitives import _check as check
from pyodl.primitives._staging import bind_copy
from pyodl.primitives.linear import (
    bind_linear_forward,
    bind_linear_input_grad,
    bind_linear_weight_grad,
)

__all__ = ["Linear"]


@dataclass(frozen=True)
class Linear(Weighted):
    """The fully connected layer W x + b, (In,) to (Out,), with weights (Out, In).

    Parameters
    ----------
    out_features : int
    bias : bool
    kernel : str or (str, str, str)
        Matmul kernel of all steps, see `pyodl.primitives.matmul`; or those of forward, weight
        gradient and input gradient.
    gain : float
        Scale of the initial weights, in units of 1/sqrt(fan-in); the default sqrt(2) keeps the
        scale of signals through ReLUs. Biases begin at zero.
    name : str
        Name in the network; by default the kind and a number.
    inputs : str or tuple of str
        Name of the layer whose output it takes, or "input"; by default the layer before it.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    """

    out_features: int

    def check(self) -> None:
        super().check()
        check.integer("out_features", self.out_features, 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 1:
            raise ValueError(f"Linear takes a vector (In,), not shape {shapes[0]}; use Flatten")
        return (self.out_features,)

    def weight_shape(self, shape: Shape) -> Shape:
        return self.out_features, shape[0]

    def macs(self, *shapes: Shape) -> int:
        return self.out_features * shapes[0][0]

    def bind_forward(self, site: Site, w: ndarray) -> list[Operation]:
        return bind_linear_forward(site.inputs[0], w, site.output, **self.how(site, "forward"))

    def bind_weight_grad(self, site: Site, dy: ndarray, dw: ndarray) -> list[Operation]:
        return bind_linear_weight_grad(site.inputs[0], dy, dw, **self.how(site, "weight_grad"))

    def bind_bias_grad(self, site: Site, dy: ndarray, db: ndarray) -> list[Operation]:
        return [bind_copy(dy, dy, db, db, site.cores)]

    def bind_input_grad(self, site: Site, w: ndarray, dy: ndarray, dx: ndarray) -> list[Operation]:
        return bind_linear_input_grad(w, dy, dx, **self.how(site, "input_grad"))
