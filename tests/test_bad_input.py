"""What a primitive refuses, with which exception, and that the message names the argument."""

import re
from fractions import Fraction

import numpy as np
import pytest

from pyodl import primitives as P


def _array(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float16)


GEOMETRY = {"stride": 1, "padding": 1, "layout": "CHW", "algorithm": "im2row"}
X, W, DY = ("x", (2, 6, 5)), ("w", (3, 2, 3, 3)), ("dy", (3, 6, 5))
DW = {"stride": 1, "padding": 1}

# name: (array arguments in order, other positional arguments, keyword arguments)
CALLS = {
    "matmul": ([("a", (3, 4)), ("b", (4, 5))], {}, {"kernel": "naive"}),
    "matvec": ([("a", (3, 4)), ("v", (4,))], {}, {"kernel": "simd_2x1"}),
    "im2row": ([X], {"kernel_size": 3}, {"stride": 1, "padding": 1, "layout": "CHW"}),
    "im2col": ([X], {"kernel_size": 3}, {"stride": 1, "padding": 1, "layout": "CHW"}),
    "block_transpose": ([W], {}, {"layout": "CHW"}),
    "pad": ([X], {"padding": 1}, {"layout": "CHW"}),
    "chw_to_hwc": ([X], {}, {}),
    "hwc_to_chw": ([X], {}, {}),
    "transpose": ([X], {"axes": (2, 0, 1)}, {}),
    "conv2d_forward": ([X, W, ("bias", (3,))], {}, {**GEOMETRY, "kernel": "naive"}),
    "conv2d_weight_grad": ([X, DY], {"kernel_size": 3}, {**GEOMETRY, "kernel": "naive"}),
    "conv2d_bias_grad": ([DY], {}, {"layout": "CHW", "algorithm": "im2row"}),
    "conv2d_input_grad": ([W, DY], {"input_size": (6, 5)}, {**GEOMETRY, "kernel": "naive"}),
    "depthwise_forward": ([X, ("w", (2, 3, 3))], {}, DW),
    "depthwise_weight_grad": ([X, ("dy", (2, 6, 5))], {"kernel_size": 3}, DW),
    "depthwise_input_grad": ([("w", (2, 3, 3)), ("dy", (2, 6, 5))], {"input_size": (6, 5)}, DW),
    "pointwise_forward": ([X, ("w", (3, 2))], {}, {"layout": "CHW", "kernel": "naive"}),
    "pointwise_weight_grad": ([X, DY], {}, {"layout": "CHW", "kernel": "naive"}),
    "pointwise_input_grad": ([("w", (3, 2)), DY], {}, {"layout": "CHW", "kernel": "naive"}),
    "linear_forward": ([("x", (4,)), ("w", (3, 4)), ("bias", (3,))], {}, {"kernel": "naive"}),
    "linear_weight_grad": ([("x", (4,)), ("dy", (3,))], {}, {"kernel": "naive"}),
    "linear_bias_grad": ([("dy", (3,))], {}, {}),
    "linear_input_grad": ([("w", (3, 4)), ("dy", (3,))], {}, {"kernel": "naive"}),
    "relu_forward": ([X], {}, {}),
    "relu_backward": ([X, ("dy", (2, 6, 5))], {}, {}),
    "leaky_relu_forward": ([X], {"slope": 0.1}, {}),
    "leaky_relu_backward": ([X, ("dy", (2, 6, 5))], {"slope": 0.1}, {}),
    "sigmoid_forward": ([X], {}, {}),
    "sigmoid_backward": ([("y", (2, 6)), ("dy", (2, 6))], {}, {}),
    "softmax_forward": ([("x", (2, 6))], {}, {"exp": "expf"}),
    "softmax_backward": ([("y", (2, 6)), ("dy", (2, 6))], {}, {}),
    "avg_pool_forward": ([X], {"kernel_size": 2, "stride": 2}, {}),
    "avg_pool_backward": (
        [("dy", (2, 3, 2))], {"input_size": (6, 5), "kernel_size": 2, "stride": 2}, {},
    ),
    "max_pool_forward": ([X], {"kernel_size": 2, "stride": 2}, {}),
    "max_pool_backward": ([X, ("dy", (2, 3, 2))], {"kernel_size": 2, "stride": 2}, {}),
    "add": ([("a", (2, 3)), ("b", (2, 3))], {}, {}),
    "instance_norm_forward": ([X, ("gamma", (2,)), ("beta", (2,))], {}, {}),
    "instance_norm_input_grad": (
        [X, ("dy", (2, 6, 5)), *[(n, (2,)) for n in ("gamma", "mean", "std", "var")]], {}, {},
    ),
    "instance_norm_param_grad": (
        [X, ("dy", (2, 6, 5)), ("mean", (2,)), ("std", (2,))], {}, {},
    ),
    "cross_entropy": ([("logits", (4,)), ("target", (4,))], {}, {}),
    "cross_entropy_grad": ([("logits", (4,)), ("target", (4,))], {}, {}),
    **{
        name + suffix: ([("output", (4,)), ("target", (4,))], {}, {})
        for name in ("mse", "l1", "berhu")
        for suffix in ("", "_grad")
    },
    "sgd": ([("w", (2, 3)), ("grad", (2, 3))], {"lr": 0.1}, {"weight_decay": 0.01}),
}  # fmt: skip

MOVES = ["im2row", "im2col", "block_transpose", "pad", "chw_to_hwc", "hwc_to_chw", "transpose"]
COMPUTING = [n for n in CALLS if n not in MOVES]
ANY_SHAPE = [  # one array of any number of axes
    "relu_forward", "leaky_relu_forward", "sigmoid_forward",
]  # fmt: skip


def call(name, **changed):
    """Call a primitive with some arguments replaced; arrays are checked to stay as they were."""
    arrays, positional, keywords = CALLS[name]
    drawn = {n: _array(*shape) for n, shape in arrays} | positional
    arguments = [changed.pop(n, value) for n, value in drawn.items()]
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    try:
        return getattr(P, name)(*arguments, **{**keywords, **changed})
    finally:
        for now, then in zip(arguments, before, strict=True):
            if isinstance(now, np.ndarray):
                assert now.tobytes() == then.tobytes(), f"{name} wrote into an argument"


def refuses(exception, argument, name, **changed):
    """The call raises, and its message names the argument (or one of several)."""
    names = argument if isinstance(argument, tuple) else (argument,)
    with pytest.raises(exception) as caught:
        call(name, **changed)
    found = [n for n in names if re.search(rf"\b{n}\b", str(caught.value))]
    assert found, f"none of {names} in: {caught.value}"
    return str(caught.value)


def each_array(of=CALLS):
    return pytest.mark.parametrize(
        "name, argument, shape", [(n, a, s) for n in of for a, s in CALLS[n][0]]
    )


def taking(keyword):
    """Functions whose call above has the keyword, or has it among the positional arguments."""
    return [n for n, (_, positional, keys) in CALLS.items() if keyword in {**positional, **keys}]


@pytest.mark.parametrize("name", CALLS)
def test_the_calls_of_this_file_are_valid(name):
    call(name)


@each_array()
def test_wrong_dtype(name, argument, shape):
    for dtype in (np.float64, np.complex64, np.bool_):
        refuses(TypeError, argument, name, **{argument: np.ones(shape, dtype)})
    refuses(TypeError, argument, name, **{argument: np.ones(shape, object)})


@each_array(COMPUTING)
def test_another_formats_dtype(name, argument, shape):
    import ml_dtypes

    for dtype in (np.float32, ml_dtypes.bfloat16, np.uint16):
        refuses(TypeError, argument, name, **{argument: np.ones(shape, dtype)})


@each_array()
def test_not_an_array(name, argument, shape):
    refuses(TypeError, argument, name, **{argument: np.ones(shape, np.float16).tolist()})
    refuses(TypeError, argument, name, **{argument: "x"})


@each_array([n for n in CALLS if n not in ANY_SHAPE])
def test_wrong_number_of_axes(name, argument, shape):
    others = tuple(n for n, _ in CALLS[name][0])
    if name == "transpose":
        others = ("x", "axes")
    message = {"x": ("x", *others), "y": others, "a": others, "output": others, "logits": others}
    wanted = message.get(argument, (argument, *others))
    for wrong in ((1, *shape), (*shape, 1, 1, 1)):
        if name in ("softmax_forward", "cross_entropy", "cross_entropy_grad") and len(wrong) == 2:
            continue  # two axes are rows; a loss may take any shape that its target shares
        refuses(ValueError, wanted, name, **{argument: _array(*wrong)})


@each_array()
def test_not_contiguous(name, argument, shape):
    wide = _array(*shape[:-1], 2 * shape[-1])[..., ::2]
    refuses(ValueError, argument, name, **{argument: wide})
    if len(shape) > 1:
        fortran = np.asfortranarray(_array(*shape))
        refuses(ValueError, argument, name, **{argument: fortran})
    backwards = _array(*shape)[..., ::-1]
    refuses(ValueError, argument, name, **{argument: backwards})


@each_array()
def test_empty(name, argument, shape):
    others = tuple(n for n, _ in CALLS[name][0])
    for axis in range(len(shape)):
        empty = tuple(0 if i == axis else n for i, n in enumerate(shape))
        refuses(ValueError, (argument, *others), name, **{argument: _array(*empty)})


@pytest.mark.parametrize("name", [*ANY_SHAPE, "transpose"])
def test_empty_names_the_argument(name):
    refuses(ValueError, "x", name, x=np.zeros((2, 0, 5), np.float16))


@each_array([n for n in CALLS if len(CALLS[n][0]) > 1])
def test_shapes_that_do_not_match(name, argument, shape):
    """One more along any axis that another argument fixes; the message names one of the two."""
    others = (*(n for n, _ in CALLS[name][0]), *CALLS[name][1])
    free = {  # axes that nothing else fixes
        "matmul": {"a": [0], "b": [1]},
        "matvec": {"a": [0]},
        "conv2d_forward": {"x": [1, 2], "w": [2, 3]},
        "conv2d_weight_grad": {"dy": [0], "x": [0]},
        "conv2d_input_grad": {"w": [1]},
        "depthwise_forward": {"x": [1, 2], "w": [1, 2]},
        "pointwise_forward": {"x": [1, 2], "w": [0]},
        "pointwise_weight_grad": {"x": [0], "dy": [0]},
        "pointwise_input_grad": {"w": [1], "dy": [1, 2]},
        "linear_forward": {"w": []},
        "linear_weight_grad": {"x": [0], "dy": [0]},
        "linear_input_grad": {"w": [1]},
        "instance_norm_forward": {"x": [1, 2]},
        "max_pool_backward": {},
    }.get(name, {})
    for axis in range(len(shape)):
        if axis in free.get(argument, []):
            continue
        wrong = tuple(n + 2 if i == axis else n for i, n in enumerate(shape))
        refuses(ValueError, others, name, **{argument: _array(*wrong)})


@pytest.mark.parametrize("name", COMPUTING)
def test_arithmetic(name):
    message = refuses(ValueError, "arithmetic", name, arithmetic="fp8")
    assert "fp16-fma" in message
    assert "bf16-fp32acc" in message
    refuses((TypeError, ValueError), "arithmetic", name, arithmetic=None)
    refuses((TypeError, ValueError), "arithmetic", name, arithmetic=16)


@pytest.mark.parametrize("count", ["cores", "num_threads"])
@pytest.mark.parametrize("name", COMPUTING)
def test_counts(name, count):
    for wrong in (0, -1, -(2**40)):
        refuses(ValueError, count, name, **{count: wrong})
    for wrong in (True, np.True_, 1.0, 2.5, "2", (2,), Fraction(2)):
        refuses(TypeError, count, name, **{count: wrong})


@pytest.mark.parametrize("name", COMPUTING)
def test_numpy_integers_are_counts(name):
    call(name, cores=np.int64(4), num_threads=np.uint8(2))


@pytest.mark.parametrize(
    "keyword, known",
    [
        ("kernel", ["naive", "simd_4x8", "unroll_8x1"]),
        ("layout", ["CHW", "HWC"]),
        ("algorithm", ["direct", "im2row"]),
        ("exp", ["expf", "fast"]),
    ],
)
def test_names(keyword, known):
    for name in taking(keyword):
        names = ["simd_2x1", "simd_8x1"] if (name, keyword) == ("matvec", "kernel") else known
        for wrong in ("nchw", "", known[0].upper() + "_"):
            message = refuses(ValueError, keyword, name, **{keyword: wrong})
            assert all(n in message for n in names), message
        refuses((TypeError, ValueError), keyword, name, **{keyword: 3})
        refuses((TypeError, ValueError), keyword, name, **{keyword: None})


def test_the_kernels_of_matmul_and_matvec_are_not_exchanged():
    refuses(ValueError, "kernel", "matmul", kernel="simd_2x1")
    refuses(ValueError, "kernel", "matvec", kernel="naive")


@pytest.mark.parametrize("name", taking("stride"))
def test_stride(name):
    for wrong in (0, -1):
        refuses(ValueError, "stride", name, stride=wrong)
    for wrong in (True, 1.5, "1", None):
        refuses(TypeError, "stride", name, stride=wrong)
    if "pool" in name:
        refuses(ValueError, "stride", name, stride=(1, 0))
        refuses((TypeError, ValueError), "stride", name, stride=(1, 1, 1))
        refuses(TypeError, "stride", name, stride=(True, 1))


@pytest.mark.parametrize("name", taking("padding"))
def test_padding(name):
    for wrong in (-1, (0, 0, 0, -1), (-2, 1, 1, 1)):
        refuses(ValueError, "padding", name, padding=wrong)
    for wrong in ((1, 1), (1, 1, 1), (1,) * 5, ()):
        refuses((TypeError, ValueError), "padding", name, padding=wrong)
    for wrong in (True, 0.5, "1", (1, 1, 1, 1.0), (True, 1, 1, 1), None):
        refuses(TypeError, "padding", name, padding=wrong)


@pytest.mark.parametrize("size", ["kernel_size", "input_size"])
def test_sizes(size):
    for name in taking(size):
        for wrong in (0, -3, (3, 0), (-1, 3)):
            refuses(ValueError, size, name, **{size: wrong})
        for wrong in (True, 2.0, "3", (3, 3.0), (True, 3), None):
            refuses(TypeError, size, name, **{size: wrong})
        refuses((TypeError, ValueError), size, name, **{size: (3, 3, 3)})


@pytest.mark.parametrize("name", taking("kernel_size"))
def test_kernel_larger_than_the_padded_input(name):
    argument = ("kernel_size", *(n for n, _ in CALLS[name][0]), "input_size")
    for wrong in (9, (9, 1), (1, 8), 2**40):
        refuses(ValueError, argument, name, kernel_size=wrong)


def test_weights_larger_than_the_padded_input():
    refuses(ValueError, ("w", "x"), "conv2d_forward", w=_array(3, 2, 9, 3))
    refuses(ValueError, ("w", "x"), "depthwise_forward", w=_array(2, 3, 8))
    refuses(ValueError, ("w", "dy", "input_size"), "conv2d_input_grad", input_size=(1, 1))


@pytest.mark.parametrize("name", taking("input_size"))
def test_input_size_that_does_not_give_the_output(name):
    for wrong in ((9, 5), (6, 9), 12, 2**40):
        refuses(ValueError, ("input_size", "dy"), name, input_size=wrong)


def test_axes():
    for wrong in ((0, 1), (0, 1, 1), (0, 1, 3), (0, 1, 2, 3), ()):
        refuses(ValueError, "axes", "transpose", axes=wrong)
    for wrong in ((0, 1, 2.0), 3, None):
        refuses((TypeError, ValueError), "axes", "transpose", axes=wrong)


@pytest.mark.parametrize(
    "argument, name",
    [
        ("lr", "sgd"),
        ("weight_decay", "sgd"),
        ("slope", "leaky_relu_forward"),
        ("slope", "leaky_relu_backward"),
        ("alpha", "berhu"),
        ("alpha", "berhu_grad"),
    ],
)
def test_scalars(argument, name):
    for wrong in ("0.1", None, 1j, [0.1]):
        refuses(TypeError, argument, name, **{argument: wrong})


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_grad"])
def test_targets_that_are_no_vector(name):
    for wrong in (-1, 4, 2**40, float("nan"), 1.5, None):
        refuses((TypeError, ValueError), "target", name, target=wrong)


def test_mean_and_deviation_come_together():
    given = _array(2)
    refuses((TypeError, ValueError), ("mean", "std"), "instance_norm_forward", mean=given)
    refuses((TypeError, ValueError), ("mean", "std"), "instance_norm_forward", std=given)
    for argument in ("mean", "std"):
        both = {"mean": given, "std": given}
        both[argument] = _array(3)
        refuses(ValueError, argument, "instance_norm_forward", **both)
        both[argument] = np.ones(2, np.float32)
        refuses(TypeError, argument, "instance_norm_forward", **both)
        both[argument] = _array(4)[::2]
        refuses(ValueError, argument, "instance_norm_forward", **both)


def test_read_only_arrays_are_welcome():
    for name, (arrays, _, _) in CALLS.items():
        frozen = {n: _array(*shape) for n, shape in arrays}
        for a in frozen.values():
            a.flags.writeable = False
        call(name, **frozen)


def test_unknown_keywords_are_refused():
    for name in CALLS:
        with pytest.raises(TypeError):
            call(name, colour="red")


def test_tensors_beyond_the_kernels_offsets():
    x, w = np.ones((8, 2, 2), np.float16), np.ones((8, 3, 3), np.float16)
    with pytest.raises(ValueError, match=r"a tensor has \d+ elements with its padding"):
        P.depthwise_forward(x, w, padding=9000, stride=1000)
    x, w = np.ones((2, 2, 8), np.float16), np.ones((8, 3, 3, 8), np.float16)
    with pytest.raises(ValueError, match=r"it must have fewer than 2\*\*31"):
        P.conv2d_forward(x, w, padding=9000, stride=1000, layout="HWC")
