"""1x1 convolutions and fully connected layers: one matmul each."""

from .arith import ARITHMETICS
from .reduce import matmul_values


def pointwise_forward(
    x,
    w,
    *,
    layout="CHW",
    kernel="naive",
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    ar = ARITHMETICS[arithmetic]
    x, w = ar.load(x), ar.load(w)
    if layout == "CHW":
        y = matmul_values(ar, w, x.reshape(len(x), -1), False, kernel, cores, tile)
        return ar.store(y.reshape(-1, *x.shape[1:]))
    y = matmul_values(ar, x.reshape(-1, x.shape[2]), w, True, kernel, cores, tile)
    return ar.store(y.reshape(*x.shape[:2], -1))


def pointwise_weight_grad(
    x,
    dy,
    *,
    layout="CHW",
    kernel="naive",
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    ar = ARITHMETICS[arithmetic]
    x, dy = ar.load(x), ar.load(dy)
    if layout == "CHW":
        x, dy = x.reshape(len(x), -1), dy.reshape(len(dy), -1)
    else:
        x, dy = x.reshape(-1, x.shape[2]).T, dy.reshape(-1, dy.shape[2]).T
    return ar.store(matmul_values(ar, dy, x, True, kernel, cores, tile))


def pointwise_input_grad(
    w,
    dy,
    *,
    layout="CHW",
    kernel="naive",
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    ar = ARITHMETICS[arithmetic]
    w, dy = ar.load(w), ar.load(dy)
    if layout == "CHW":
        dx = matmul_values(ar, w.T, dy.reshape(len(dy), -1), False, kernel, cores, tile)
        return ar.store(dx.reshape(-1, *dy.shape[1:]))
    dx = matmul_values(ar, dy.reshape(-1, dy.shape[2]), w.T, True, kernel, cores, tile)
    return ar.store(dx.reshape(*dy.shape[:2], -1))


def linear_forward(
    x,
    w,
    bias=None,
    *,
    kernel="naive",
    arithmetic="fp16-fp32acc",
    cores=8,
    num_threads=None,
    tile=None,
):
    ar = ARITHMETICS[arithmetic]
    y = ar.stored(
        matmul_values(ar, ar.load(w), ar.load(x)[:, None], False, kernel, cores, tile)[:, 0]
    )
    return ar.store(y if bias is None else ar.add(y, ar.load(bias)))


def linear_weight_grad(
    x, dy, *, kernel="naive", arithmetic="fp16-fp32acc", cores=8, num_threads=None, tile=None
):
    ar = ARITHMETICS[arithmetic]
    return ar.store(
        matmul_values(ar, ar.load(dy)[:, None], ar.load(x)[None, :], False, kernel, cores, tile)
    )


def linear_bias_grad(dy, *, arithmetic="fp16-fp32acc", cores=8, num_threads=None):
    """A copy: there is one output pixel, and the bits of a move are kept."""
    return dy.copy()


def linear_input_grad(
    w, dy, *, kernel="naive", arithmetic="fp16-fp32acc", cores=8, num_threads=None, tile=None
):
    ar = ARITHMETICS[arithmetic]
    return ar.store(
        matmul_values(ar, ar.load(dy)[None, :], ar.load(w), False, kernel, cores, tile)[0]
    )
