"""Networks against the recorded training runs of the firmware: every tensor, bit for bit."""

import numpy as np
import pytest
from golden_cases import ARITHMETIC, KERNELS, arrays, runs, same_bits

import pyodl
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


def head(classes, kernel):
    """Return pooling and the linear layer, whose input gradient has more than one summand."""
    return [
        AvgPool2D(name="pool"),
        Flatten(name="flat"),
        Linear(classes, name="fc", bias=False, kernel=kernel),
    ]


def small_net(config):
    conv, pointwise, linear, _ = (KERNELS[i] for i in config["mm"])
    algorithm = "im2row" if config["im2col"] else "direct"
    how = {"algorithm": algorithm, "kernel": conv, "bias": False}
    layers = [
        Conv2D(config["C1"], 3, padding=config["pad"], name="conv", **how),
        ReLU(name="relu1"),
        DepthwiseConv2D(3, name="dw", bias=False),
        PointwiseConv2D(config["C2"], name="pw", kernel=pointwise, bias=False),
        ReLU(name="relu2"),
        *head(config["classes"], linear),
    ]
    return layers, (config["Cin"], config["H"], config["W"])


def resnet8(geometry, classes):
    def conv(name, before=()):
        layer = geometry[name]
        size = (layer["Cout"], layer["k"], layer["stride"], layer["pad"])
        return Conv2D(*size, name=name, inputs=before, algorithm="direct", bias=False)

    layers, before = [conv("stem"), ReLU(name="stem_relu")], "stem_relu"
    for s in ("s1", "s2", "s3"):
        layers += [conv(f"{s}_conv1", before), ReLU(name=f"{s}_relu1"), conv(f"{s}_conv2")]
        shortcut = before
        if f"{s}_proj" in geometry:
            shortcut = f"{s}_proj"
            layers.append(conv(shortcut, before))
        layers += [Add(name=f"{s}_sum", inputs=(shortcut, f"{s}_conv2")), ReLU(name=f"{s}_out")]
        before = f"{s}_out"
    stem = geometry["stem"]
    return [*layers, *head(classes, "naive")], (stem["Cin"], stem["H"], stem["W"])


def tensors(prefix):
    data = arrays("endtoend.npz")
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def computed(net, loss):
    """Return a network's tensors under every name that they may be recorded by."""
    named = {"loss": np.array([loss], np.float16), "logits": net.activations()["fc"]}
    gradients = net.output_gradients()
    for layer, array in net.activations().items():
        named[layer] = named[f"{layer}_out"] = array
    for layer, array in gradients.items():
        s, _, part = layer.partition("_")
        for name in (f"d_{layer}", f"d_{layer}_out", f"{s}_d_{part}", f"{s}_d_{part}_out"):
            named[name] = array
    named["d_logits"] = gradients["fc"]
    for before, s in (("stem_relu", "s1"), ("s1_out", "s2"), ("s2_out", "s3")):
        if before in gradients:
            named[f"{s}_d_in"] = gradients[before]
    for parameter, array in net.parameters().items():
        named[f"new_{parameter.removesuffix('.weight')}_w"] = array
    for parameter, array in net.gradients().items():
        named[f"g_{parameter.removesuffix('.weight')}_w"] = array
    return named


@pytest.mark.parametrize("name,flavour", [(r["name"], r["flavour"]) for r in runs()])
def test_recorded_run(name, flavour):
    (recipe,) = [r for r in runs() if (r["name"], r["flavour"]) == (name, flavour)]
    config = recipe["config"]
    if name == "resnet8":
        layers, shape = resnet8(recipe["layers"], config["classes"])
    else:
        layers, shape = small_net(config)
    device = pyodl.Device("recorded", recipe["cores"])
    net = pyodl.Network(layers, shape, arithmetic=ARITHMETIC[flavour], device=device)
    prefix = f"{name}__{flavour}__"
    start = tensors(prefix + "init__")
    for parameter, array in net.parameters().items():
        bits = start[parameter.removesuffix(".weight") + "_w"]
        array[...] = bits.view(np.float16).reshape(array.shape)
    for step in range(recipe["steps"]):
        recorded = tensors(f"{prefix}step{step}__")
        x = recorded.pop("input").view(np.float16).reshape(shape)
        target = recorded.pop("target").view(np.float16)
        loss = pyodl.train_step(net, x.copy(), target.copy(), lr=config["lr"])
        named = computed(net, loss)
        parts = {key for key in recorded if key.endswith(("_d_in_main", "_d_in_proj"))}
        assert recorded.keys() - parts <= named.keys()  # the parts of a sum have no name here
        wrong = [k for k in recorded.keys() - parts if not same_bits(named[k], recorded[k])]
        assert not wrong, f"step {step}"
