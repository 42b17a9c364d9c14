"""Measurements have the right structure, and the peer trains the same network; no timing."""

import builtins
import json

import numpy as np
import pytest

import pyodl
from pyodl import _kernels, bench, models
from pyodl._bench_torch import TorchStep
from pyodl.arithmetic import ARITHMETICS
from pyodl.cli import main
from pyodl.primitives._steps import step_of


def test_in_turns_alternates_and_times_what_follows_the_warm_up():
    calls = []
    seconds = bench.in_turns([lambda: calls.append("a"), lambda: calls.append("b")], 3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert seconds.shape == (3, 2)
    assert (seconds >= 0).all()


def test_spread_orders_quartiles():
    spread = bench.Spread.of(np.array([4.0, 1.0, 2.0, 3.0, 5.0]))
    assert (spread.least, spread.lower, spread.median, spread.upper) == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_fma_peak_runs_every_round_on_every_thread(threads, arithmetic):
    operation, macs = bench.fma_peak(threads, 100, arithmetic)
    lanes = step_of(ARITHMETICS[arithmetic]).lanes
    assert macs == operation.macs > 0
    assert macs % (100 * threads * lanes) == 0
    operation.run(threads)


def test_measure():
    found = bench.measure("tiny_cnn", "fp16-fma", steps=3)
    assert (found.model, found.arithmetic, found.threads, found.steps) == (
        *("tiny_cnn", "fp16-fma"),
        *(1, 3),
    )
    assert found.macs == 72192
    assert found.rate == found.macs / found.seconds.median > 0
    assert found.python < 1
    assert 0 < found.share_of_peak.median < 1
    assert found.peak.lower <= found.peak.median <= found.peak.upper


@pytest.mark.parametrize("model", sorted(models.MODELS))
def test_profile_has_every_step_and_all_work(model):
    rows = bench.profile(model, "fp16-fp32acc", steps=1)
    by_place = {(row.layer, row.step): row for row in rows}
    assert len(by_place) == len(rows)
    for layer, steps in models.MODELS[model]().macs().items():
        for step, macs in steps.items():
            if macs:
                assert by_place[layer, step].macs == macs
    assert by_place["", "update"].parts.keys() == {"sgd"}
    assert by_place["", "forward"].parts.keys() == {"cross_entropy"}
    for row in rows:
        assert sum(row.parts.values()) == pytest.approx(row.seconds)
    in_backward = [row for row in rows if row.step in {"weight_grad", "input_grad"}]
    assert not any("forward" in part for row in in_backward for part in row.parts)


def test_bench_refuses_unknown_names():
    with pytest.raises(ValueError, match="resnet8, ds_cnn, tiny_cnn"):
        bench.measure("resnet9", "fp32")
    with pytest.raises(ValueError, match="arithmetic is 'fp17'"):
        bench.measure("tiny_cnn", "fp17")


def test_command_prints_tables_and_writes_results(tmp_path, capsys):
    out = tmp_path / "result.json"
    how = ["--models", "tiny_cnn", "--arithmetic", "fp16-fp32acc", "fp32", "--steps", "2"]
    assert main(["bench", *how, "--profile", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert [row["arithmetic"] for row in result["steps"]] == ["fp16-fp32acc", "fp32"]
    assert {row["macs"] for row in result["steps"]} == {72192}
    assert result["comparisons"] == []
    assert len(result["profiles"]) == 2
    assert result["machine"]["kernels"] == _kernels.ISA
    said = capsys.readouterr().out
    assert "GMAC/s  of peak  Python" in said
    assert "conv2d weight gradient" in said


@pytest.mark.parametrize(
    "wrong, message",
    [
        (["--arithmetic", "fp17"], "arithmetic is 'fp17'"),
        (["--json", "/nowhere/result.json"], "--json"),
        (["--models", "resnet9"], "resnet9"),
        (["--steps", "0"], "--steps"),
        (["--against", "jax"], "--against"),
    ],
)
def test_command_refuses(wrong, message, capsys):
    assert main(["bench", "--models", "tiny_cnn", *wrong]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_command_names_the_remedy_without_torch(monkeypatch, capsys):
    real = builtins.__import__

    def without_torch(name, *args, **kwargs):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    monkeypatch.setattr("importlib.import_module", without_torch)
    assert main(["bench", "--against", "torch"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install torch" in said


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("model", sorted(models.MODELS))
def test_peer_trains_the_same_network(model, channels_last):
    torch = pytest.importorskip("torch")
    net = models.MODELS[model](arithmetic="fp32")
    peer = TorchStep(torch, net, channels_last=channels_last)
    generator = np.random.default_rng(0)
    for label in (3, 1):
        x = generator.standard_normal(net.input_shape).astype(np.float32)
        loss = pyodl.train_step(net, x, label, lr=0.01)
        assert peer(peer.image(x), peer.target(label), 0.01) == pytest.approx(loss, rel=1e-4)
    for name, weight in net.parameters().items():
        trained = peer.parameters[name].detach().numpy().reshape(weight.shape)
        np.testing.assert_allclose(trained, weight, rtol=1e-3, atol=1e-5)


def test_compare():
    pytest.importorskip("torch")
    found = bench.compare("tiny_cnn", "fp16-fp32acc", steps=3, channels_last=True)
    assert found.peer == "torch channels_last"
    assert found.pairs == 3
    assert found.ratio.lower <= found.ratio.median <= found.ratio.upper


def test_command_compares_with_torch(capsys):
    pytest.importorskip("torch")
    how = ["--models", "tiny_cnn", "--arithmetic", "fp16-fma", "--steps", "2"]
    assert main(["bench", "--against", "torch", *how]) == 0
    said = capsys.readouterr().out
    assert "torch channels_last" in said
    assert said.count("tiny_cnn") == 2
