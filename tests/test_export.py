"""Vectors: drawn, run, written and read back bit for bit; directories whole or not at all."""

import json
import shutil

import numpy as np
import pytest
from export_cases import CONV, STEP, bits, written

import pyodl
from pyodl import golden, layers
from pyodl.formats import from_bits
from pyodl.golden import _data, _primitives


@pytest.mark.parametrize("model", ["tiny_cnn", "ds_cnn", "resnet8"])
@pytest.mark.parametrize("arithmetic", ["fp16-muladd", "bf16-fp32acc"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_a_chain_of_primitives_is_the_networks_training_step(model, arithmetic, weight_decay):
    case = golden.StepCase(
        model, 2, arithmetic, cores=4, seed=3, weight_decay=weight_decay, kernel="simd_4x8"
    )
    inputs, net = case.inputs(), case.network()
    outputs = case.run(inputs)
    compared = set()
    for step in range(2):
        x, target = inputs[f"step{step}/input"], inputs[f"step{step}/target"]
        loss = pyodl.train_step(net, x, target, lr=case.lr, weight_decay=weight_decay)
        kinds = {
            "activation": net.activations(),
            "output_gradient": net.output_gradients(),
            "decayed_gradient" if weight_decay else "gradient": net.gradients(),
            "parameter": net.parameters(),
        }
        want = {f"{kind}/{name}": a for kind, named in kinds.items() for name, a in named.items()}
        want["loss"] = np.array([loss], x.dtype)
        for name, array in want.items():
            got = outputs.get(f"step{step}/{name}")
            if got is not None:
                assert got.tobytes() == array.tobytes(), f"step{step}/{name}"
                compared.add(f"step{step}/{name}")
    rest = {name.split("/")[1] for name in outputs.keys() - compared}
    assert rest <= {"product", "input_gradient", "gradient"}
    assert ("gradient" in rest) == bool(weight_decay)


def own_network(**how):
    """A network of every kind of layer, and with a tensor that three layers take."""
    net = pyodl.Network(
        [
            layers.Conv2D(4, 3, 1, 1, name="first", bias=False),
            layers.LeakyReLU(0.1, name="leaky"),
            layers.DepthwiseConv2D((2, 3), 1, "same", name="deep"),
            layers.PointwiseConv2D(4, name="point", inputs="leaky", kernel="simd_2x4"),
            layers.Sigmoid(name="squash"),
            layers.Add(name="sum1", inputs=("deep", "squash")),
            layers.Add(name="sum2", inputs=("sum1", "leaky")),
            layers.MaxPool2D(3, 2, name="max"),
            layers.AvgPool2D(2, 1, name="mean"),
            layers.Flatten(name="flat"),
            layers.Linear(5, name="linear", kernel="unroll_2x1"),
        ],
        (2, 9, 8),
        **how,
    )
    net.freeze("deep")
    return net


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "fp32"])
@pytest.mark.parametrize("loss", ["mse", "berhu"])
def test_a_network_of_ones_own_becomes_calls(arithmetic, loss, tmp_path):
    net = own_network(arithmetic=arithmetic, device=pyodl.Device("mine", 3), seed=9)
    case = golden.StepCase.of(net, steps=2, seed=4, loss=loss, lr=0.1)
    assert golden.from_json(json.loads(json.dumps(case.to_json()))) == case
    vectors = golden.write(tmp_path / "v", golden.vectors_of(case, case.inputs(net.parameters())))
    assert golden.read(tmp_path / "v").case == case
    assert "network_step1.h" in written(tmp_path / "v")
    inputs, outputs = vectors.inputs(), vectors.outputs()
    for step in range(2):
        x, target = inputs[f"step{step}/input"], inputs[f"step{step}/target"]
        pyodl.train_step(net, x, target, lr=0.1, loss=loss)
        for name, gradient in net.gradients().items():
            assert outputs[f"step{step}/gradient/{name}"].tobytes() == gradient.tobytes(), name
            parameter = net.parameters()[name]
            assert outputs[f"step{step}/parameter/{name}"].tobytes() == parameter.tobytes(), name
        assert f"step{step}/parameter/deep.weight" not in outputs


def test_networks_that_cannot_be_exported_are_refused():
    norm = pyodl.Network([layers.InstanceNorm(), layers.Flatten(), layers.Linear(2)], (2, 3, 3))
    with pytest.raises(ValueError, match="layer 'instancenorm1' is no Add, AvgPool2D"):
        golden.StepCase.of(norm)
    with pytest.raises(ValueError, match="it has input_shape and layers"):
        golden.StepCase({"layers": []})
    with pytest.raises(ValueError, match="leaves no layer to train"):
        STEP.replace(frozen=("conv1", "conv2", "linear"))
    with pytest.raises(ValueError, match="name is 'conv9'"):
        STEP.replace(frozen=("conv9",))
    with pytest.raises(ValueError, match="parameters are"):
        STEP.inputs({})
    wrong = {name: a.astype(np.float32) for name, a in STEP.network().parameters().items()}
    with pytest.raises(TypeError, match="dtype float32"):
        STEP.inputs(wrong)


@pytest.mark.parametrize("case", [CONV, STEP], ids=["primitive", "step"])
def test_a_case_survives_json(case):
    assert golden.from_json(json.loads(json.dumps(case.to_json()))) == case


@pytest.mark.parametrize("case", [CONV, STEP, CONV.replace(arithmetic="bf16-fma")])
def test_what_is_read_is_what_was_written(case, tmp_path):
    vectors = golden.write(tmp_path / "v", case)
    again = golden.read(tmp_path / "v")
    assert again.case == case
    assert list(again.tensors) == list(vectors.tensors)
    for name, tensor in vectors.tensors.items():
        other = again.tensors[name]
        assert other.bits.tobytes() == tensor.bits.tobytes()
        assert (other.format, other.shape, other.layout, other.role, other.step) == (
            *(tensor.format, tensor.shape, tensor.layout, tensor.role, tensor.step),
        )
    assert bits(again.outputs()) == bits(case.run())


@pytest.mark.parametrize("format", ["float16", "bfloat16"])
def test_every_bit_pattern_survives(format, tmp_path):
    patterns = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    arithmetic = {"float16": "fp16-fma", "bfloat16": "bf16-fma"}[format]
    case = golden.Case("transpose", {"x": (256, 256)}, {"axes": (1, 0)}, arithmetic)
    given = {"x": from_bits(patterns, format)}
    golden.write(tmp_path / "v", golden.vectors_of(case, given))
    read = golden.read(tmp_path / "v")
    assert np.array_equal(read.tensors["x"].bits, patterns)
    assert np.array_equal(read.tensors["y"].bits, patterns.T)
    assert read.inputs()["x"].tobytes() == given["x"].tobytes()


def test_the_same_case_writes_the_same_bytes(tmp_path):
    golden.write(tmp_path / "a", CONV)
    golden.write(tmp_path / "b", CONV)
    assert written(tmp_path / "a") == written(tmp_path / "b")


def test_the_manifest_describes_every_tensor(tmp_path):
    golden.write(tmp_path / "v", CONV)
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    assert manifest["pyodl"] == pyodl.__version__
    assert manifest["case"]["seed"] == 7
    assert sorted(manifest["files"]) == sorted(written(tmp_path / "v"))
    described = [(t["name"], t["role"], t["shape"], t["layout"]) for t in manifest["tensors"]]
    assert described == [
        ("x", "input", [3, 6, 7], ["ci", "h", "w"]),
        ("dy", "input", [5, 6, 7], ["co", "h", "w"]),
        ("dw", "output", [5, 3, 3, 3], ["co", "ci", "kh", "kw"]),
    ]


def test_channels_last_moves_the_axes():
    case = CONV.replace(layout="HWC")
    assert case.axes("dw", 4) == ("co", "kh", "kw", "ci")
    assert case.axes("x", 3) == ("h", "w", "ci")
    assert STEP.axes("step1/gradient/conv2.weight", 4) == ("co", "ci", "kh", "kw")


def test_overrides_replace_fields_and_parameters():
    case = CONV.replace(kernel="naive", arithmetic="fp16-muladd", cores=1)
    assert (case.parameters["kernel"], case.arithmetic, case.cores) == ("naive", "fp16-muladd", 1)
    assert case.parameters["padding"] == (1, 1, 1, 1)
    given = CONV.inputs()
    assert bits(CONV.run(given, arithmetic="fp16-muladd")) == bits(
        CONV.replace(arithmetic="fp16-muladd").run(given)
    )
    assert bits(CONV.run(given, arithmetic="fp16-muladd")) != bits(CONV.run(given))


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"primitive": "conv3d"}, "primitive is 'conv3d'; it may be one of add"),
        ({"shapes": {"x": (3, 6, 7)}}, "shapes names no 'dy'"),
        ({"shapes": {"x": (1,), "dy": (1,), "z": (1,)}}, "shapes names 'z'; it may name x, dy"),
        ({"shapes": {"x": (3, 0, 7), "dy": (5, 6, 7)}}, "the shape of x is 0"),
        ({"shapes": {"x": (1 << 20, 1 << 20), "dy": (5,)}}, "2\\*\\*27 elements"),
        ({"parameters": {}}, "parameters names no 'kernel_size'"),
        ({"parameters": {"kernel_size": 3, "lr": 1}}, "parameters names 'lr'; it may name ker"),
        ({"arithmetic": "fp8"}, "arithmetic is 'fp8'"),
        ({"cores": 0}, "cores is 0"),
        ({"data": "odd"}, "data is 'odd'; it may be one of normal"),
    ],
)
def test_a_case_says_what_is_wrong(changed, message):
    described = {**CONV.to_json(), **changed}
    with pytest.raises(ValueError, match=message):
        golden.from_json(described)


def test_a_description_of_something_else_is_refused():
    with pytest.raises(TypeError, match="a case must be a dictionary"):
        golden.from_json([])
    with pytest.raises(ValueError, match="a case has"):
        golden.from_json({**CONV.to_json(), "more": 1})
    with pytest.raises(TypeError, match="kernel_size must be a number"):
        CONV.replace(kernel_size={})
    with pytest.raises(ValueError, match=r"lr is -1\.0"):
        STEP.replace(lr=-1.0)


@pytest.mark.parametrize("data", _data.DATA)
@pytest.mark.parametrize("format", ["fp16-fma", "bf16-fma", "fp32"])
def test_hard_cases_are_hard(data, format):
    case = golden.Case("add", {"a": (16, 16), "b": (16, 16)}, {}, format, data=data)
    a = case.inputs()["a"]
    assert a.tobytes() == case.inputs()["a"].tobytes()
    assert a.tobytes() != case.replace(seed=1).inputs()["a"].tobytes()
    with np.errstate(invalid="ignore"):  # some NaNs are signalling
        x = a.astype(np.float64)
    smallest = 2.0 ** pyodl.arithmetic.get(format).storage.emin
    finds = {
        "subnormals": (abs(x) < smallest) & (x != 0),
        "overflow": abs(x) > 2.0 ** (pyodl.arithmetic.get(format).storage.emax - 1),
        "signed-zeros": (x == 0) & np.signbit(x),
        "nan-inf": np.isnan(x),
        "ties": x == 1,
        "leftovers": abs(x) > 300,
        "hard": np.isinf(x),
        "normal": np.isfinite(x),
    }
    assert finds[data].any()
    assert data in ("nan-inf", "hard") or np.isfinite(x).all()


def test_every_primitive_can_be_described():
    for name in _primitives.PRIMITIVES:
        known = _primitives.get(name)
        assert known.outputs
        assert known.required <= set(known.parameters)
        assert not set(known.outputs) & set(known.tensors)


def test_a_directory_of_others_is_not_replaced(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="--force"):
        golden.write(tmp_path / "v", CONV)
    assert written(tmp_path / "v") == {"thesis.tex": b"years of work"}
    golden.write(tmp_path / "v", CONV, force=True)
    assert golden.read(tmp_path / "v").case == CONV
    golden.write(tmp_path / "v", CONV.replace(seed=8))  # ours: replaced without being forced
    assert golden.read(tmp_path / "v").case.seed == 8
    (tmp_path / "v" / "notes").mkdir()
    with pytest.raises(FileExistsError, match="subdirectories"):
        golden.write(tmp_path / "v", CONV, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_a_failure_on_the_way_changes_nothing(tmp_path, monkeypatch):
    golden.write(tmp_path / "v", CONV)
    before = written(tmp_path / "v")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        golden.write(tmp_path / "v", STEP)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    assert written(tmp_path / "v") == before


def _flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_damage_is_noticed_everywhere(tmp_path):
    golden.write(tmp_path / "v", CONV)
    for name in ("manifest.json", "vectors.npz"):
        for cut in (0, 10, -1):
            shutil.rmtree(tmp_path / "d", ignore_errors=True)
            shutil.copytree(tmp_path / "v", tmp_path / "d")
            data = (tmp_path / "d" / name).read_bytes()
            (tmp_path / "d" / name).write_bytes(
                data[:cut] if name == "vectors.npz" else data[: cut - 2]
            )
            with pytest.raises(ValueError, match="holds no pyodl vectors"):
                golden.read(tmp_path / "d")
    with pytest.raises(FileNotFoundError):
        golden.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sha256": "0" * 64}, "the bits of dw are not those that the manifest's digest tells"),
        ({"dtype": "float32"}, "dw has shape .* and dtype uint16, not .* and uint32"),
        ({"dtype": "float64"}, "dtype is 'float64'; it may be one of float16"),
        ({"shape": [135]}, "not \\[135\\] and uint16"),
        ({"role": "guess"}, "role is 'guess'"),
        ({"name": "x"}, "names a tensor twice"),
        ({"name": "z"}, "there are no bits of z"),
        ({"layout": ["co"]}, "the layout of dw is \\['co'\\]"),
        ({"step": "1"}, "the step of dw is '1'"),
        ({"more": 1}, "has not dtype, layout"),
    ],
)
def test_a_manifest_that_lies_is_noticed(change, message, tmp_path):
    golden.write(tmp_path / "v", CONV)
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    manifest["tensors"][2] |= change
    (tmp_path / "v" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"holds no pyodl vectors: .*{message}"):
        golden.read(tmp_path / "v")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format": "other"}, "the manifest's format is not 'pyodl-vectors'"),
        ({"version": 2}, "the manifest's version is 2, not 1"),
        ({"tensors": []}, "names no tensors"),
        ({"case": STEP.to_json()}, "are not the case's"),
        ({"case": CONV.replace(arithmetic="bf16-fma").to_json()}, "x is float16, not bfloat16"),
        ({"case": None}, "a case must be a dictionary"),
    ],
)
def test_a_manifest_of_something_else_is_noticed(change, message, tmp_path):
    golden.write(tmp_path / "v", CONV)
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    (tmp_path / "v" / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ValueError, match=f"holds no pyodl vectors: .*{message}"):
        golden.read(tmp_path / "v")
