"""What lies between layers with weights: activations, pooling, norms, losses, layouts, SGD."""

from pyodl import primitives as P

from .common import ARITHMETICS, bound, tensor

IMAGE = (16, 32, 32)


def _channels(arithmetic):
    """Return gamma and beta, or other vectors with a value per channel, all of them positive."""
    return [abs(tensor(IMAGE[0], arithmetic, seed)) for seed in (2, 3, 4, 5)]


def _vectors(arithmetic):
    return tensor(16384, arithmetic, 0), tensor(16384, arithmetic, 1)


CASES = {
    "add": lambda x, dy, a: (P.add, x, dy),
    "relu_forward": lambda x, dy, a: (P.relu_forward, x),
    "relu_backward": lambda x, dy, a: (P.relu_backward, x, dy),
    "leaky_relu_forward": lambda x, dy, a: (P.leaky_relu_forward, x, 0.125),
    "leaky_relu_backward": lambda x, dy, a: (P.leaky_relu_backward, x, dy, 0.125),
    "sigmoid_forward": lambda x, dy, a: (P.sigmoid_forward, x),
    "sigmoid_backward": lambda x, dy, a: (P.sigmoid_backward, x, dy),
    "softmax_forward": lambda x, dy, a: (P.softmax_forward, x.reshape(-1, 64)),
    "softmax_backward": lambda x, dy, a: (
        *(P.softmax_backward, x.reshape(-1, 64)),
        dy.reshape(-1, 64),
    ),
    "avg_pool_forward": lambda x, dy, a: (P.avg_pool_forward, x, 8, 8),
    "avg_pool_backward": lambda x, dy, a: (P.avg_pool_backward, tensor((16, 4, 4), a), 32, 8, 8),
    "max_pool_forward": lambda x, dy, a: (P.max_pool_forward, x, 2, 2),
    "max_pool_backward": lambda x, dy, a: (
        *(P.max_pool_backward, x),
        *(tensor((16, 16, 16), a), 2, 2),
    ),
    "instance_norm_forward": lambda x, dy, a: (P.instance_norm_forward, x, *_channels(a)[:2]),
    "instance_norm_param_grad": lambda x, dy, a: (
        *(P.instance_norm_param_grad, x, dy),
        *_channels(a)[:2],
    ),
    "instance_norm_input_grad": lambda x, dy, a: (
        *(P.instance_norm_input_grad, x, dy),
        *_channels(a),
    ),
    "conv2d_bias_grad": lambda x, dy, a: (P.conv2d_bias_grad, dy),
    "cross_entropy": lambda x, dy, a: (P.cross_entropy, *_vectors(a)),
    "cross_entropy_grad": lambda x, dy, a: (P.cross_entropy_grad, *_vectors(a)),
    "mse": lambda x, dy, a: (P.mse, *_vectors(a)),
    "mse_grad": lambda x, dy, a: (P.mse_grad, *_vectors(a)),
    "l1": lambda x, dy, a: (P.l1, *_vectors(a)),
    "l1_grad": lambda x, dy, a: (P.l1_grad, *_vectors(a)),
    "berhu": lambda x, dy, a: (P.berhu, *_vectors(a)),
    "berhu_grad": lambda x, dy, a: (P.berhu_grad, *_vectors(a)),
    "sgd": lambda x, dy, a: (P.sgd, x, dy, 0.01),
    "im2row": lambda x, dy, a: (P.im2row, x[:, :16, :16].copy(), 3),
    "im2col": lambda x, dy, a: (P.im2col, x[:, :16, :16].copy(), 3),
    "pad": lambda x, dy, a: (P.pad, x, 1),
    "block_transpose": lambda x, dy, a: (P.block_transpose, x.reshape(64, 16, 4, 4)),
    "chw_to_hwc": lambda x, dy, a: (P.chw_to_hwc, x),
    "hwc_to_chw": lambda x, dy, a: (P.hwc_to_chw, x.reshape(32, 32, 16)),
    "transpose": lambda x, dy, a: (P.transpose, x, (2, 0, 1)),
}
LOOPS = {  # so that a timed call takes a millisecond or more; what is not here runs 50 times
    **dict.fromkeys(["add", "relu_forward", "relu_backward", "sgd", "pad"], 1000),
    **dict.fromkeys(["block_transpose", "chw_to_hwc", "hwc_to_chw", "transpose"], 1000),
    **dict.fromkeys(["avg_pool_backward", "max_pool_forward", "im2row", "im2col"], 200),
    **dict.fromkeys(["conv2d_bias_grad", "instance_norm_param_grad"], 200),
}
LAYOUT = {"im2row": "CHW", "block_transpose": "CHW"}


class Elementwise:
    """Kernels alone, so often that a timed call takes a millisecond or more."""

    params = [list(CASES), ARITHMETICS]
    param_names = ["primitive", "arithmetic"]

    def setup(self, primitive, arithmetic):
        x, dy = tensor(IMAGE, arithmetic, 0), tensor(IMAGE, arithmetic, 1)
        function, *args = CASES[primitive](x, dy, arithmetic)
        how = {"layout": LAYOUT[primitive]} if primitive in LAYOUT else {}
        loops = LOOPS.get(primitive, 50)
        self.program = bound(function, *args, loops=loops, arithmetic=arithmetic, **how)

    def time_kernels(self, primitive, arithmetic):
        self.program.run()
