"""An independent model of every primitive: NumPy, slow, meant to be read and believed.

It has the functions of `pyodl.primitives` under the same names, plus the scalar operations of
`pyodl.formats`. It validates nothing: the tests hand it what is valid.

It follows docs/numerics.md. Where the recorded bits leave a choice, this is what is modelled:

* `wide` arithmetics (binary32 accumulator) round each operation of a formula to binary32, reuse the
  result unrounded within the primitive, and round to storage at the store. Stored and read back:
  the reduction before the bias, the decayed gradient of SGD, mean and deviation of the instance
  norm as y sees them. Its variance uses the unrounded mean.
* Every multiply-add is fused except in fp16-muladd, where binary32 ones are split too. So a
  bfloat16 product beyond binary32's range does not overflow or vanish before it is added.
* The last product of an odd K in `lanes-split` is added to +0 once more after its own rounding.
* Fast softmax starts its maximum at the lowest finite value of the storage format; losses, expf
  softmax and max pooling at the first element; berHu at +0. Only a greater value replaces it.
* The instance norm's epsilon of 1e-10 is rounded to the storage format, so it is 0 in binary16.
* The direct input gradient steps through float for 16-bit accumulators when there is stride or
  padding; the depthwise one never does.
* Direct convolutions, CHW on the device, run the same (c, kh, kw) loops in HWC.
* An output size is rounded down; input elements that no window reached get the gradient +0 (or
  what the zeros of the im2row buffer give).
* The bias gradient of a linear layer is a copy of dy. That of a convolution is a sum from +0.
* A weight decay that rounds to zero in the storage format is no decay; the gradient is then kept.
* Losses run over all elements in C order, whatever the shape.
"""

from . import arith as formats  # noqa: F401
from .arith import (  # noqa: F401
    ARITHMETICS,
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FORMATS,
    array_of,
    decode,
    encode,
    expf,
    logf,
    round_value,
    values_of,
)
from .conv import (  # noqa: F401
    conv2d_bias_grad,
    conv2d_forward,
    conv2d_input_grad,
    conv2d_weight_grad,
    depthwise_forward,
    depthwise_input_grad,
    depthwise_weight_grad,
)
from .elementwise import (  # noqa: F401
    add,
    fast_exp,
    leaky_relu_backward,
    leaky_relu_forward,
    relu_backward,
    relu_forward,
    sgd,
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
)
from .layout import (  # noqa: F401
    block_transpose,
    chw_to_hwc,
    hwc_to_chw,
    im2col,
    im2row,
    pad,
    transpose,
)
from .losses import (  # noqa: F401
    berhu,
    berhu_grad,
    cross_entropy,
    cross_entropy_grad,
    l1,
    l1_grad,
    mse,
    mse_grad,
)
from .norm import (  # noqa: F401
    instance_norm_forward,
    instance_norm_input_grad,
    instance_norm_param_grad,
)
from .pointwise_linear import (  # noqa: F401
    linear_bias_grad,
    linear_forward,
    linear_input_grad,
    linear_weight_grad,
    pointwise_forward,
    pointwise_input_grad,
    pointwise_weight_grad,
)
from .pooling import (  # noqa: F401
    avg_pool_backward,
    avg_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
from .reduce import KERNELS, MATVEC_KERNELS, matmul, matvec, resolve  # noqa: F401
