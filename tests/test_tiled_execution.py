"""Tiles that leave K whole change no bit; tiles that cut it store and reload every part."""

import numpy as np
import pytest
from agreement import agree, assert_same, bits
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    arithmetics,
    environments,
    in_layout,
    kernels,
    layouts,
    seeds,
    sizes,
    threads,
    weights_in_layout,
    windows,
)

import pyodl
from pyodl import primitives
from pyodl.device import Device, memory
from pyodl.device.steps import steps
from pyodl.device.tiles import Tile, candidates, network_tiles, plan
from pyodl.layers import (
    Add,
    AvgPool2D,
    Conv2D,
    DepthwiseConv2D,
    Flatten,
    Linear,
    PointwiseConv2D,
    ReLU,
)

paths = st.tuples(layouts, st.sampled_from(["direct", "im2row"]))
whole_k = st.tuples(st.integers(1, 9), st.integers(1, 9))
any_k = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
tiles = st.one_of(whole_k, any_k)


@settings(max_examples=150)
@given(environments(), sizes, sizes, sizes, st.booleans(), kernels, st.data(), threads)
def test_matmul(environment, n, k, m, transpose_b, kernel, data, num_threads):
    common, array = environment
    a, b = array(n, k), array(*((m, k) if transpose_b else (k, m)))
    extents = st.integers(1, 25)
    tile = (data.draw(extents), data.draw(extents), data.draw(st.none() | extents))
    how = {"transpose_b": transpose_b, "kernel": kernel, "tile": tile}
    agree("matmul", a, b, num_threads=num_threads, **how, **common)


def _call(g, path, kernel, num_threads, tile, common):
    layout, algorithm = path
    return {
        "stride": g["stride"], "padding": g["padding"], "layout": layout, "algorithm": algorithm,
        "kernel": kernel, "num_threads": num_threads, "tile": tile, **common,
    }  # fmt: skip


@settings(max_examples=150)
@given(environments(), windows(), paths, kernels, tiles, threads)
def test_conv2d_forward(environment, g, path, kernel, tile, num_threads):
    common, array = environment
    x = array(*in_layout(path[0], g["cin"], g["size"]))
    w = array(*weights_in_layout(path[0], g["cout"], g["cin"], g["kernel"]))
    bias = array(g["cout"])
    agree("conv2d_forward", x, w, bias, **_call(g, path, kernel, num_threads, tile, common))


@settings(max_examples=150)
@given(environments(), windows(), paths, kernels, tiles, threads)
def test_conv2d_weight_grad(environment, g, path, kernel, tile, num_threads):
    common, array = environment
    x = array(*in_layout(path[0], g["cin"], g["size"]))
    dy = array(*in_layout(path[0], g["cout"], g["out"]))
    call = _call(g, path, kernel, num_threads, tile, common)
    agree("conv2d_weight_grad", x, dy, g["kernel"], **call)


@settings(max_examples=150)
@given(environments(), windows(), paths, kernels, tiles, threads)
def test_conv2d_input_grad(environment, g, path, kernel, tile, num_threads):
    common, array = environment
    w = array(*weights_in_layout(path[0], g["cout"], g["cin"], g["kernel"]))
    dy = array(*in_layout(path[0], g["cout"], g["out"]))
    if path[1] == "direct" and len(tile) == 3:  # its K is cut in whole kernels
        tile = (*tile[:2], tile[2] * g["kernel"][0] * g["kernel"][1])
    call = _call(g, path, kernel, num_threads, tile, common)
    agree("conv2d_input_grad", w, dy, g["size"], **call)


@settings(max_examples=40)
@given(environments(), windows(max_channels=20), whole_k, threads)
def test_depthwise(environment, g, tile, num_threads):
    common, array = environment
    x, w = array(g["cin"], *g["size"]), array(g["cin"], *g["kernel"])
    dy = array(g["cin"], *g["out"])
    call = {"stride": g["stride"], "padding": g["padding"], "num_threads": num_threads, **common}
    agree("depthwise_forward", x, w, tile=tile, **call)
    agree("depthwise_weight_grad", x, dy, g["kernel"], tile=tile, **call)
    agree("depthwise_input_grad", w, dy, g["size"], tile=tile, **call)


@settings(max_examples=50)
@given(environments(), st.data(), layouts, kernels, tiles, threads)
def test_pointwise(environment, data, layout, kernel, tile, num_threads):
    common, array = environment
    cin, cout, height, width = (data.draw(st.integers(1, 20)) for _ in range(4))
    x = array(*in_layout(layout, cin, (height, width)))
    w, dy = array(cout, cin), array(*in_layout(layout, cout, (height, width)))
    call = {"layout": layout, "kernel": kernel, "num_threads": num_threads, "tile": tile, **common}
    agree("pointwise_forward", x, w, **call)
    agree("pointwise_weight_grad", x, dy, **call)
    agree("pointwise_input_grad", w, dy, **call)


@settings(max_examples=100)
@given(environments(), sizes, sizes, kernels, tiles, threads)
def test_linear(environment, n, k, kernel, tile, num_threads):
    common, array = environment
    x, w, dy, bias = array(k), array(n, k), array(n), array(n)
    call = {"kernel": kernel, "num_threads": num_threads, "tile": tile, **common}
    agree("linear_forward", x, w, bias, **call)
    agree("linear_weight_grad", x, dy, **call)
    agree("linear_input_grad", w, dy, **call)


def test_a_cut_k_rounds_every_part():
    """2048 + 1 + 1 in binary16: one rounding gives 2050, a stored 2049 is 2048 again."""
    ones = np.ones((1, 3), np.float16)
    column = np.array([[2048], [1], [1]], np.float16)
    assert primitives.matmul(ones, column) == 2050
    assert primitives.matmul(ones, column, tile=(1, 1)) == 2050
    assert primitives.matmul(ones, column, tile=(1, 1, 3)) == 2050
    assert primitives.matmul(ones, column, tile=Tile(1, 1, 2)) == 2048
    assert primitives.matmul(ones, column, tile=Tile(1, 1, 1)) == 2048


def test_a_part_begins_from_a_stored_negative_zero():
    a, b = np.array([[-(2.0**-14), 0]], np.float16), np.array([[2.0**-14], [-1]], np.float16)
    assert bits(primitives.matmul(a, b, tile=(1, 1, 1)))[0, 0] == 0x8000
    assert bits(primitives.matmul(a, b))[0, 0] == 0x8000  # binary32 holds the product
    assert bits(primitives.matmul(a, -b, tile=(1, 1, 1)))[0, 0] == 0x0000


# ---- whole training steps ------------------------------------------------------------------------


def net_of(arithmetic, kernel, device, algorithm):
    layers = [
        Conv2D(6, 3, 1, 1, kernel=kernel, name="conv"),
        ReLU(name="relu"),
        Conv2D(6, 3, 2, 1, kernel=kernel, algorithm=algorithm, name="strided"),
        DepthwiseConv2D(3, 1, 1, name="depthwise"),
        PointwiseConv2D(6, kernel=kernel, name="pointwise"),
        Add(inputs=("strided", "pointwise"), name="sum"),
        AvgPool2D(2, name="pool"),
        Flatten(name="flatten"),
        Linear(4, kernel=kernel, name="linear"),
    ]
    return pyodl.Network(layers, (3, 8, 8), arithmetic=arithmetic, device=device, seed=1)


def trained(net, seed, num_threads, count=2):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x = pyodl.formats.round_to(rng.normal(size=net.input_shape), net.arithmetic.storage)
        pyodl.train_step(net, x, 1, lr=0.1, num_threads=num_threads)
    return {
        **net.parameters(), **net.activations(),
        **{f"d {name}": g for name, g in net.gradients().items()},
        **{f"d {name}": g for name, g in net.output_gradients().items()},
    }  # fmt: skip


@settings(max_examples=25)
@given(
    arithmetics,
    kernels,
    st.integers(1, 9),
    st.sampled_from([1500, 2500, 4000]),
    st.sampled_from(["direct", "im2row"]),
    seeds,
    threads,
    st.data(),
)
def test_a_training_step_under_any_plan_keeps_every_bit(
    arithmetic, kernel, cores, l1_bytes, algorithm, seed, num_threads, data
):
    scale = 2 if arithmetic == "fp32" else 1
    device = Device("small", cores, l1_bytes=l1_bytes * scale)
    whole = net_of(arithmetic, kernel, device, algorithm)
    tiled = net_of(arithmetic, kernel, device, algorithm)
    work = [step for step in steps(tiled) if step.macs]
    feasible = [list(candidates(step, device, buffers=1)) for step in work]
    plans = [data.draw(st.sampled_from(found)) for found in feasible]
    tiled.tiles = network_tiles(plans)
    want, got = trained(whole, seed, 1), trained(tiled, seed, num_threads)
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert_same(got[name], array, name)


@pytest.mark.parametrize("name", ["resnet8", "ds_cnn"])
def test_the_standard_networks_run_under_their_plans(name):
    whole, tiled = (pyodl.models.MODELS[name](arithmetic="fp16-fma") for _ in range(2))
    tiled.tiles = network_tiles(memory.plan(steps(tiled), tiled.device).plans)
    want, got = trained(whole, 3, 1), trained(tiled, 3, 2)
    for key, array in want.items():
        assert_same(got[key], array, key)


def test_a_training_step_runs_one_operation_a_tile():
    device = Device("small", 4, l1_bytes=1500)
    net = net_of("fp16-fma", "simd_4x8", device, "im2row")
    plans = memory.plan(steps(net), device).plans
    net.tiles = network_tiles(plans)
    names = [operation.name for operation in net.compiled("mse").forward.operations]
    for found in plans:
        if found.step.step == "forward" and found.step.macs:
            layer, kind = found.step.layer, found.step.kind
            assert names.count(f"{layer}: {kind} forward") == found.tiles


def test_a_training_step_that_cuts_k_is_the_chain_of_its_primitives():
    device = Device("tiny", 4, l1_bytes=400)
    net = net_of("fp16-fma", "simd_4x8", device, "im2row")
    work = [s for s in steps(net) if s.layer == "conv" and s.macs]
    plans = [plan(step, device, cut_k=True) for step in work]
    assert [found.cuts_k for found in plans] == [True, True]
    assert not any(found.same_orders for found in plans)
    net.tiles = network_tiles(plans)
    before = net.parameters()["conv.weight"].copy()
    got = trained(net, 7, 1, count=1)
    how = {"padding": 1, "kernel": "simd_4x8", "arithmetic": "fp16-fma", "cores": 4}
    bias = np.zeros(6, np.float16)
    y = primitives.conv2d_forward(got["input"], before, bias, tile=plans[0].tile, **how)
    assert_same(got["conv"], y, "conv")
    assert not np.array_equal(
        bits(y), bits(primitives.conv2d_forward(got["input"], before, bias, **how))
    )
    dw = primitives.conv2d_weight_grad(got["input"], got["d conv"], 3, tile=plans[1].tile, **how)
    assert_same(got["d conv.weight"], dw, "weight gradient")


def test_tiles_are_saved(tmp_path):
    net = net_of("fp16-fma", "naive", "pulp-open", "im2row")
    net.tiles = {("conv", "forward"): (2, 3, 9), ("pointwise", "input_grad"): Tile(1, 1)}
    net.save(tmp_path / "net.npz")
    again = pyodl.Network.load(tmp_path / "net.npz")
    assert again.tiles == net.tiles
    assert again.tiles["conv", "forward"] == Tile(2, 3, 9)
    made = pyodl.Network(net.layers, net.input_shape, tiles=net.tiles)
    assert made.tiles == net.tiles


@pytest.mark.parametrize(
    "tile, message",
    [
        ((0, 1), "tile.channels is 0; it must be at least 1"),
        ((1, -1), "tile.rows is -1; it must be at least 1"),
        ((1, 1, 0), "tile.k is 0; it must be at least 1"),
        ((1,), "tile has 1 items"),
    ],
)
def test_wrong_tiles_are_named(tile, message):
    a = np.ones((2, 2), np.float16)
    with pytest.raises(ValueError, match=message):
        primitives.matmul(a, a, tile=tile)


def test_tiles_of_wrong_types_are_named():
    a = np.ones((2, 2), np.float16)
    with pytest.raises(TypeError, match="tile must be a Tile, a tuple or None, not int"):
        primitives.matmul(a, a, tile=4)
    with pytest.raises(TypeError, match=r"tile\.rows must be an integer, not float"):
        primitives.matmul(a, a, tile=(1, 1.5))


def test_depthwise_leaves_k_whole():
    x, w = np.ones((2, 4, 4), np.float16), np.ones((2, 3, 3), np.float16)
    with pytest.raises(ValueError, match=r"tile\.k is 3; a depthwise convolution leaves K whole"):
        primitives.depthwise_forward(x, w, tile=(1, 1, 3))


def test_direct_input_gradients_cut_k_in_kernels():
    w, dy = np.ones((2, 2, 3, 3), np.float16), np.ones((2, 2, 2), np.float16)
    with pytest.raises(ValueError, match=r"tile\.k is 10; .* multiple of the kernel's 9 positions"):
        primitives.conv2d_input_grad(w, dy, 4, algorithm="direct", tile=(1, 1, 10))


def test_networks_name_wrong_tiles():
    net = net_of("fp16-fma", "naive", "pulp-open", "im2row")
    for key, message in [
        (("relu", "forward"), "tiles' layer is 'relu'; it may be one of conv, strided"),
        (("conv", "backward"), "tiles' step is 'backward'; it may be one of forward"),
    ]:
        with pytest.raises(ValueError, match=message):
            net.tiles = {key: (1, 1)}
    assert net.tiles == {}
