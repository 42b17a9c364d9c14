"""Networks: a step is the chain of public primitives, bit for bit, and computes no more."""

import json
import re
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from networks import an_image, bits, step_of_network

import pyodl
from pyodl import primitives as P
from pyodl.arithmetic import ARITHMETICS
from pyodl.layers import (
    Add,
    AvgPool2D,
    Conv2D,
    DepthwiseConv2D,
    Flatten,
    InstanceNorm,
    LeakyReLU,
    Linear,
    MaxPool2D,
    PointwiseConv2D,
    ReLU,
    Sigmoid,
)

SHAPE = (3, 8, 8)


def branching(arithmetic="fp16-fp32acc", device="pulp-open", seed=3):
    """Return a network whose first activation goes three ways, with every kind of layer."""
    layers = [
        Conv2D(4, 3, 1, 1, name="stem"),
        ReLU(name="a"),
        Conv2D(4, 3, 1, "same", name="main", algorithm="direct"),
        InstanceNorm(name="norm"),
        DepthwiseConv2D(3, 1, 1, name="dw", inputs="a"),
        LeakyReLU(0.1, name="leaky"),
        Add(name="join", inputs=("norm", "leaky")),
        PointwiseConv2D(4, name="pw", inputs="a", kernel="simd_2x4"),
        Add(name="sum", inputs=("pw", "join")),
        Sigmoid(name="sigmoid"),
        MaxPool2D(2, name="max"),
        AvgPool2D(2, 1, name="avg"),
        Flatten(name="flat"),
        Linear(5, name="fc"),
    ]
    return pyodl.Network(layers, SHAPE, arithmetic=arithmetic, device=device, seed=seed)


def step_by_hand(w, x, target, lr, decay, arithmetic, cores):
    """Return activations, gradients and new parameters of `branching` from the primitives."""
    how = {"arithmetic": arithmetic, "cores": cores}
    y, g = {"input": x}, {}
    padded = {"padding": 1, **how}
    direct = {"algorithm": "direct", **padded}
    y["stem"] = P.conv2d_forward(x, w["stem.weight"], w["stem.bias"], **padded)
    y["a"] = P.relu_forward(y["stem"], **how)
    y["main"] = P.conv2d_forward(y["a"], w["main.weight"], w["main.bias"], **direct)
    gamma, beta = w["norm.gamma"], w["norm.beta"]
    y["norm"], mean, std = P.instance_norm_forward(y["main"], gamma, beta, **how)
    y["dw"] = biased(P.depthwise_forward(y["a"], w["dw.weight"], **padded), w["dw.bias"], how)
    y["leaky"] = P.leaky_relu_forward(y["dw"], 0.1, **how)
    y["join"] = P.add(y["norm"], y["leaky"], **how)
    pw = {"kernel": "simd_2x4", **how}
    y["pw"] = biased(P.pointwise_forward(y["a"], w["pw.weight"], **pw), w["pw.bias"], how)
    y["sum"] = P.add(y["pw"], y["join"], **how)
    y["sigmoid"] = P.sigmoid_forward(y["sum"], **how)
    y["max"] = P.max_pool_forward(y["sigmoid"], 2, 2, **how)
    y["avg"] = P.avg_pool_forward(y["max"], 2, 1, **how)
    y["flat"] = y["avg"].reshape(-1)
    y["fc"] = P.linear_forward(y["flat"], w["fc.weight"], w["fc.bias"], **how)
    loss = P.cross_entropy(y["fc"], target, **how)

    d = P.cross_entropy_grad(y["fc"], target, **how)
    g["fc.weight"] = P.linear_weight_grad(y["flat"], d, **how)
    g["fc.bias"] = P.linear_bias_grad(d, **how)
    d = P.linear_input_grad(w["fc.weight"], d, **how).reshape(y["avg"].shape)
    d = P.avg_pool_backward(d, y["max"].shape[1:], 2, 1, **how)
    d = P.max_pool_backward(y["sigmoid"], d, 2, 2, **how)
    d = P.sigmoid_backward(y["sigmoid"], d, **how)
    g["pw.weight"] = P.pointwise_weight_grad(y["a"], d, **pw)
    g["pw.bias"] = P.conv2d_bias_grad(d, **how)
    from_pw = P.pointwise_input_grad(w["pw.weight"], d, **pw)
    d_dw = P.leaky_relu_backward(y["dw"], d, 0.1, **how)
    g["dw.weight"] = P.depthwise_weight_grad(y["a"], d_dw, 3, **padded)
    g["dw.bias"] = P.conv2d_bias_grad(d_dw, **how)
    from_dw = P.depthwise_input_grad(w["dw.weight"], d_dw, 8, **padded)
    g["norm.gamma"], g["norm.beta"] = P.instance_norm_param_grad(y["main"], d, mean, std, **how)
    var = variance(y["main"], how)
    d = P.instance_norm_input_grad(y["main"], d, gamma, mean, std, var, **how)
    g["main.weight"] = P.conv2d_weight_grad(y["a"], d, 3, **direct)
    g["main.bias"] = P.conv2d_bias_grad(d, **how)
    from_main = P.conv2d_input_grad(w["main.weight"], d, 8, **direct)
    d = P.add(P.add(from_pw, from_dw, **how), from_main, **how)
    d = P.relu_backward(y["stem"], d, **how)
    g["stem.weight"] = P.conv2d_weight_grad(x, d, 3, **padded)
    g["stem.bias"] = P.conv2d_bias_grad(d, **how)
    new = {}
    for name in w:
        new[name], g[name] = P.sgd(w[name], g[name], lr, decay, **how)
    return float(loss), y, g, new


def biased(y, bias, how):
    """Return y + bias: a stored sum, as `add` computes it."""
    planes = np.ascontiguousarray(np.broadcast_to(bias[:, None, None], y.shape))
    return P.add(y, planes, **how)


def variance(x, how):
    """Return the variance as the forward pass has it, bound as a network binds it."""
    from pyodl import arithmetic
    from pyodl.primitives.norm import bind_instance_norm_statistics

    arrays = [np.empty(x.shape[0], x.dtype) for _ in range(3)]
    chosen = arithmetic.get(how["arithmetic"])
    bind_instance_norm_statistics(x, *arrays, chosen, how["cores"]).run()
    return arrays[2]


@pytest.mark.parametrize("device", ["pulp-open", "single-core"])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_step_is_the_chain_of_primitives(arithmetic, device):
    net = branching(arithmetic, device)
    for step in range(2):  # the second shows that nothing is left over from the first
        x = an_image(net, step)
        before = {name: array.copy() for name, array in net.parameters().items()}
        cores = net.device.cores
        expected = step_by_hand(before, x, step, 0.05, 1e-2, arithmetic, cores)
        loss = pyodl.train_step(net, x, step, lr=0.05, weight_decay=1e-2)
        assert loss == expected[0]
        assert bits(net.activations()) == bits(expected[1])
        assert bits(net.gradients()) == bits(expected[2])
        assert bits(net.parameters()) == bits(expected[3])


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.usefixtures("threads_for_everything")
def test_threads_change_no_bit(arithmetic):
    nets = {threads: branching(arithmetic) for threads in (1, 2, 3, 5, 7)}
    for threads, net in nets.items():
        for step in range(3):
            pyodl.train_step(net, an_image(net, step), step, num_threads=threads)
    for net in nets.values():
        assert bits(net.parameters()) == bits(nets[1].parameters())


def test_a_program_is_scheduled_anew_for_other_threads():
    """As networks are used: operations as long as they are, and one program on any team."""
    one, other = (pyodl.models.resnet8(arithmetic="fp16-fp32acc", seed=0) for _ in range(2))
    for step, threads in enumerate((2, 1, 3, 2, 5, 40)):
        for net, count in ((one, 1), (other, threads)):
            pyodl.train_step(net, an_image(net, step), step, num_threads=count)
        assert bits(other.gradients()) == bits(one.gradients()), threads
    assert bits(other.parameters()) == bits(one.parameters())


def test_same_seed_gives_the_same_numbers_in_every_format():
    wide = branching("fp32", seed=5).parameters()
    half = branching("fp16-fp32acc", seed=5).parameters()
    for name in wide:
        assert bits({"": wide[name].astype(np.float16)}) == bits({"": half[name]})
    other = branching("fp32", seed=6).parameters()
    assert bits(wide) != bits(other)


def names_of(program):
    return [operation.name for operation in program.operations]


def test_frozen_layers_and_all_below_compute_nothing():
    net = branching()
    net.freeze("stem", "main", "dw", "pw")
    before = {name: array.copy() for name, array in net.parameters().items()}
    pyodl.train_step(net, an_image(net), 1, lr=0.1)
    changed = {n for n, a in net.parameters().items() if bits({n: a}) != bits({n: before[n]})}
    assert changed == {"fc.weight", "fc.bias", "norm.gamma", "norm.beta"}
    assert net.gradients().keys() == changed
    backward = names_of(net.compiled().backward)
    assert not [name for name in backward if re.match(r"(stem|a|main|dw|leaky|pw):", name)]
    assert "norm: instance_norm_param_grad" in backward
    assert "norm: instance_norm_input_grad" not in backward
    assert net.macs()["fc"] == {"forward": 180, "weight_grad": 180, "input_grad": 180}
    assert net.macs()["dw"] == {"forward": 4 * 64 * 9, "weight_grad": 0, "input_grad": 0}


def test_a_frozen_layer_between_trained_ones_passes_gradients_on():
    net, whole = branching(), branching()
    net.freeze("main")
    x = an_image(net)
    for each in (net, whole):
        pyodl.train_step(each, x, 2, lr=0.0)
    assert bits(net.gradients()).items() <= bits(whole.gradients()).items()
    assert not [name for name in net.gradients() if name.startswith("main")]
    assert net.macs()["main"]["weight_grad"] == 0
    assert net.macs()["main"]["input_grad"] == net.macs()["main"]["forward"]
    net.unfreeze("main")
    pyodl.train_step(net, x, 2, lr=0.0)
    assert bits(net.gradients()) == bits(whole.gradients())


def test_freezing_refuses_what_it_does_not_know():
    net = branching()
    with pytest.raises(ValueError, match=r"name is 'relu'; it may be one of stem, main"):
        net.freeze("relu")
    with pytest.raises(ValueError, match="leaves no layer to train"):
        net.freeze("stem", "main", "norm", "dw", "pw", "fc")
    assert net.frozen == ()
    with pytest.raises(RuntimeError, match="run a training step first"):
        net.gradients()


def test_parameters_are_live():
    net = branching()
    x = an_image(net)
    net.parameters()["fc.weight"][...] = 0
    net.parameters()["fc.bias"][...] = 0.5
    assert net.forward(x).tolist() == [0.5] * 5
    assert net.predict(x) == 0


def test_a_step_allocates_nothing_and_is_compiled_once():
    net = branching()
    x = an_image(net)
    pyodl.train_step(net, x, 1)
    compiled = net.compiled()
    tracemalloc.start()
    try:
        for step in range(5):
            pyodl.train_step(net, x, step)
            tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        pyodl.train_step(net, x, 3)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 2000  # bytes: a few numbers and tuples, no tensor
    assert net.compiled() is compiled
    pyodl.train_step(net, x, 1, loss="mse")
    assert net.compiled() is not compiled


def test_layers_share_buffers_but_not_their_padding():
    """Images of one size, padded on other sides and with other strides: what was there must go."""
    paddings = [(1, 1, 1, 1), (2, 0, 2, 0), (0, 2, 0, 2), (1, 1, 1, 1), (2, 0, 0, 2)]
    layers = [Conv2D(4, 3, 1, sides, name=f"c{i}") for i, sides in enumerate(paddings)]
    layers.append(Conv2D(4, 3, 2, (1, 2, 1, 2), name="strided"))
    net = pyodl.Network(layers, (4, 8, 8), seed=5)
    how = {layer.name: {"stride": layer.stride, "padding": layer.padding} for layer in net.layers}
    for step in range(3):
        x = an_image(net, step)
        pyodl.train_step(net, x, np.ones_like(net.forward(x)), lr=0.0, loss="mse")
    w, dw = net.parameters(), net.gradients()
    y, dy = net.activations(), net.output_gradients()
    for below, name in pairwise(["input", *how]):
        expected = P.conv2d_weight_grad(y[below], dy[name], (3, 3), **how[name])
        assert bits({"": dw[f"{name}.weight"]}) == bits({"": expected}), name
        if below != "input":
            size = y[below].shape[1:]
            expected = P.conv2d_input_grad(w[f"{name}.weight"], dy[name], size, **how[name])
            assert bits({"": dy[below]}) == bits({"": expected}), name


def test_a_tensor_that_is_taken_twice_by_one_layer():
    net = pyodl.Network(
        [Linear(4, name="low"), Add(name="twice", inputs=("low", "low")), Linear(3)], (6,)
    )
    x = an_image(net)
    pyodl.train_step(net, x, 1, lr=0.0)
    d = net.output_gradients()
    assert bits({"": d["low"]}) == bits({"": P.add(d["twice"], d["twice"])})


@pytest.mark.parametrize(
    "layers,message",
    [
        ([], "layers is empty"),
        ([Linear(3)], "layer 'linear1': Linear takes a vector"),
        ([Conv2D(3, 9)], r"layer 'conv2d1': kernel_size spans \(9, 9\)"),
        ([Conv2D(3, 3, name="c"), ReLU(name="c")], "is named 'c', as an earlier layer is"),
        ([ReLU(inputs="nowhere")], "takes 'nowhere'; it may take input"),
        ([Conv2D(3, 1), Add()], "layer 'add1' has 1 inputs; it must have 2"),
        ([Conv2D(3, 1, name="c"), ReLU(inputs="input")], "no layer takes the output of c"),
        ([Conv2D(4, 1, name="c"), Add(inputs=("c", "input"))], "inputs of one shape"),
    ],
)
def test_graphs_that_do_not_fit(layers, message):
    with pytest.raises(ValueError, match=message):
        pyodl.Network(layers, SHAPE)


@pytest.mark.parametrize(
    "make,error",
    [
        (lambda: Conv2D(0, 3), ValueError),
        (lambda: Conv2D(4, 3, padding="valid"), ValueError),
        (lambda: Conv2D(4, 3, stride=-1), ValueError),
        (lambda: Conv2D(4, 3, algorithm="winograd"), ValueError),
        (lambda: Conv2D("4", 3), TypeError),
        (lambda: Linear(3, kernel="fast"), ValueError),
        (lambda: Linear(3, gain=-1.0), ValueError),
        (lambda: Linear(3, name="a.b"), ValueError),
        (lambda: ReLU(inputs=(3,)), TypeError),
        (lambda: LeakyReLU("steep"), TypeError),
        (lambda: pyodl.Network(["relu"], SHAPE), TypeError),
        (lambda: pyodl.Network([ReLU()], 3), TypeError),
        (lambda: pyodl.Network([ReLU()], SHAPE, arithmetic="fp8"), ValueError),
        (lambda: pyodl.Network([ReLU()], SHAPE, device="toaster"), ValueError),
        (lambda: pyodl.Device("chip", 0), ValueError),
    ],
)
def test_arguments_that_are_refused(make, error):
    with pytest.raises(error):
        make()


def test_inputs_that_are_refused_change_nothing():
    net = branching()
    before = bits(net.parameters())
    x = an_image(net)
    for wrong, error in [
        (x.astype(np.float32), TypeError),
        (x[:, ::2], ValueError),
        (x[:2], ValueError),
        (x.tolist(), TypeError),
    ]:
        with pytest.raises(error, match=r"^x "):
            pyodl.train_step(net, wrong, 1)
        with pytest.raises(error, match=r"^x "):
            net.forward(wrong)
    assert bits(net.parameters()) == before


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_save_and_load_keep_every_bit(tmp_path, arithmetic):
    net = branching(arithmetic, pyodl.Device("mine", 3))
    pyodl.train_step(net, an_image(net), 1)
    net.parameters()["fc.bias"][:3] = [np.nan, -0.0, -np.inf]
    net.freeze("stem")
    net.notes = {"epochs": 3, "why": "a test"}
    path = tmp_path / "net.ckpt"
    net.save(path)
    again = pyodl.Network.load(path)
    assert bits(again.parameters()) == bits(net.parameters())
    assert again.layers == net.layers
    assert (again.arithmetic, again.device) == (net.arithmetic, net.device)
    assert (again.frozen, again.notes) == (("stem",), net.notes)
    assert [p.name for p in tmp_path.iterdir()] == ["net.ckpt"]


def refusal(path):
    """Return whether loading a file raises ValueError with the file's name."""
    try:
        pyodl.Network.load(path)
    except ValueError as error:
        return str(error).startswith(f"{path} is not a pyodl network")
    return False


def test_load_says_what_is_wrong(tmp_path):
    net = branching()
    path = tmp_path / "net.npz"
    with pytest.raises(FileNotFoundError):
        pyodl.Network.load(path)
    net.save(path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0x40
    for name, content in {
        "empty": b"",
        "text": b"once upon a time",
        "cut": whole[: len(whole) // 2],
        "cut at the end": whole[:-1],
        "damaged": bytes(damaged),
    }.items():
        path.write_bytes(content)
        assert refusal(path), name


def test_load_refuses_foreign_and_inconsistent_files(tmp_path):
    path = tmp_path / "net.npz"
    branching().save(path)
    with np.load(path) as archive:
        members = dict(archive)
    header = json.loads(members["pyodl"].item())

    def written(**changes):
        text = json.dumps({**header, **changes})
        return {**members, "pyodl": np.array(text)}

    without = {name: array for name, array in members.items() if not name.endswith("fc.bias")}
    cases = {
        "another package's": {"weights": np.zeros(3)},
        "a parameter is missing": without,
        "a parameter is too long": {**members, "parameter/fc.bias": np.zeros(9, np.uint16)},
        "values, not bits": {**members, "parameter/fc.bias": np.zeros(5, np.float16)},
        "another arithmetic": written(arithmetic="fp32"),
        "no arithmetic": written(arithmetic="fp8"),
        "no such layer": written(layers=[{"layer": "Weighted"}]),
        "layer with a wrong field": written(layers=[{"layer": "ReLU", "speed": 3}]),
        "layers are text": written(layers="ReLU"),
        "frozen nothing": written(frozen=["nothing"]),
        "a later version": written(version=2),
    }
    for name, case in cases.items():
        np.savez(path, **case)
        assert refusal(path), name


def test_a_failed_save_leaves_the_old_file(tmp_path):
    net = branching()
    path = tmp_path / "net.npz"
    net.save(path)
    old = path.read_bytes()
    net.notes = {"not": object()}
    with pytest.raises(TypeError):
        net.save(path)
    assert path.read_bytes() == old
    net.notes = {}
    with pytest.raises(FileNotFoundError):
        net.save(tmp_path / "nowhere" / "net.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


def readers_of_weights(arithmetic, layer):
    net = pyodl.models.resnet8(arithmetic=arithmetic, seed=0)
    pyodl.train_step(net, an_image(net), 3, lr=0.01)
    weights = net.parameters()[f"{layer}.weight"]
    return {
        operation.name.partition(": ")[2]
        for operation in step_of_network(net).operations
        for array in operation.arrays[: operation.inputs]
        if array is not None and np.shares_memory(array, weights)
    }


def test_weights_are_read_where_they_lie_if_a_step_takes_what_is_stored():
    layer = "stack1_conv1"
    assert readers_of_weights("fp32", layer) == {"conv2d forward", "conv2d input gradient"}
    assert readers_of_weights("bf16-fp32acc", layer) == {"stage"}
