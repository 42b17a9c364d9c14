"""Convolutions of every kind, bit for bit: forward, weight, bias and input gradients."""

import pytest
from agreement import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import FLOAT16
from strategies import (
    environments,
    filled,
    in_layout,
    kernels,
    layouts,
    threads,
    weights_in_layout,
    windows,
)

# Direct convolutions exist in CHW only.
paths = st.tuples(layouts, st.sampled_from(["direct", "im2row"]))


def _call(g, path, kernel, num_threads, common):
    layout, algorithm = path
    return {
        "stride": g["stride"], "padding": g["padding"], "layout": layout, "algorithm": algorithm,
        "kernel": kernel, "num_threads": num_threads, **common,
    }  # fmt: skip


@settings(max_examples=300)
@given(environments(), windows(), paths, kernels, st.booleans(), threads)
def test_forward(environment, g, path, kernel, biased, num_threads):
    common, array = environment
    x = array(*in_layout(path[0], g["cin"], g["size"]))
    w = array(*weights_in_layout(path[0], g["cout"], g["cin"], g["kernel"]))
    bias = array(g["cout"]) if biased else None
    agree("conv2d_forward", x, w, bias, **_call(g, path, kernel, num_threads, common))


@settings(max_examples=300)
@given(environments(), windows(), paths, kernels, threads)
def test_weight_grad(environment, g, path, kernel, num_threads):
    common, array = environment
    x = array(*in_layout(path[0], g["cin"], g["size"]))
    dy = array(*in_layout(path[0], g["cout"], g["out"]))
    call = _call(g, path, kernel, num_threads, common)
    agree("conv2d_weight_grad", x, dy, g["kernel"], **call)


@settings(max_examples=400)
@given(environments(), windows(), paths, kernels, threads)
def test_input_grad(environment, g, path, kernel, num_threads):
    common, array = environment
    w = array(*weights_in_layout(path[0], g["cout"], g["cin"], g["kernel"]))
    dy = array(*in_layout(path[0], g["cout"], g["out"]))
    call = _call(g, path, kernel, num_threads, common)
    agree("conv2d_input_grad", w, dy, g["size"], **call)


@given(environments(), windows(), paths, threads)
def test_bias_grad(environment, g, path, num_threads):
    common, array = environment
    dy = array(*in_layout(path[0], g["cout"], g["out"]))
    named = {"layout": path[0], "algorithm": path[1]}
    agree("conv2d_bias_grad", dy, num_threads=num_threads, **named, **common)


@settings(max_examples=150)
@given(environments(), windows(), threads)
def test_depthwise(environment, g, num_threads):
    common, array = environment
    x, w = array(g["cin"], *g["size"]), array(g["cin"], *g["kernel"])
    dy = array(g["cin"], *g["out"])
    call = {"stride": g["stride"], "padding": g["padding"], "num_threads": num_threads, **common}
    agree("depthwise_forward", x, w, **call)
    agree("depthwise_weight_grad", x, dy, g["kernel"], **call)
    agree("depthwise_input_grad", w, dy, g["size"], **call)


@pytest.mark.parametrize("arithmetic", ["fp16-fp32acc", "fp16-fma", "fp16-muladd"])
@pytest.mark.parametrize(
    "stride, kernel, filters",
    [(1, 3, 37), (1, 3, 16), (2, 3, 37), (2, 1, 37), (1, 5, 8), (2, 5, 37)],
)
def test_shapes_that_fill_the_vector_registers(arithmetic, stride, kernel, filters):
    """Sizes beyond the drawn ones: whole tiles of all shapes, and tiles with a ragged edge."""
    channels, size = 19, 17
    out = (size + 2 * (kernel // 2) - kernel) // stride + 1
    x = filled((channels, size, size), FLOAT16, "normal", 1)
    w = filled((filters, channels, kernel, kernel), FLOAT16, "normal", 2)
    dy = filled((filters, out, out), FLOAT16, "zeros", 3)
    for algorithm in ("direct", "im2row"):
        call = {"stride": stride, "padding": kernel // 2, "algorithm": algorithm}
        call |= {"layout": "CHW", "arithmetic": arithmetic, "num_threads": 2}
        agree("conv2d_forward", x, w, **call)
        agree("conv2d_weight_grad", x, dy, kernel, **call)
        agree("conv2d_input_grad", w, dy, size, **call)


def test_defaults_and_whole_numbers_for_pairs():
    x, w = filled((2, 6, 6), FLOAT16, "normal", 1), filled((3, 2, 3, 3), FLOAT16, "normal", 2)
    y = agree("conv2d_forward", x, w)
    named = agree(
        "conv2d_forward", x, w, None, stride=1, padding=(0, 0, 0, 0), layout="CHW",
        algorithm="im2row", kernel="naive", arithmetic="fp16-fp32acc", cores=8,
    )  # fmt: skip
    assert (y == named).all()
    call = {"stride": 1, "padding": 0, "layout": "CHW", "algorithm": "im2row"}
    agree("conv2d_weight_grad", x, y, 3, **call)
    agree("conv2d_input_grad", w, y, 6, **call)
