"""The models: their sizes are MLPerf Tiny's, and their initial weights fit a half."""

import numpy as np
import pytest

import pyodl
from pyodl.layers import Conv2D
from pyodl.models import MODELS


def macs(net, *steps):
    return sum(sum(layer[step] for step in steps) for layer in net.macs().values())


@pytest.mark.parametrize(
    "name,forward,step,parameters",
    [
        ("resnet8", 12_501_632, 37_062_528, 77_706),
        ("ds_cnn", 2_656_768, 7_650_304, 22_604),
    ],
)
def test_sizes(name, forward, step, parameters):
    net = MODELS[name]()
    assert macs(net, "forward") == forward
    assert macs(net, "forward", "weight_grad", "input_grad") == step
    first = next(iter(net.macs().values()))
    assert first["input_grad"] == 0
    assert sum(array.size for array in net.parameters().values()) == parameters


def test_same_padding_is_tflites():
    net = MODELS["ds_cnn"]()
    assert net.activations()["conv"].shape == (64, 25, 5)
    odd = pyodl.Network([Conv2D(1, 4, padding="same")], (1, 7, 7))
    even = pyodl.Network([Conv2D(1, 4, padding=(1, 2, 1, 2))], (1, 7, 7))
    x = np.random.default_rng(0).standard_normal((1, 7, 7)).astype(np.float16)
    assert (odd.forward(x) == even.forward(x)).all()


@pytest.mark.parametrize("name", MODELS)
def test_signals_keep_their_scale(name):
    net = MODELS[name](seed=1)
    x = np.random.default_rng(0).standard_normal(net.input_shape).astype(np.float16)
    net.forward(x)
    for layer, array in net.activations().items():
        assert 0.02 < np.abs(array.astype(float)).max() < 30, layer


@pytest.mark.parametrize("name", MODELS)
def test_arguments_reach_the_network(name):
    net = MODELS[name](arithmetic="bf16-fma", device="single-core", classes=3)
    assert net.arithmetic.name == "bf16-fma"
    assert net.device.cores == 1
    assert net.output_shape == (3,)
