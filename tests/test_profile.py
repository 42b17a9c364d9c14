"""Profiles and tunings: what they add up to, what they may change, and who runs their searches."""

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyodl
from pyodl import golden, models, primitives
from pyodl.cli import main
from pyodl.device import DEVICES
from pyodl.device.cycles import model
from pyodl.device.loops import Core, count
from pyodl.device.matmul_nests import Form, matmul_nest
from pyodl.device.profile import places
from pyodl.device.search import estimates
from pyodl.device.steps import Matmul, steps
from pyodl.device.tiles import Tile, fitted
from pyodl.device.tune import read_kernels, same_bits
from pyodl.layers import (
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
from pyodl.primitives._orders import MATMUL_KERNELS

PULP = DEVICES["pulp-open"]
SMALL = replace(PULP, name="small", l1_bytes=16 * 1024)


def tiny(arithmetic="fp16-fma", **how):
    """Return a network that is searched quickly."""
    layers = [
        Conv2D(8, 3, 1, 1, name="conv1"),
        ReLU(name="relu1"),
        Conv2D(8, 3, 2, 1, name="conv2"),
        Flatten(),
        Linear(5, name="linear"),
    ]
    return pyodl.Network(layers, (2, 6, 6), arithmetic=arithmetic, **how)


@cache
def tuned(**how):
    return pyodl.tune(tiny(), **how)


def every_layer():
    """Return a network with every kind of layer and both convolution algorithms."""
    layers = [
        Conv2D(4, 3, 1, 1, name="im2row"),
        InstanceNorm(),
        LeakyReLU(),
        Conv2D(4, 3, 2, 1, algorithm="direct", name="direct"),
        Conv2D(4, 3, algorithm="direct", name="unpadded"),
        MaxPool2D(2, 1),
        DepthwiseConv2D(3, 1, 1),
        PointwiseConv2D(6),
        Sigmoid(),
        AvgPool2D(),
        Flatten(),
        Linear(3),
    ]
    return pyodl.Network(layers, (2, 12, 12), arithmetic="fp16-fma")


@pytest.mark.parametrize("arithmetic", pyodl.arithmetic.ARITHMETICS)
def test_a_profile_adds_up(arithmetic):
    net = every_layer()
    found = pyodl.profile(net, SMALL, arithmetic=arithmetic)
    assert found.macs == sum(sum(macs.values()) for macs in net.macs().values())
    assert found.cycles == pytest.approx(sum(row.cycles for row in found.rows))
    assert found.milliseconds == pytest.approx(1e3 * found.cycles / 450e6)
    assert (found.fp32 is None) == (arithmetic == "fp32")
    for row in found.rows:
        assert row.cores_cycles == pytest.approx(sum(row.causes.values()))
        assert row.l1_bytes <= SMALL.l1_bytes
        assert row.macs_per_cycle <= 16
        busy = row.cores_cycles + row.forks_cycles
        assert max(busy, row.dma_cycles) <= row.cycles <= busy + row.dma_cycles + 1e-6
    assert found.l1_bytes == max(row.l1_bytes for row in found.rows)
    assert found.l2_bytes >= max(row.l2_bytes for row in found.rows)


devices = st.builds(
    replace,
    st.sampled_from([PULP, DEVICES["vega"], DEVICES["single-core"]]),
    cores=st.sampled_from([1, 2, 3, 8, 9, 2**31 - 1]),
    lanes_fp16=st.sampled_from([1, 2, 4]),
    fpu_shared_by=st.sampled_from([1, 2, 64]),
    fpu_latency_fp16=st.integers(1, 6),
    fpu_pipelined_fp16=st.booleans(),
    l1_bytes=st.integers(4096, 2**20),
    l1_banks=st.sampled_from([1, 16]),
    dma_bytes_per_cycle=st.sampled_from([1, 8]),
    dma_setup_cycles=st.integers(0, 1000),
    fork_cycles=st.integers(0, 1000),
)


@settings(max_examples=10)
@given(devices)
def test_no_device_computes_faster_than_its_units(device):
    found = pyodl.profile(every_layer(), device, compare=False)
    units = -(-device.cores // device.fpu_shared_by)
    best = (
        units
        * min(device.lanes_fp16, 2)
        / (1 if device.fpu_pipelined_fp16 else device.fpu_latency_fp16)
    )
    for row in found.rows:
        assert 0 < row.macs_per_cycle <= best or not row.macs
        assert row.cycles > 0
        assert row.l1_bytes <= device.l1_bytes


def test_frozen_layers_cost_no_gradients():
    net = tiny()
    whole = pyodl.profile(net, compare=False)
    net.freeze("conv1", "conv2")
    frozen = pyodl.profile(net, compare=False)
    assert {row.layer for row in frozen.rows if row.step != "forward"} == {"linear", "loss"}
    assert frozen.cycles < whole.cycles / 2


def test_a_kernel_for_all_steps_is_no_faster_than_the_best_of_each():
    net = tiny()
    best = pyodl.profile(net, compare=False)
    for kernel in MATMUL_KERNELS:
        assert pyodl.profile(net, kernel=kernel, compare=False).cycles >= best.cycles - 1e-6


def test_dma_is_hidden_behind_the_cores_with_two_buffers():
    (step, *_), nodes = steps(tiny()), places(tiny())
    how = model(PULP, "fp16-fma")
    one, two = (
        how.estimate(fitted(step, PULP, Tile(8, 2), buffers=n), nodes["conv1"]) for n in (1, 2)
    )
    busy = one.cores.total + one.forks
    assert one.cycles == pytest.approx(busy + one.dma)
    tiles = two.plan.tiles
    assert two.cycles == pytest.approx((busy + two.dma + (tiles - 1) * max(busy, two.dma)) / tiles)


@settings(max_examples=100)
@given(
    st.sampled_from(MATMUL_KERNELS),
    *[st.integers(1, 40)] * 3,
    st.sampled_from([1, 2, 4, 8]),
    st.booleans(),
)
def test_core_0_is_the_slowest(kernel, n, k, m, cores, transposed):
    nests = [
        matmul_nest(kernel, n, k, m, transposed, cores, core, Form(2, "fma"))
        for core in range(cores)
    ]
    found = [count(nest, Core()).total for nest in nests]
    assert max(found) == found[0]


@settings(max_examples=60)
@given(
    st.sampled_from(MATMUL_KERNELS),
    *[st.integers(1, 20)] * 3,
    st.sampled_from([1, 2, 8]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_kernels_of_one_bit_class_give_equal_bits(kernel, n, k, m, cores, transposed, seed):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, k)).astype(np.float16)
    b = rng.standard_normal((m, k) if transposed else (k, m)).astype(np.float16)
    how = {"transpose_b": transposed, "cores": cores, "arithmetic": "fp16-fma"}
    step = replace(steps(tiny())[0], matmul=Matmul(n, k, m, transposed))
    kernels = same_bits(step, kernel, cores)
    assert kernel in kernels
    wanted = primitives.matmul(a, b, kernel=kernel, **how).view(np.uint16)
    for other in kernels:
        found = primitives.matmul(a, b, kernel=other, **how).view(np.uint16)
        np.testing.assert_array_equal(found, wanted)


def bits_after_training(net):
    rng = np.random.default_rng(1)
    for i in range(3):
        x = rng.standard_normal(net.input_shape).astype(net.arithmetic.storage.dtype)
        pyodl.train_step(net, x, i, lr=0.05)
    return {name: array.tobytes() for name, array in net.parameters().items()}


def test_tuning_never_changes_a_bit_by_itself():
    found = tuned()
    assert not found.changed
    assert any(choice.kernel != choice.before for choice in found.choices)
    net = tiny()
    net.set_kernels(found.kernels)
    assert bits_after_training(net) == bits_after_training(tiny())


def test_tuning_that_may_change_bits_says_where():
    found = tuned(any_bits=True)
    assert {(choice.layer, choice.step) for choice in found.changed} >= {("conv1", "forward")}
    assert all(choice.kernel not in choice.alternatives for choice in found.changed)
    net = tiny()
    net.set_kernels(found.kernels)
    assert bits_after_training(net) != bits_after_training(tiny())
    assert found.profile.cycles < tuned().profile.cycles


def test_tuning_finds_the_fastest_of_all_candidates():
    net, how = tiny(), model(SMALL, "fp16-fma")
    found, nodes = pyodl.tune(net, SMALL, any_bits=True), places(net)
    for step, choice in zip(steps(net), found.choices, strict=True):
        tried = estimates(how, step, nodes.get(step.layer), MATMUL_KERNELS, exhaustive=True)
        assert choice.cycles == min(estimate.cycles for estimate in tried)
        assert choice.cycles <= choice.cycles_before


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_executors_find_the_same(kind):
    net = pyodl.Network([Conv2D(4, 3), Flatten(), Linear(3)], (1, 6, 6))
    pool = (
        ThreadPoolExecutor(2)
        if kind == "threads"
        else ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    )
    with pool as executor:
        assert pyodl.tune(net, executor=executor) == pyodl.tune(net)


def test_dask_s_local_cluster_finds_the_same():
    distributed = pytest.importorskip("distributed", reason="needs pip install 'pyodl[dask]'")
    net = pyodl.Network([Conv2D(4, 3), Flatten(), Linear(3)], (1, 6, 6))
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        assert pyodl.tune(net, executor=executor) == pyodl.tune(net)


def test_fp16_gains_what_the_loops_say():
    """The left column of docs/device.md: no tiles, and a DMA that costs nothing."""
    fast = {"dma_bytes_per_cycle": 1024, "dma_setup_cycles": 0}
    roomy = replace(PULP, name="roomy", l1_bytes=2**31 - 1, **fast)
    found = pyodl.profile(models.resnet8(arithmetic="fp16-fma"), roomy)
    gains = {}
    for step in ("forward", "weight_grad", "input_grad"):
        pairs = [
            (slow.cycles, quick.cycles)
            for slow, quick in zip(found.fp32.rows, found.rows, strict=True)
            if (quick.kind, quick.step) == ("conv2d", step)
        ]
        single = [slow / quick for slow, quick in pairs]
        slow, quick = (sum(cycles) for cycles in zip(*pairs, strict=True))
        gains[step] = tuple(round(gain, 2) for gain in (slow / quick, min(single), max(single)))
    assert gains == {
        "forward": (1.67, 1.31, 1.85),
        "weight_grad": (1.46, 1.27, 1.53),
        "input_grad": (1.55, 1.32, 1.73),
    }


def test_no_executor_is_refused():
    with pytest.raises(TypeError, match=r"executor must be a .*\.Executor, not int"):
        pyodl.tune(tiny(), executor=4)


def test_a_saved_choice_is_read_back(tmp_path):
    found = tuned()
    found.save(tmp_path / "plan.json")
    assert read_kernels(tmp_path / "plan.json") == (found.kernels, 8)


@pytest.mark.parametrize(
    "content, message",
    [
        ("no JSON", "is no plan that pyodl tune wrote"),
        ("[]", "is no plan that pyodl tune wrote"),
        ('{"format": "other"}', "format is 'other'"),
        ('{"format": "pyodl tuning 1", "cores": 0, "kernels": {}}', "cores is 0"),
        (
            '{"format": "pyodl tuning 1", "cores": 8, "kernels": {"a": {"forward": "fast"}}}',
            "kernel is 'fast'",
        ),
    ],
)
def test_another_file_is_no_plan(tmp_path, content, message):
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_kernels(path)
    assert str(path) in str(raised.value)


def test_kernels_of_steps_are_kept_in_a_file(tmp_path):
    net = tiny()
    linear = {"forward": "naive_m", "input_grad": "naive"}
    net.set_kernels({"conv1": {"weight_grad": "simd_4x8"}, "linear": linear})
    net.save(tmp_path / "net.npz")
    loaded = pyodl.Network.load(tmp_path / "net.npz")
    assert loaded.layers == net.layers
    assert loaded.layers[0].kernel == ("naive", "simd_4x8", "naive")
    work = {(step.layer, step.step): step.kernel for step in steps(loaded)}
    assert work["conv1", "weight_grad"] == "simd_4x8"
    assert work["linear", "forward"] == "naive_m"


def test_exported_steps_have_the_kernels_of_a_tuning():
    net = tiny()
    net.set_kernels(tuned(any_bits=True).kernels)
    case = golden.StepCase.of(net)
    inputs = case.inputs(net.parameters())
    found = case.run(inputs)
    pyodl.train_step(net, inputs["step0/input"], inputs["step0/target"], lr=case.lr)
    for name, gradient in net.gradients().items():
        assert found[f"step0/gradient/{name}"].tobytes() == gradient.tobytes(), name


@pytest.mark.parametrize(
    "kernels, message",
    [
        ({"relu1": {"forward": "naive"}}, "layer is 'relu1'"),
        ({"conv1": {"update": "naive"}}, "step of conv1 is 'update'"),
        ({"conv1": {"forward": "fast"}}, "kernel of forward is 'fast'"),
    ],
)
def test_kernels_that_there_are_not_are_refused(kernels, message):
    net = tiny()
    before = net.layers
    with pytest.raises(ValueError, match=message):
        net.set_kernels({"conv2": {"forward": "naive_m"}, **kernels})
    assert net.layers == before


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_profile_prints_a_table_and_writes_files(tmp_path, capsys):
    plot, out = tmp_path / "roofline.png", tmp_path / "profile.json"
    status, printed, _ = run(capsys, "profile", "tiny_cnn", "--plot", plot, "--json", out)
    assert status == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    written = json.loads(out.read_text())
    net = models.tiny_cnn()
    assert len(written["rows"]) == len(steps(net))
    assert written["total"]["macs"] == sum(sum(m.values()) for m in net.macs().values())
    lines = printed.splitlines()
    heads = "layer step MACs kernel tile n cycles MAC/clk ms L1 L2 DMA vs FP32"
    assert lines[2].split() == heads.split()
    assert len(lines) == 3 + len(steps(net)) + 3
    assert lines[-1] == f"speed-up      {written['speed_up']:.2f} over fp32"


def test_profile_takes_a_saved_network_s_arithmetic_and_device(tmp_path, capsys):
    tiny("fp16-fp32acc", device="single-core").save(tmp_path / "net.npz")
    status, printed, _ = run(capsys, "profile", tmp_path / "net.npz")
    assert status == 0
    assert "on single-core: 1 cores" in printed
    assert "fp16-fp32acc, predicted" in printed


def test_tune_saves_what_train_uses(tmp_path, capsys):
    plan = tmp_path / "plan.json"
    status, printed, _ = run(capsys, "tune", "tiny_cnn", "--save", plan)
    assert status == 0
    assert "no bit changes" in printed
    short = ("train", "tiny_cnn", "--epochs", 1, "--no-fp32", "--json")
    assert run(capsys, *short, tmp_path / "a.json")[0] == 0
    assert run(capsys, *short, tmp_path / "b.json", "--plan", plan)[0] == 0
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert first["train_loss"] == second["train_loss"]
    status, _, error = run(capsys, *short, tmp_path / "c.json", "--plan", plan, "--cores", 2)
    assert (status, error) == (
        2,
        f"pyodl: --plan {plan}: it is for 8 cores, and the device has 2\n",
    )


@pytest.mark.parametrize(
    "content, message",
    [
        ('base = "pulp-open"\nname = "mine"\ncorse = 4', "corse is no field of a device"),
        ('base = "pulp-open"\nname = "mine"\ncores = -4', "cores is -4"),
        ('name = "mine"', "cores is missing"),
        ("cores = ", "is not TOML"),
    ],
)
@pytest.mark.parametrize("command", ["profile", "tune"])
def test_an_unusable_device_file_is_one_line(tmp_path, capsys, command, content, message):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    status, printed, error = run(capsys, command, "tiny_cnn", "--device", path)
    assert (status, printed, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"pyodl: {path}")
    assert message in error


@pytest.mark.parametrize("command", ["profile", "tune"])
@pytest.mark.parametrize(
    "field, message",
    [
        ("l1_bytes = 300", "bytes of L1, "),
        ("l2_bytes = 4000", "bytes of L2 are needed, "),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(tmp_path, capsys, command, field, message):
    path = tmp_path / "mine.toml"
    path.write_text(f'base = "pulp-open"\nname = "mine"\n{field}\n')
    status, printed, error = run(capsys, command, "tiny_cnn", "--device", path)
    assert (status, printed, error.count("\n")) == (2, "", 1)
    assert error.startswith("pyodl: layer '")
    assert message in error
    assert "more than the" in error


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("profile", "vgg"), "vgg is neither one of"),
        (("profile", "tiny_cnn", "--device", "esp32"), "device is 'esp32'"),
        (("profile", "tiny_cnn", "--kernel", "fast"), "kernel is 'fast'"),
        (("profile", "tiny_cnn", "--arithmetic", "fp8"), "'fp8'"),
        (("profile", "tiny_cnn", "--plot", "x.bmp"), "must end in"),
        (("tune", "nowhere.npz"), "nowhere.npz: No such file"),
    ],
)
def test_wrong_usage_is_one_line(capsys, arguments, message):
    status, printed, error = run(capsys, *arguments)
    assert (status, printed, error.count("\n")) == (2, "", 1)
    assert message in error


def test_fp32_that_does_not_fit_is_said(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    fits = pyodl.profile(models.tiny_cnn(), compare=False).l2_bytes
    path.write_text(f'base = "pulp-open"\nname = "mine"\nl2_bytes = {fits}\n')
    status, printed, _ = run(capsys, "profile", "tiny_cnn", "--device", path)
    assert status == 0
    assert "fp32          does not fit: layer" in printed
