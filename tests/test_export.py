"""Vectors: drawn, run, written and read back bit for bit; directories whole or not at all."""

import json
import shutil
import subprocess

import numpy as np
import pytest

import pyodl
from pyodl import golden, layers
from pyodl.cli import main
from pyodl.formats import from_bits
from pyodl.golden import _data, _primitives

CONV = golden.Case(
    "conv2d_weight_grad",
    {"x": (3, 6, 7), "dy": (5, 6, 7)},
    {"kernel_size": 3, "padding": (1, 1, 1, 1), "kernel": "simd_4x8"},
    arithmetic="fp16-fma",
    cores=2,
    seed=7,
)
STEP = golden.StepCase("tiny_cnn", steps=2, arithmetic="fp16-fma", weight_decay=0.01)


def bits(arrays):
    return {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in arrays.items()}


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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


def test_the_command_exports_a_saved_network(tmp_path):
    net = own_network(arithmetic="fp16-fma")
    train = np.full((2, 9, 8), 0.5, np.float16)
    pyodl.train_step(net, train, 3)
    net.save(tmp_path / "net.npz")
    assert run("step", tmp_path / "net.npz", "--freeze", "first", "-o", tmp_path / "v") == 0
    vectors = golden.read(tmp_path / "v")
    assert (vectors.case.arithmetic, vectors.case.frozen) == ("fp16-fma", ("first",))
    for name, array in net.parameters().items():
        assert vectors.tensors[f"initial/parameter/{name}"].values.tobytes() == array.tobytes()


def test_networks_that_cannot_be_exported_are_refused(tmp_path):
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
    (tmp_path / "net.npz").write_text("no network")
    assert run("step", tmp_path / "net.npz", "-o", tmp_path / "v") == 2


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
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    manifest["tensors"][2]["sha256"] = "0" * 64
    (tmp_path / "v" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="the bits of dw are not those"):
        golden.read(tmp_path / "v")


def run(*arguments):
    return main(["export", *map(str, arguments)])


def test_the_command_exports_a_primitive(tmp_path, capsys):
    options = "--in 16x8x8 --out-channels 16 --kernel-size 3 --padding 1 --matmul simd_4x8"
    status = run(
        *("conv2d", "--step", "weight_grad", *options.split()),
        *("--cores", 8, "--arithmetic", "fp16-fma", "--seed", 7, "-o", tmp_path / "v"),
    )
    assert (status, capsys.readouterr().out) == (
        *(0, f"{tmp_path / 'v'}: 3 tensors, 1 of them computed\n"),
    )
    vectors = golden.read(tmp_path / "v")
    assert vectors.case == golden.Case(
        "conv2d_weight_grad",
        {"x": (16, 8, 8), "dy": (16, 8, 8)},
        {"kernel_size": 3, "padding": 1, "kernel": "simd_4x8"},
        arithmetic="fp16-fma",
        seed=7,
    )
    assert bits(vectors.outputs()) == bits(vectors.case.run())


def test_the_command_exports_training_steps(tmp_path):
    assert run("step", "tiny_cnn", "--steps", 3, "--lr", 0.5, "-o", tmp_path / "v") == 0
    vectors = golden.read(tmp_path / "v")
    assert vectors.case == golden.StepCase("tiny_cnn", 3, lr=0.5)
    assert {"tiny_cnn_initial.h", "tiny_cnn_step2.h"} <= written(tmp_path / "v").keys()


SIZES = {  # family: what each of its steps takes
    "conv2d": "--in 3x6x7 --out-channels 4 --kernel-size 2,3 --stride 2 --padding 1 --layout HWC",
    "depthwise": "--in 3x6x7 --kernel-size 3 --padding 1",
    "pointwise": "--in 3x4x5 --out-channels 2 --layout HWC",
    "linear": "--in 9 --out-channels 4",
    "matmul": "--in 4x5x6 --transpose-b",
    "matvec": "--in 4x5",
    "avg_pool": "--in 2x6x6 --kernel-size 2",
    "max_pool": "--in 2x6x6 --kernel-size 3 --stride 2",
    "im2row": "--in 2x5x5 --kernel-size 3 --padding 1,0,1,0 --layout HWC",
    "im2col": "--in 2x5x5 --kernel-size 3",
    "pad": "--in 2x5x5 --padding 1,2,0,1 --layout HWC",
    "block_transpose": "--in 2x3x3x3",
    "transpose": "--in 2x3x4 --axes 2,0,1",
    "instance_norm": "--in 3x4x4",
    "cross_entropy": "--in 10",
    "leaky_relu": "--in 3x4 --slope 0.1",
    "sgd": "--in 3x4 --lr 0.1 --weight-decay 0.01",
    "softmax": "--in 3x4",
}


@pytest.mark.parametrize("name", _primitives.PRIMITIVES)
def test_every_primitive_is_exported(name, tmp_path):
    if name in ("add_bias", "reshape"):  # of chains, not of the command
        case = golden.case_of(name, (2, 3, 4), **{"shape": (6, 4)} if name == "reshape" else {})
        assert case.run()["y"].size == 24
        return
    family, step = golden.family_and_step(name)
    options = SIZES.get(family, "--in 3x4x5").split()
    if name in ("conv2d_bias_grad", "linear_bias_grad"):
        options = [option for option in options if option != "--transpose-b"]
    arguments = [family, *(["--step", step] if step else []), *options]
    assert run(*arguments, "--data", "hard", "-o", tmp_path / "v") == 0
    vectors = golden.read(tmp_path / "v")
    assert vectors.case.primitive == name
    assert bits(vectors.outputs()) == bits(vectors.case.run())
    assert all(len(t.layout) == t.bits.ndim for t in vectors.tensors.values())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("conv2d --in 3x8x8 --kernel-size 3", "conv2d_forward needs out_channels"),
        ("conv2d --in 3x8x8 --out-channels 4", "conv2d_forward needs kernel_size"),
        ("conv2d --in 3x8x8 --out-channels 4 --kernel-size 9", "kernel_size spans (9, 9)"),
        ("conv2d --in 3x8 --out-channels 4 --kernel-size 3", "takes (C, H, W)"),
        ("conv2d --step grad --in 3x8x8", "conv2d has no step 'grad'; it may be bias_grad"),
        ("conv2d", "conv2d_forward needs --in"),
        ("conv3d --in 3", "there is no primitive 'conv3d'; it may be step, add, "),
        ("relu --in 4 --slope 3", "relu_forward takes no slope"),
        ("relu --in 4 --out-channels 3", "relu_forward takes no out_channels"),
        ("relu --in 4 --bias", "relu_forward takes no bias"),
        ("relu --in 4 --steps 3", "relu takes no --steps; only step does"),
        ("relu resnet8 --in 4", "relu takes no 'resnet8'; only step takes a model"),
        ("relu --in 4 --prefix 3a", "prefix is '3a'; it must be an identifier of C"),
        ("relu --in 4 --data odd", "data is 'odd'; it may be one of normal"),
        ("relu --in 4 --arithmetic fp8", "arithmetic is 'fp8'; it may be one of fp16-fp32acc"),
        ("matmul --in 3x4x5 --matmul fast", "kernel is 'fast'; it may be one of naive"),
        ("leaky_relu --in 4", "leaky_relu_forward needs slope"),
        ("transpose --in 3x4 --axes 0,0", "it may be a permutation of 0 to 1"),
        ("step", "step needs a model: resnet8, ds_cnn, tiny_cnn"),
        ("step vgg", "model is 'vgg'; it may be one of resnet8, ds_cnn, tiny_cnn"),
        ("step tiny_cnn --in 3", "training steps take no --in"),
        ("step tiny_cnn --bias", "training steps take no --bias"),
        ("step tiny_cnn --steps 5000", "steps is 5000; it may be at most 1000"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message, tmp_path, capsys):
    assert run(*arguments.split(), "-o", tmp_path / "v") == 2
    printed = capsys.readouterr().err
    assert printed.startswith("pyodl: ")
    assert printed.count("\n") == 1
    assert message in printed
    assert not (tmp_path / "v").exists()


def test_the_command_does_not_write_where_it_should_not(tmp_path, capsys):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "other").touch()
    assert run("relu", "--in", 4, "-o", tmp_path / "v") == 2
    assert "--force" in capsys.readouterr().err
    assert run("relu", "--in", 4, "-o", tmp_path / "v", "--force", "--no-headers") == 0
    assert written(tmp_path / "v").keys() == {"manifest.json", "vectors.npz"}
    assert run("relu", "--in", 4, "-o", tmp_path / "missing" / "v") == 2
    assert f"{tmp_path / 'missing'}: there is no such directory" in capsys.readouterr().err


CHECK = """
#include "{header}.h"
#include <stdio.h>

static void print(const char *line) {{ puts(line); }}

int main(void)
{{
    static uint{width}_t got[{size}];
    unsigned long i, differing = 0;
    for (i = 0; i < {size}; i++)
        got[i] = {tensor}[i];
    differing += pyodl_check(&{tensor}_tensor, got, print);
    {damage}
    differing += pyodl_check(&{tensor}_tensor, got, print);
    printf("%lu\\n", differing);
    return 0;
}}
"""


def compiled_check(folder, tensor, size, damage, flags=(), width=16):
    """What the C checker prints for a tensor before and after it is damaged."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "the package was built with a compiler; it must be on the PATH"
    header = tensor.rpartition("_")[0]
    source = CHECK.format(header=header, width=width, size=size, tensor=tensor, damage=damage)
    (folder / "check.c").write_text(source)
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O2"]
    command = [compiler, *strict, *flags, "-o", folder / "check", folder / "check.c"]
    subprocess.run(command, check=True)
    done = subprocess.run([folder / "check"], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_the_c_checker_names_the_first_mismatch(tmp_path):
    golden.write(tmp_path / "v", CONV)
    tensor = golden.read(tmp_path / "v").tensors["dw"]
    at = np.ravel_multi_index((1, 2, 0, 1), tensor.shape)
    want = int(tensor.bits.reshape(-1)[at])
    damage = f"got[{at}] ^= 4; got[{at + 9}] = 0x7e01;"
    lines = compiled_check(tmp_path / "v", "conv2d_weight_grad_dw", 135, damage)
    where = f"first element {at} [co 1, ci 2, kh 0, kw 1]"
    what = f"expected 0x{want:04x}, got 0x{want ^ 4:04x}, 4 ULP"
    assert lines == [f"pyodl: conv2d_weight_grad/dw: 2 of 135 differ, {where}: {what}", "2"]


def test_the_c_checker_knows_nans_zeros_and_infinities(tmp_path):
    patterns = [0x7E00, 0xFE01, 0x0000, 0x7BFF, 0x8001]
    given = {"x": from_bits(np.array(patterns, np.uint16), "float16")}
    case = golden.Case("reshape", {"x": (5,)}, {"shape": (5,)}, "fp16-fma")
    golden.write(tmp_path / "v", golden.vectors_of(case, given), prefix="odd")
    for damage, found in [
        ("got[0] = 0xfe00;", "first element 0 [i 0]: expected 0x7e00, got 0xfe00, NaN"),
        ("got[2] = 0x8000;", "first element 2 [i 2]: expected 0x0000, got 0x8000, 0 ULP"),
        ("got[3] = 0x7c00;", "first element 3 [i 3]: expected 0x7bff, got 0x7c00, 1 ULP"),
        ("got[4] = 0x0002;", "first element 4 [i 4]: expected 0x8001, got 0x0002, 3 ULP"),
    ]:
        assert compiled_check(tmp_path / "v", "odd_y", 5, damage) == [
            *(f"pyodl: odd/y: 1 of 5 differ, {found}", "1"),
        ]
    any_nan = ["-DPYODL_ANY_NAN"]
    assert compiled_check(tmp_path / "v", "odd_y", 5, "got[0] = 0xfe00;", any_nan) == ["0"]


def test_fp32_vectors_are_words_in_a_section(tmp_path):
    golden.write(tmp_path / "v", CONV.replace(arithmetic="fp32", seed=1), prefix="wide")
    want = int(golden.read(tmp_path / "v").tensors["dw"].bits.reshape(-1)[0])
    section = ['-DPYODL_SECTION=__attribute__((section(".pyodl")))']
    lines = compiled_check(tmp_path / "v", "wide_dw", 135, "got[0] += 3;", section, width=32)
    assert lines[0].endswith(f"expected 0x{want:08x}, got 0x{want + 3:08x}, 3 ULP")
    sections = subprocess.run(
        ["readelf", "-SW", tmp_path / "v" / "check"], check=True, capture_output=True, text=True
    )
    assert ".pyodl" in sections.stdout
