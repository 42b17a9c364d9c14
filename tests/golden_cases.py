"""The recorded firmware bits in tests/golden, run through any module that has the primitives' API.

`differing(module, results)` is what the tests ask for: the labels of the outputs whose bits are not
the recorded ones. A call that fails counts as a difference.
"""

import functools
import json
import pathlib
from dataclasses import dataclass

import ml_dtypes
import numpy as np

ROOT = pathlib.Path(__file__).parent / "golden"
ARITHMETIC = {"fma": "fp16-fma", "mul_add": "fp16-muladd", "bf16": "bf16-fma"}
KERNELS = [
    "naive", "naive_m", "simd_2x4", "simd_4x8", "m_simd_2x4", "m_simd_4x8",
    "unroll_2x1", "unroll_4x1", "unroll_8x1",
]  # fmt: skip
ALGORITHM = {"im2col": "im2row", "naive": "direct"}
LEFT_OUT = "quirks.npz"  # what defects produced: evidence, not goldens


@dataclass(frozen=True)
class Result:
    """One recorded result: a case, its flavour and a core count."""

    case: dict
    flavour: str
    cores: int
    outputs: dict

    @property
    def label(self):
        return f"{self.case['name']} [{self.arithmetic}, {self.cores} cores]"

    @property
    def arithmetic(self):
        return ARITHMETIC[self.flavour]

    @property
    def dtype(self):
        return np.dtype(ml_dtypes.bfloat16 if self.flavour == "bf16" else np.float16)

    def scalar(self, name):
        return float(np.array([self.case["params"][name]], np.uint16).view(self.dtype)[0])

    def inputs(self):
        data = arrays(self.case["file"])
        return {n: data[k].copy().view(self.dtype) for n, k in self.case["inputs"].items()}

    def wanted(self):
        data = arrays(self.case["file"])
        return {n: data[k] for n, k in self.outputs.items()}


@functools.cache
def arrays(file):
    with np.load(ROOT / file) as data:
        return dict(data)


@functools.cache
def results():
    """{(family, flavour): [Result, ...]} of every clean result of a primitive."""
    found = {}
    for manifest in ("manifest.json", "bf16.json"):
        for case in json.loads((ROOT / manifest).read_text())["cases"]:
            if case["file"] == LEFT_OUT or case["op"] == "gist":
                continue
            for recorded in case["results"]:
                if recorded.get("tags"):
                    continue
                group = found.setdefault((case["family"], recorded["flavour"]), [])
                group += [
                    Result(case, recorded["flavour"], cores, recorded["outputs"])
                    for cores in recorded["cores"]
                ]
    return found


def runs():
    return json.loads((ROOT / "endtoend.json").read_text())


IEEE = {  # recorded operation: function of pyodl.formats, operand dtype, result's format
    "f16_add": ("add", np.float16, "float16"),
    "f16_sub": ("sub", np.float16, "float16"),
    "f16_mul": ("mul", np.float16, "float16"),
    "f16_div": ("div", np.float16, "float16"),
    "f16_sqrt": ("sqrt", np.float16, "float16"),
    "f16_mulAdd": ("fma", np.float16, "float16"),
    "f32_mulAdd": ("fma", np.float32, "float32"),
    "f32_to_f16": ("round_to", np.float32, "float16"),
    "f64_to_f16": ("round_to", np.float64, "float16"),
    "f16_to_f32": ("round_to", np.float16, "float32"),
    "bf16_to_f32": ("round_to", ml_dtypes.bfloat16, "float32"),
    "f32_to_bf16": ("round_to", np.float32, "bfloat16"),
}


def ieee_differences(formats, operation):
    """-> indices of the operands for which a function does not give the recorded bits."""
    function, dtype, result = IEEE[operation]
    data = arrays("ieee_ops.npz")
    names = [f"{operation}.{k}" for k in "abc" if f"{operation}.{k}" in data]
    operands = [data[n].view(dtype) for n in names]
    want = data[f"{operation}.z"]
    got = np.ascontiguousarray(getattr(formats, function)(*operands, result))
    assert got.dtype.name == result
    assert got.shape == want.shape
    return np.flatnonzero(got.view(want.dtype) != want)


def same_bits(got, want):
    """Whether an array or scalar of a 16-bit dtype holds exactly the recorded bits."""
    got = np.ascontiguousarray(got)
    return (
        got.dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
        and got.size == want.size
        and np.array_equal(got.reshape(-1).view(np.uint16), want.reshape(-1))
    )


def differing(P, chosen):
    """-> (labels of outputs that do not have the recorded bits, number of outputs compared)."""
    wrong, compared = [], 0
    for result in chosen:
        wanted = result.wanted()
        try:
            got = RUN[result.case["op"]](P, result, result.inputs())
        except Exception as error:  # noqa: BLE001 - a failing call is a failing result
            wrong.append(f"{result.label}: {type(error).__name__}: {error}")
            continue
        assert set(got) <= set(wanted), f"{result.label}: {set(got) - set(wanted)} not recorded"
        compared += len(got)
        wrong += [f"{result.label}: {n}" for n in got if not same_bits(got[n], wanted[n])]
    return wrong, compared


def _common(r):
    return {"arithmetic": r.arithmetic, "cores": r.cores}


def _kernel(r):
    number = r.case["params"].get("matmul_type")  # direct convolutions have none
    return {} if number is None else {"kernel": KERNELS[number]}


def _padding(p):
    return tuple(p["pad_" + side] for side in "UDLR")


def _matmul(P, r, x):
    p = r.case["params"]
    if "kernel" in p:  # mv_2x1, mv_4x1, mv_8x1
        kernel = "simd_" + p["kernel"].removeprefix("mv_")
        return {"C": P.matvec(x["A"], x["B"].reshape(-1), kernel=kernel, **_common(r))}
    transposed = bool(p["trans_B"])
    return {"C": P.matmul(x["A"], x["B"], transpose_b=transposed, **_kernel(r), **_common(r))}


def _conv(P, r, x):
    p, common = r.case["params"], _common(r)
    named = {"layout": p["layout"], "algorithm": ALGORITHM[p["algorithm"]]}
    geometry = {"stride": p["stride"], "padding": _padding(p), **named, **_kernel(r), **common}
    if p["step"] == "fw":
        y = P.conv2d_forward(x["in_data"], x["w_data"], x.get("b_data"), **geometry)
        return {"out_data": y}
    if p["step"] == "ig":
        size = (p["H"], p["W"])
        return {"in_diff": P.conv2d_input_grad(x["w_data"], x["out_diff"], size, **geometry)}
    dw = P.conv2d_weight_grad(x["in_data"], x["out_diff"], (p["k"], p["k"]), **geometry)
    if "b_diff" not in x:
        return {"w_diff": dw}
    return {"w_diff": dw, "b_diff": P.conv2d_bias_grad(x["out_diff"], **named, **common)}


def _steps(forward, weight_grad, input_grad):
    """An adapter that picks one of three calls by the recorded training step."""

    def run(P, r, x):
        name, call = {
            "fw": ("out_data", forward),
            "wg": ("w_diff", weight_grad),
            "ig": ("in_diff", input_grad),
            "bw": ("in_diff", input_grad),
        }[r.case["params"]["step"]]
        return {name: call(P, r, x, r.case["params"])}

    return run


_depthwise = _steps(
    lambda P, r, x, p: P.depthwise_forward(x["in_data"], x["w_data"], **_common(r)),
    lambda P, r, x, p: P.depthwise_weight_grad(
        x["in_data"], x["out_diff"], (p["kH"], p["kW"]), **_common(r)
    ),
    lambda P, r, x, p: P.depthwise_input_grad(
        x["w_data"], x["out_diff"], (p["H"], p["W"]), **_common(r)
    ),
)


def _pw(r):
    return {"layout": r.case["params"]["layout"], **_kernel(r), **_common(r)}


_pointwise = _steps(
    lambda P, r, x, p: P.pointwise_forward(x["in_data"], x["w_data"], **_pw(r)),
    lambda P, r, x, p: P.pointwise_weight_grad(x["in_data"], x["out_diff"], **_pw(r)),
    lambda P, r, x, p: P.pointwise_input_grad(x["w_data"], x["out_diff"], **_pw(r)),
)


def _fc(r):
    return {**_kernel(r), **_common(r)}


_linear = _steps(
    lambda P, r, x, p: P.linear_forward(x["in_data"], x["w_data"], x.get("b_data"), **_fc(r)),
    lambda P, r, x, p: P.linear_weight_grad(x["in_data"], x["out_diff"], **_fc(r)),
    lambda P, r, x, p: P.linear_input_grad(x["w_data"], x["out_diff"], **_fc(r)),
)

_softmax = _steps(
    lambda P, r, x, p: P.softmax_forward(x["in_data"], exp="fast", **_common(r)),
    None,
    lambda P, r, x, p: P.softmax_backward(x["out_data"], x["out_diff"], **_common(r)),
)


def _activation(P, r, x):
    kind, common = r.case["params"]["activation"], _common(r)
    name, extra = {"relu": ("relu", ()), "sigmoid": ("sigmoid", ())}.get(kind, ("leaky_relu", None))
    if extra is None:
        extra = (r.scalar("negative_slope_fp16_bits"),)
    if r.case["params"]["step"] == "fw":
        return {"out_data": getattr(P, name + "_forward")(x["in_data"], *extra, **common)}
    seen = x["out_data"] if kind == "sigmoid" else x["in_data"]
    return {"in_diff": getattr(P, name + "_backward")(seen, x["out_diff"], *extra, **common)}


def _pool(P, r, x):
    p, common = r.case["params"], _common(r)
    window = ((p["kH"], p["kW"]), (p["stride_h"], p["stride_w"]))
    if p["step"] == "fw":
        forward = P.avg_pool_forward if p["pool"] == "avg" else P.max_pool_forward
        return {"out_data": forward(x["in_data"], *window, **common)}
    if p["pool"] == "avg":
        size = (p["H"], p["W"])
        return {"in_diff": P.avg_pool_backward(x["out_diff"], size, *window, **common)}
    return {"in_diff": P.max_pool_backward(x["in_data"], x["out_diff"], *window, **common)}


def _residual(P, r, x):
    if "out_data" in r.outputs:
        return {"out_data": P.add(x["skip_data"], x["lout_data"], **_common(r))}
    if "skip_diff" in r.outputs:
        return {"skip_diff": P.add(x["out_diff"], x["skip_diff"], **_common(r))}
    return {}  # a plain copy of the gradient


def _instance_norm(P, r, x):
    p, common = r.case["params"], _common(r)
    gamma, beta = np.split(x["coeff_data"], [p["C"]]) if "coeff_data" in x else (None, None)
    mean, std = x.get("running_mean"), x.get("running_stdev")
    if p["step"] == "bw_param":
        parts = P.instance_norm_param_grad(x["in_data"], x["out_diff"], mean, std, **common)
        return {"coeff_diff": np.concatenate(parts)}
    if p["step"] == "bw_input":
        args = (x["in_data"], x["out_diff"], gamma, mean, std, x["running_var"])
        return {"in_diff": P.instance_norm_input_grad(*args, **common)}
    given = {"mean": mean, "std": std} if p["freeze_running_params"] else {}
    y, mean, std = P.instance_norm_forward(x["in_data"], gamma, beta, **given, **common)
    return {"out_data": y} if given else {"out_data": y, "running_mean": mean, "running_stdev": std}


def _loss(P, r, x):
    p, extra = r.case["params"], {}
    name = "cross_entropy" if p["loss"] == "crossentropy" else p["loss"]
    if name == "berhu":
        extra["alpha"] = r.scalar("alpha_fp16_bits")
    if p["step"] == "fw":
        loss = getattr(P, name)(x["output"], x["target"], arithmetic=r.arithmetic, **extra)
        return {"loss": np.atleast_1d(loss)}
    gradient = getattr(P, name + "_grad")
    return {"output_diff": gradient(x["output"], x["target"], arithmetic=r.arithmetic, **extra)}


def _sgd(P, r, x):
    rates = (r.scalar("learning_rate_fp16_bits"), r.scalar("weight_decay_fp16_bits"))
    w, g = P.sgd(x["weights"], x["weight_grad"], rates[0], weight_decay=rates[1], **_common(r))
    out = {"weights": w, "weight_grad": g}
    if r.case["params"]["use_bias"]:
        out["biases"], out["bias_grad"] = P.sgd(
            x["biases"], x["bias_grad"], rates[0], weight_decay=rates[1], **_common(r)
        )
    return {n: v for n, v in out.items() if n in r.outputs}  # no decay: no new gradient recorded


def _layout(P, r, x):
    c, h, w = (r.case["params"][k] for k in "CHW")
    out = {}
    for name in r.outputs:
        if r.case["name"].startswith("CHW_to_HWC"):
            out[name] = P.chw_to_hwc(x[name].reshape(c, h, w))
        else:
            out[name] = P.hwc_to_chw(x[name].reshape(h, w, c))
    return out


def _unroll(P, r, x):
    p = r.case["params"]
    unroll, k = (P.im2row if p["fn"] == "im2row" else P.im2col), (p["k"], p["k"])
    if p["mod"]:  # the output gradient, unrolled for the input gradient
        return {"buf": unroll(x["out_diff"], k, padding=p["k"] - 1, layout=p["layout"])}
    geometry = {"stride": p["stride"], "padding": _padding(p), "layout": p["layout"]}
    return {"buf": unroll(x["in_data"], k, **geometry)}


RUN = {
    "mm": _matmul,
    "conv": _conv,
    "dw": _depthwise,
    "pw": _pointwise,
    "linear": _linear,
    "act": _activation,
    "softmax": _softmax,
    "vsoftmax": lambda P, r, x: {"out": P.softmax_forward(x["in"], exp="expf", **_common(r))},
    "pool": _pool,
    "residual": _residual,
    "vsum": lambda P, r, x: {"dest": P.add(x["op_1"], x["op_2"], **_common(r))},
    "instnorm": _instance_norm,
    "loss": _loss,
    "sgd": _sgd,
    "transpose": lambda P, r, x: {"out": P.transpose(x["in"], tuple(r.case["params"]["axes"]))},
    "transpose_matrix": lambda P, r, x: {"out": P.transpose(x["in"], (1, 0))},
    "layout": _layout,
    "pad": lambda P, r, x: {
        "dest": P.pad(x["source"], _padding(r.case["params"]), layout=r.case["params"]["layout"])
    },
    "bt": lambda P, r, x: {
        "bt": P.block_transpose(x["weights"], layout=r.case["params"]["layout"])
    },
    "im2": _unroll,
}
