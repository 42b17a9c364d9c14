"""The recorded training runs in tests/golden, step by step through the primitives' API.

A step is written twice over: once as the small network, once as ResNet8. Each puts every tensor it
computes into `t` under its recorded name; what is recorded is compared.
"""

import numpy as np
from golden_cases import ARITHMETIC, KERNELS, arrays, runs, same_bits


def run_names():
    return [(r["name"], r["flavour"]) for r in runs()]


def differing_in_run(P, name, flavour, steps=None):
    """-> (labels of tensors that do not have the recorded bits, number of tensors compared)."""
    (recipe,) = [r for r in runs() if (r["name"], r["flavour"]) == (name, flavour)]
    prefix, wrong, compared = f"{name}__{flavour}__", [], 0
    w = {k.removesuffix("_w"): v for k, v in _tensors(prefix + "init__").items()}
    step_of = _resnet8 if name == "resnet8" else _small_net
    for step in range(steps or recipe["steps"]):
        recorded, t = _tensors(f"{prefix}step{step}__"), {}
        common = {"arithmetic": ARITHMETIC[flavour], "cores": recipe["cores"]}
        step_of(P, recipe, w, recorded["input"], recorded["target"], t, common)
        for k, old in w.items():
            w[k] = t[f"new_{k}_w"] = P.sgd(old, t[f"g_{k}_w"], recipe["config"]["lr"], **common)[0]
        both = t.keys() & recorded.keys()
        missing = recorded.keys() - t.keys() - {"input", "target"}
        assert not missing, f"recorded, but not computed: {sorted(missing)}"
        compared += len(both)
        wrong += [
            f"{name} [{flavour}] step {step}: {n}"
            for n in sorted(both)
            if not same_bits(t[n], recorded[n].view(np.uint16))
        ]
    return wrong, compared


def _tensors(prefix):
    data = arrays("endtoend.npz")
    return {
        k.removeprefix(prefix): v.copy().view(np.float16)
        for k, v in data.items()
        if k.startswith(prefix)
    }


def _head(P, w, y, target, kernels, t, common):
    """Global average pool, linear layer, loss; there and back. Returns the gradient at y."""
    size, arithmetic = y.shape[1:], {"arithmetic": common["arithmetic"]}
    forward, backward = kernels
    t["pool_out"] = P.avg_pool_forward(y, size, size, **common)
    pooled = t["pool_out"].reshape(-1)
    t["logits"] = P.linear_forward(pooled, w["fc"], kernel=forward, **common)
    t["loss"] = np.atleast_1d(P.cross_entropy(t["logits"], target, **arithmetic))
    t["d_logits"] = P.cross_entropy_grad(t["logits"], target, **arithmetic)
    t["g_fc_w"] = P.linear_weight_grad(pooled, t["d_logits"], kernel=forward, **common)
    t["d_pool_out"] = P.linear_input_grad(w["fc"], t["d_logits"], kernel=backward, **common)
    return P.avg_pool_backward(t["d_pool_out"].reshape(-1, 1, 1), size, size, size, **common)


def _small_net(P, recipe, w, x, target, t, common):
    c = recipe["config"]
    conv_kernel, pw_kernel, *head_kernels = (KERNELS[i] for i in c["mm"])
    shapes = {"conv": (c["C1"], c["Cin"], 3, 3), "dw": (c["C1"], 3, 3), "pw": (c["C2"], c["C1"])}
    shapes["fc"] = (c["classes"], c["C2"])
    w.update({k: w[k].reshape(shapes[k]) for k in w})
    x = x.reshape(c["Cin"], c["H"], c["W"])
    algorithm = "im2row" if c["im2col"] else "direct"
    conv = {"padding": c["pad"], "algorithm": algorithm, "kernel": conv_kernel, **common}
    conv.update(stride=1, layout="CHW")
    pw = {"layout": "CHW", "kernel": pw_kernel, **common}
    t["conv_out"] = P.conv2d_forward(x, w["conv"], **conv)
    t["relu1_out"] = P.relu_forward(t["conv_out"], **common)
    t["dw_out"] = P.depthwise_forward(t["relu1_out"], w["dw"], **common)
    t["pw_out"] = P.pointwise_forward(t["dw_out"], w["pw"], **pw)
    t["relu2_out"] = P.relu_forward(t["pw_out"], **common)
    t["d_relu2_out"] = _head(P, w, t["relu2_out"], target, head_kernels, t, common)
    t["d_pw_out"] = P.relu_backward(t["pw_out"], t["d_relu2_out"], **common)
    t["g_pw_w"] = P.pointwise_weight_grad(t["dw_out"], t["d_pw_out"], **pw)
    t["d_dw_out"] = P.pointwise_input_grad(w["pw"], t["d_pw_out"], **pw)
    t["g_dw_w"] = P.depthwise_weight_grad(t["relu1_out"], t["d_dw_out"], (3, 3), **common)
    size = t["relu1_out"].shape[1:]
    t["d_relu1_out"] = P.depthwise_input_grad(w["dw"], t["d_dw_out"], size, **common)
    t["d_conv_out"] = P.relu_backward(t["conv_out"], t["d_relu1_out"], **common)
    t["g_conv_w"] = P.conv2d_weight_grad(x, t["d_conv_out"], (3, 3), **conv)


class _Convolutions:
    """The direct convolutions of ResNet8, by name."""

    def __init__(self, P, layers, w, t, common):
        self.P, self.layers, self.w, self.t, self.common = P, layers, w, t, common

    def _geometry(self, name):
        layer = self.layers[name]
        return {
            "stride": layer["stride"],
            "padding": layer["pad"],
            "layout": "CHW",
            "algorithm": "direct",
            **self.common,
        }

    def forward(self, name, x):
        y = self.P.conv2d_forward(x, self.w[name], **self._geometry(name))
        self.t[name + "_out"] = y
        return y

    def weight_grad(self, name, x, dy):
        size = (self.layers[name]["k"],) * 2
        dw = self.P.conv2d_weight_grad(x, dy, size, **self._geometry(name))
        self.t[f"g_{name}_w"] = dw

    def input_grad(self, name, dy):
        size = (self.layers[name]["H"], self.layers[name]["W"])
        return self.P.conv2d_input_grad(self.w[name], dy, size, **self._geometry(name))


def _resnet8(P, recipe, w, x, target, t, common):
    layers, stacks = recipe["layers"], range(1, len(recipe["config"]["widths"]) + 1)
    shapes = {n: (g["Cout"], g["Cin"], g["k"], g["k"]) for n, g in layers.items()}
    shapes["fc"] = (recipe["config"]["classes"], -1)
    w.update({k: w[k].reshape(shapes[k]) for k in w})
    conv = _Convolutions(P, layers, w, t, common)
    x = x.reshape(layers["stem"]["Cin"], layers["stem"]["H"], layers["stem"]["W"])
    y = t["stem_relu"] = P.relu_forward(conv.forward("stem", x), **common)
    entered = {}
    for s in stacks:
        entered[s] = y
        y = _stack_forward(P, conv, s, y, common)
    d = t[f"s{stacks[-1]}_d_out"] = _head(P, w, y, target, ("naive", "naive_m"), t, common)
    for s in reversed(stacks):
        d = _stack_backward(P, conv, s, entered[s], d, common)
    t["d_stem_out"] = P.relu_backward(t["stem_out"], d, **common)
    conv.weight_grad("stem", x, t["d_stem_out"])


def _stack_forward(P, conv, s, x, common):
    t, proj = conv.t, f"s{s}_proj"
    t[f"s{s}_relu1"] = P.relu_forward(conv.forward(f"s{s}_conv1", x), **common)
    main = conv.forward(f"s{s}_conv2", t[f"s{s}_relu1"])
    skip = conv.forward(proj, x) if proj in conv.layers else x
    t[f"s{s}_sum"] = P.add(skip, main, **common)
    t[f"s{s}_out"] = P.relu_forward(t[f"s{s}_sum"], **common)
    return t[f"s{s}_out"]


def _stack_backward(P, conv, s, x, d, common):
    t, conv1, conv2, proj = conv.t, f"s{s}_conv1", f"s{s}_conv2", f"s{s}_proj"
    d = t[f"s{s}_d_sum"] = P.relu_backward(t[f"s{s}_sum"], d, **common)
    conv.weight_grad(conv2, t[f"s{s}_relu1"], d)
    t[f"s{s}_d_relu1"] = conv.input_grad(conv2, d)
    dc = t[f"s{s}_d_conv1_out"] = P.relu_backward(t[conv1 + "_out"], t[f"s{s}_d_relu1"], **common)
    conv.weight_grad(conv1, x, dc)
    t[f"s{s}_d_in_main"] = conv.input_grad(conv1, dc)
    if proj in conv.layers:
        conv.weight_grad(proj, x, d)
        d = t[f"s{s}_d_in_proj"] = conv.input_grad(proj, d)
    t[f"s{s}_d_in"] = P.add(d, t[f"s{s}_d_in_main"], **common)
    return t[f"s{s}_d_in"]
