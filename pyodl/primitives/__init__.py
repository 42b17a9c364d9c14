"""Forward, weight gradient and input gradient as functions on NumPy arrays.

Every function checks its arguments before it computes or writes anything, and is a thin layer over
a ``bind_*`` function or a ``Bound*`` class that binds kernels to arrays unchecked; networks bind
those once and run them at every step.
"""

from pyodl.primitives.conv import (
    conv2d_bias_grad,
    conv2d_forward,
    conv2d_input_grad,
    conv2d_weight_grad,
)
from pyodl.primitives.depthwise import (
    depthwise_forward,
    depthwise_input_grad,
    depthwise_weight_grad,
)
from pyodl.primitives.elementwise import add, sgd
from pyodl.primitives.layout import (
    block_transpose,
    chw_to_hwc,
    hwc_to_chw,
    im2col,
    im2row,
    pad,
    transpose,
)
from pyodl.primitives.linear import (
    linear_bias_grad,
    linear_forward,
    linear_input_grad,
    linear_weight_grad,
)
from pyodl.primitives.matmul import matmul, matvec
from pyodl.primitives.pointwise import (
    pointwise_forward,
    pointwise_input_grad,
    pointwise_weight_grad,
)

__all__ = [
    "add",
    "block_transpose",
    "chw_to_hwc",
    "conv2d_bias_grad",
    "conv2d_forward",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "depthwise_forward",
    "depthwise_input_grad",
    "depthwise_weight_grad",
    "hwc_to_chw",
    "im2col",
    "im2row",
    "linear_bias_grad",
    "linear_forward",
    "linear_input_grad",
    "linear_weight_grad",
    "matmul",
    "matvec",
    "pad",
    "pointwise_forward",
    "pointwise_input_grad",
    "pointwise_weight_grad",
    "sgd",
    "transpose",
]
