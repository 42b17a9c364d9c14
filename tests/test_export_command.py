"""The command pyodl export, and the C checker that it writes, compiled and run on this host."""

import shutil
import subprocess

import numpy as np
import pytest
from export_cases import CONV, bits, written

import pyodl
from pyodl import golden
from pyodl.cli import main
from pyodl.formats import from_bits
from pyodl.golden import _primitives


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


def test_the_command_exports_a_saved_network(tmp_path):
    net = pyodl.models.tiny_cnn(arithmetic="fp16-fma")
    pyodl.train_step(net, np.full((1, 8, 8), 0.5, np.float16), 3)
    net.save(tmp_path / "net.npz")
    assert run("step", tmp_path / "net.npz", "--freeze", "conv1", "-o", tmp_path / "v") == 0
    vectors = golden.read(tmp_path / "v")
    assert (vectors.case.arithmetic, vectors.case.frozen) == ("fp16-fma", ("conv1",))
    for name, array in net.parameters().items():
        assert vectors.tensors[f"initial/parameter/{name}"].values.tobytes() == array.tobytes()
    (tmp_path / "net.npz").write_text("no network")
    assert run("step", tmp_path / "net.npz", "-o", tmp_path / "v") == 2


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
