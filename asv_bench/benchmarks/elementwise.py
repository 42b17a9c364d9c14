"""What lies between layers with weights: activations, pooling, norms, losses, layouts, SGD."""

from pyodl import primitives as P

from .common import ARITHMETICS, bound, tensor

IMAGE = (16, 32, 32)


def _norm(arithmetic):
    """Return an image, a gradient, gamma, beta, and the statistics of the image."""
    x, dy, gamma, beta = (
        tensor(shape, arithmetic, seed) for seed, shape in enumerate((IMAGE, IMAGE, 16, 16))
    )
    _, mean, std = P.instance_norm_forward(x, gamma, beta, arithmetic=arithmetic)
    return x, dy, gamma, beta, mean, std


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
    "instance_norm_forward": lambda x, dy, a: (
        *(P.instance_norm_forward, x),
        *(tensor(16, a), tensor(16, a)),
    ),
    "instance_norm_param_grad": lambda x, dy, a: (
        *(P.instance_norm_param_grad, x, dy),
        *_norm(a)[4:],
    ),
    "conv2d_bias_grad": lambda x, dy, a: (P.conv2d_bias_grad, dy),
    "cross_entropy": lambda x, dy, a: (P.cross_entropy, *_vectors(a)),
    "cross_entropy_grad": lambda x, dy, a: (P.cross_entropy_grad, *_vectors(a)),
    "mse": lambda x, dy, a: (P.mse, *_vectors(a)),
    "mse_grad": lambda x, dy, a: (P.mse_grad, *_vectors(a)),
    "berhu": lambda x, dy, a: (P.berhu, *_vectors(a)),
    "berhu_grad": lambda x, dy, a: (P.berhu_grad, *_vectors(a)),
    "sgd": lambda x, dy, a: (P.sgd, x, dy, 0.01),
    "im2row": lambda x, dy, a: (P.im2row, x[:, :16, :16].copy(), 3),
    "block_transpose": lambda x, dy, a: (P.block_transpose, x.reshape(64, 16, 4, 4)),
    "chw_to_hwc": lambda x, dy, a: (P.chw_to_hwc, x),
    "transpose": lambda x, dy, a: (P.transpose, x, (2, 0, 1)),
}
QUICK = {"add", "relu_forward", "relu_backward", "conv2d_bias_grad", "sgd", "chw_to_hwc"}
LAYOUT = {"im2row": "CHW", "block_transpose": "CHW"}


class Elementwise:
    """Kernels alone; a timed call runs the quick ones 1000 times, for a millisecond, others 50."""

    params = [list(CASES), ARITHMETICS]
    param_names = ["primitive", "arithmetic"]

    def setup(self, primitive, arithmetic):
        x, dy = tensor(IMAGE, arithmetic, 0), tensor(IMAGE, arithmetic, 1)
        function, *args = CASES[primitive](x, dy, arithmetic)
        how = {"layout": LAYOUT[primitive]} if primitive in LAYOUT else {}
        loops = 1000 if primitive in QUICK else 50
        self.program = bound(function, *args, loops=loops, arithmetic=arithmetic, **how)
        self.program.run()

    def time_kernels(self, primitive, arithmetic):
        self.program.run()
