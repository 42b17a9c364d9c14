"""Print a digest of the bits of every primitive, over fixed inputs of every hard kind.

One line per primitive, arithmetic and matmul kernel; it covers several shapes, so that the tails of
vector loops are met, and the device's core counts 1, 2 and 8. Builds for other instruction sets, by
other compilers, and other numbers of host threads must print the same lines.

Needs nothing but NumPy, ml_dtypes and pyodl, so that it can be run against any build.
"""

import argparse
import functools
import hashlib
import itertools
import zlib

import ml_dtypes
import numpy as np

from pyodl import formats
from pyodl import primitives as P
from pyodl._kernels import set_parallel_work

FORMATS = {  # arithmetic: (dtype, bits of the exponent, bits of the fraction)
    "fp16-fp32acc": (np.float16, 5, 10),
    "fp16-fma": (np.float16, 5, 10),
    "fp16-muladd": (np.float16, 5, 10),
    "bf16-fp32acc": (ml_dtypes.bfloat16, 8, 7),
    "bf16-fma": (ml_dtypes.bfloat16, 8, 7),
    "fp32": (np.float32, 8, 23),
}
CORES = (1, 2, 8)
MATMUL = (
    "naive", "naive_m", "simd_2x4", "simd_4x8", "m_simd_2x4", "m_simd_4x8",
    "unroll_2x1", "unroll_4x1", "unroll_8x1",
)  # fmt: skip
MATVEC = ("simd_2x1", "simd_4x1", "simd_8x1")
KINDS = ("moderate", "sparse", "gaps", "wide", "tiny", "large", "relu")

# The last of each list is large enough to be cut into many pieces for the host's threads.
MATRICES = [(1, 1, 1), (2, 1, 7), (3, 2, 5), (17, 33, 19), (9, 24, 50), (34, 5, 4), (130, 70, 99)]
CONVOLUTIONS = [  # channels in, out, size, kernel, stride, padding
    (1, 1, (1, 1), (1, 1), 1, 0),
    (3, 5, (7, 9), (3, 3), 1, 1),
    (4, 17, (8, 8), (3, 3), 2, 1),
    (2, 6, (6, 5), (2, 3), 1, (1, 0, 0, 2)),
    (3, 9, (9, 9), (1, 1), 2, 0),
    (2, 3, (11, 18), (5, 5), 2, 2),
    (2, 5, (33, 34), (3, 3), 1, (1, 0, 2, 1)),  # more pixels than are listed at a time
    (3, 16, (9, 10), (3, 3), 1, (0, 2, 1, 1)),  # channels that fill registers
    (16, 64, (7, 8), (1, 1), 1, 0),
    (18, 32, (8, 9), (3, 3), 2, 1),
    (9, 33, (17, 18), (3, 3), 1, 1),
]
VECTORS = [1, 2, 7, 8, 16, 33, 100, 20001]
IMAGES = [(1, 1, 1), (3, 5, 7), (4, 8, 8), (17, 6, 9), (37, 20, 21)]


@functools.lru_cache(maxsize=4096)
def hard(dtype, exponent_bits, fraction_bits, shape, kind, seed):
    """An array of sign, exponent and fraction drawn apart; half of the fractions are short."""
    rng = np.random.default_rng(seed)
    top, bias = (1 << exponent_bits) - 1, (1 << (exponent_bits - 1)) - 1
    low, high = {
        "moderate": (bias - 3, bias + 3),
        "sparse": (bias - 2, bias + 2),
        "gaps": (bias - 2, bias + 2),  # sparse, but finite, so that zeros may be left out
        "relu": (bias - 2, bias + 2),  # the same, not negative: gradients go by pixels
        "wide": (0, top + 1),  # subnormals, infinities and NaNs with payloads among them
        "tiny": (0, bias // 2 + 3),  # products are subnormal, or vanish
        "large": (bias + bias // 2 - 2, top),  # products and sums overflow
    }[kind]
    exponent = rng.integers(low, high, shape, dtype=np.uint32)
    fraction = rng.integers(0, 1 << fraction_bits, shape, dtype=np.uint32)
    # Short fractions make sums that are halfway between two neighbours.
    short = rng.integers(0, fraction_bits + 1, shape, dtype=np.uint32)
    fraction = np.where(rng.random(shape) < 0.5, fraction >> short << short, fraction)
    chance = rng.random(shape)
    if kind in ("sparse", "gaps", "relu"):
        exponent, fraction = (np.where(chance < 0.4, 0, part) for part in (exponent, fraction))
    if kind == "sparse":
        exponent = np.where(chance > 0.97, top, exponent)
        fraction = np.where(chance > 0.98, 0, fraction)
    sign = rng.integers(0, 1 if kind == "relu" else 2, shape, dtype=np.uint32)
    bits = ((sign << exponent_bits) | exponent) << fraction_bits | fraction
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    return np.ascontiguousarray(bits.astype(unsigned)).view(dtype)


class Draw:
    """Arrays of one arithmetic and kind, with a new seed each."""

    def __init__(self, arithmetic, kind, seed):
        self.arithmetic, self.kind, self.seeds = arithmetic, kind, itertools.count(seed)

    def __call__(self, *shape):
        return hard(*FORMATS[self.arithmetic], shape, self.kind, next(self.seeds))

    def signed(self, *shape):
        """An array of the same kind, but that it may be negative: a gradient."""
        kind = "gaps" if self.kind == "relu" else self.kind
        return hard(*FORMATS[self.arithmetic], shape, kind, next(self.seeds))


def cases():
    """-> iterator of (primitive, matmul kernels or None, shapes, function of draw, shape, kw)."""
    for transpose_b in (False, True):
        name = "matmul of a transpose" if transpose_b else "matmul"
        yield name, MATMUL, MATRICES, functools.partial(_matmul, transpose_b)
    yield "matvec", MATVEC, MATRICES, lambda d, s, kw: P.matvec(d(*s[:2]), d(s[1]), **kw)
    for layout, algorithm in itertools.product(("CHW", "HWC"), ("im2row", "direct")):
        kernels = MATMUL if algorithm == "im2row" else None
        for name, call in CONVOLUTION_STEPS.items():
            label = f"conv2d_{name} {layout} {algorithm}"
            yield label, kernels, CONVOLUTIONS, functools.partial(call, layout, algorithm)
    for name, call in DEPTHWISE_STEPS.items():
        yield f"depthwise_{name}", None, CONVOLUTIONS, call
    for layout in ("CHW", "HWC"):
        for name, call in POINTWISE_STEPS.items():
            label = f"pointwise_{name} {layout}"
            yield label, MATMUL, CONVOLUTIONS, functools.partial(call, layout)
    for name, call in LINEAR.items():
        yield name, None if "bias" in name else MATMUL, MATRICES, call
    for name, call in LAYOUT.items():
        yield name, None, CONVOLUTIONS, call
    for name, call in VECTOR.items():
        yield name, None, VECTORS, call
    for name, call in IMAGE.items():
        yield name, None, IMAGES, call
    for name, call in OPERATIONS.items():
        yield name, None, VECTORS, call


def _matmul(transpose_b, d, shape, kw):
    n, k, m = shape
    b = d(m, k) if transpose_b else d(k, m)
    return P.matmul(d(n, k), b, transpose_b=transpose_b, **kw)


def _image(layout, channels, size):
    return (channels, *size) if layout == "CHW" else (*size, channels)


def _weights(layout, c_out, c_in, kernel):
    return (c_out, c_in, *kernel) if layout == "CHW" else (c_out, *kernel, c_in)


def _out_size(size, kernel, stride, padding):
    up, down, left, right = (padding,) * 4 if isinstance(padding, int) else padding
    rows, columns = size[0] + up + down - kernel[0], size[1] + left + right - kernel[1]
    return rows // stride + 1, columns // stride + 1


def _conv_forward(layout, algorithm, d, shape, kw):
    c_in, c_out, size, kernel, stride, padding = shape
    geometry = {"stride": stride, "padding": padding, "layout": layout, "algorithm": algorithm}
    x, w = d(*_image(layout, c_in, size)), d(*_weights(layout, c_out, c_in, kernel))
    return P.conv2d_forward(x, w, d(c_out), **geometry, **kw)


def _conv_weight_grad(layout, algorithm, d, shape, kw):
    c_in, c_out, size, kernel, stride, padding = shape
    geometry = {"stride": stride, "padding": padding, "layout": layout, "algorithm": algorithm}
    dy = d.signed(*_image(layout, c_out, _out_size(size, *shape[3:])))
    return P.conv2d_weight_grad(d(*_image(layout, c_in, size)), dy, kernel, **geometry, **kw)


def _conv_input_grad(layout, algorithm, d, shape, kw):
    c_in, c_out, size, kernel, stride, padding = shape
    geometry = {"stride": stride, "padding": padding, "layout": layout, "algorithm": algorithm}
    dy = d(*_image(layout, c_out, _out_size(size, *shape[3:])))
    w = d(*_weights(layout, c_out, c_in, kernel))
    return P.conv2d_input_grad(w, dy, size, **geometry, **kw)


def _conv_bias_grad(layout, algorithm, d, shape, kw):
    dy = d(*_image(layout, shape[1], _out_size(shape[2], *shape[3:])))
    kw = {name: value for name, value in kw.items() if name != "kernel"}
    return P.conv2d_bias_grad(dy, layout=layout, algorithm=algorithm, **kw)


CONVOLUTION_STEPS = {
    "forward": _conv_forward,
    "weight_grad": _conv_weight_grad,
    "input_grad": _conv_input_grad,
    "bias_grad": _conv_bias_grad,
}


def _depthwise(step):
    def call(d, shape, kw):
        channels, size, kernel, (stride, padding) = shape[1], shape[2], shape[3], shape[4:]
        geometry = {"stride": stride, "padding": padding}
        x, w = d(channels, *size), d(channels, *kernel)
        dy = d(channels, *_out_size(size, *shape[3:]))
        if step == "forward":
            return P.depthwise_forward(x, w, **geometry, **kw)
        if step == "weight_grad":
            return P.depthwise_weight_grad(x, dy, kernel, **geometry, **kw)
        return P.depthwise_input_grad(w, dy, size, **geometry, **kw)

    return call


DEPTHWISE_STEPS = {step: _depthwise(step) for step in ("forward", "weight_grad", "input_grad")}


def _pointwise(step):
    def call(layout, d, shape, kw):
        c_in, c_out, size = shape[:3]
        x, dy = d(*_image(layout, c_in, size)), d(*_image(layout, c_out, size))
        operands = {
            "forward": (x, d(c_out, c_in)),
            "weight_grad": (x, dy),
            "input_grad": (d(c_out, c_in), dy),
        }[step]
        return getattr(P, f"pointwise_{step}")(*operands, layout=layout, **kw)

    return call


POINTWISE_STEPS = {step: _pointwise(step) for step in ("forward", "weight_grad", "input_grad")}
LINEAR = {
    "linear_forward": lambda d, s, kw: P.linear_forward(d(s[1]), d(s[0], s[1]), d(s[0]), **kw),
    "linear_weight_grad": lambda d, s, kw: P.linear_weight_grad(d(s[1]), d(s[0]), **kw),
    "linear_bias_grad": lambda d, s, kw: P.linear_bias_grad(d(s[0]), **kw),
    "linear_input_grad": lambda d, s, kw: P.linear_input_grad(d(s[0], s[1]), d(s[0]), **kw),
}


def _unroll(function, layout):
    def call(d, shape, kw):
        c_in, _, size, kernel, stride, padding = shape
        x = d(*_image(layout, c_in, size))
        return function(x, kernel, stride=stride, padding=padding, layout=layout, **kw)

    return call


def _block_transpose(layout):
    return lambda d, s, kw: P.block_transpose(
        d(*_weights(layout, s[1], s[0], s[3])), layout=layout, **kw
    )


def _pad(layout):
    return lambda d, s, kw: P.pad(d(*_image(layout, s[1], s[2])), (1, 2, 0, 3), layout=layout, **kw)


LAYOUT = {
    f"{name} {layout}": make(layout)
    for layout in ("CHW", "HWC")
    for name, make in {
        "im2row": functools.partial(_unroll, P.im2row),
        "im2col": functools.partial(_unroll, P.im2col),
        "block_transpose": _block_transpose,
        "pad": _pad,
    }.items()
} | {
    "chw_to_hwc": lambda d, s, kw: P.chw_to_hwc(d(s[1], *s[2]), **kw),
    "hwc_to_chw": lambda d, s, kw: P.hwc_to_chw(d(*s[2], s[1]), **kw),
    "transpose": lambda d, s, kw: P.transpose(d(s[0], s[1], *s[2]), (2, 0, 3, 1), **kw),
}


def _loss(name):
    return lambda d, n, kw: getattr(P, name)(d(n), d(n), **kw)


VECTOR = {
    "relu_forward": lambda d, n, kw: P.relu_forward(d(n), **kw),
    "relu_backward": lambda d, n, kw: P.relu_backward(d(n), d(n), **kw),
    "leaky_relu_forward": lambda d, n, kw: P.leaky_relu_forward(d(n), 0.1, **kw),
    "leaky_relu_backward": lambda d, n, kw: P.leaky_relu_backward(d(n), d(n), 0.1, **kw),
    "sigmoid_forward": lambda d, n, kw: P.sigmoid_forward(d(n), **kw),
    "sigmoid_backward": lambda d, n, kw: P.sigmoid_backward(d(n), d(n), **kw),
    "softmax_forward expf": lambda d, n, kw: P.softmax_forward(d(n), exp="expf", **kw),
    "softmax_forward fast": lambda d, n, kw: P.softmax_forward(d(3, n), exp="fast", **kw),
    "softmax_backward": lambda d, n, kw: P.softmax_backward(d(3, n), d(3, n), **kw),
    "add": lambda d, n, kw: P.add(d(n), d(n), **kw),
    "sgd": lambda d, n, kw: P.sgd(d(n), d(n), 0.01, **kw),
    "sgd with decay": lambda d, n, kw: P.sgd(d(n), d(n), 0.01, 0.1, **kw),
} | {
    name + gradient: _loss(name + gradient)
    for name in ("cross_entropy", "mse", "l1", "berhu")
    for gradient in ("", "_grad")
}


def _operation(name, operands):
    def call(d, n, kw):
        arrays = [d(n) for _ in range(operands)]
        return getattr(formats, name)(*arrays, arrays[0].dtype.name)

    return call


OPERATIONS = {
    f"formats.{name}": _operation(name, operands)
    for name, operands in (
        ("add", 2), ("sub", 2), ("mul", 2), ("div", 2), ("sqrt", 1), ("fma", 3), ("round_to", 1),
    )
}  # fmt: skip


def _pool(name, *, backward):
    def call(d, shape, kw):
        window = tuple(min(3, n) for n in shape[1:]), (1, 2)
        out = tuple((n - k) // s + 1 for n, k, s in zip(shape[1:], *window, strict=True))
        if not backward:
            return getattr(P, f"{name}_pool_forward")(d(*shape), *window, **kw)
        dy = d(shape[0], *out)
        if name == "avg":
            return P.avg_pool_backward(dy, shape[1:], *window, **kw)
        return P.max_pool_backward(d(*shape), dy, *window, **kw)

    return call


IMAGE = {
    f"{name}_pool_{'backward' if backward else 'forward'}": _pool(name, backward=backward)
    for name in ("avg", "max")
    for backward in (False, True)
} | {
    "instance_norm_forward": lambda d, s, kw: P.instance_norm_forward(
        d(*s), d(s[0]), d(s[0]), **kw
    ),
    "instance_norm_param_grad": lambda d, s, kw: P.instance_norm_param_grad(
        d(*s), d(*s), d(s[0]), d(s[0]), **kw
    ),
    "instance_norm_input_grad": lambda d, s, kw: P.instance_norm_input_grad(
        d(*s), d(*s), d(s[0]), d(s[0]), d(s[0]), d(s[0]), **kw
    ),
}


def environments(i, *, last, quick):
    """-> the kinds of data and core counts for the i-th shape; in short, three pairs of them."""
    if last:  # a large shape has every kind of value anyway
        return [("moderate", 8), ("gaps", 8), ("relu", 8), ("sparse", 1)]
    if not quick:
        return itertools.product(KINDS, CORES)
    return [(KINDS[(i + 2 * j) % len(KINDS)], cores) for j, cores in enumerate(CORES)]


def digest(call, shapes, arithmetic, kernel, options):
    """-> a digest of the bits of one primitive: every shape, kind of data and core count."""
    bits = hashlib.sha256()
    extra = {} if kernel is None else {"kernel": kernel}
    for i, shape in enumerate(shapes):
        for kind, cores in environments(i, last=i + 1 == len(shapes), quick=options.quick):
            # The same operands for every kernel, arithmetic of a format and number of cores.
            draw = Draw(arithmetic, kind, zlib.crc32(f"{kind} {i}".encode()))
            kw = {"arithmetic": arithmetic, "cores": cores, "num_threads": options.threads, **extra}
            results = call(draw, shape, kw)
            for result in results if isinstance(results, tuple) else (results,):
                bits.update(np.ascontiguousarray(result).tobytes())
    return bits.hexdigest()[:24]


def main():
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="host threads")
    parser.add_argument("--quick", action="store_true", help="a fifth of it")
    parser.add_argument("--arithmetic", action="append", choices=FORMATS, help="only these")
    options = parser.parse_args()
    set_parallel_work(0)  # or small operations would run on one thread whatever is asked for
    for name, kernels, shapes, call in cases():
        for arithmetic in options.arithmetic or FORMATS:
            for kernel in kernels or (None,):
                found = digest(call, shapes, arithmetic, kernel, options)
                print(f"{name}, {arithmetic}, {kernel or '-'}: {found}", flush=True)


if __name__ == "__main__":
    main()
