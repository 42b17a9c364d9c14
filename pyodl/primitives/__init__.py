"""Forward, weight gradient and input gradient as functions on NumPy arrays.

Every function checks its arguments before it computes or writes anything, and is a thin layer over
a ``bind_*`` function or a ``Bound*`` class that binds kernels to arrays unchecked; networks bind
those once and run them at every step.
"""

from pyodl.primitives.activation import (
    leaky_relu_backward,
    leaky_relu_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
)
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
from pyodl.primitives.loss import (
    berhu,
    berhu_grad,
    cross_entropy,
    cross_entropy_grad,
    l1,
    l1_grad,
    mse,
    mse_grad,
)
from pyodl.primitives.matmul import matmul, matvec
from pyodl.primitives.norm import (
    instance_norm_forward,
    instance_norm_input_grad,
    instance_norm_param_grad,
)
from pyodl.primitives.pointwise import (
    pointwise_forward,
    pointwise_input_grad,
    pointwise_weight_grad,
)
from pyodl.primitives.pooling import (
    avg_pool_backward,
    avg_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
from pyodl.primitives.softmax import softmax_backward, softmax_forward

__all__ = [
    "add",
    "avg_pool_backward",
    "avg_pool_forward",
    "berhu",
    "berhu_grad",
    "block_transpose",
    "chw_to_hwc",
    "conv2d_bias_grad",
    "conv2d_forward",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "cross_entropy",
    "cross_entropy_grad",
    "depthwise_forward",
    "depthwise_input_grad",
    "depthwise_weight_grad",
    "hwc_to_chw",
    "im2col",
    "im2row",
    "instance_norm_forward",
    "instance_norm_input_grad",
    "instance_norm_param_grad",
    "l1",
    "l1_grad",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "linear_bias_grad",
    "linear_forward",
    "linear_input_grad",
    "linear_weight_grad",
    "matmul",
    "matvec",
    "max_pool_backward",
    "max_pool_forward",
    "mse",
    "mse_grad",
    "pad",
    "pointwise_forward",
    "pointwise_input_grad",
    "pointwise_weight_grad",
    "relu_backward",
    "relu_forward",
    "sgd",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_backward",
    "softmax_forward",
    "transpose",
]
