"""Recorded training sessions: replayed bit for bit, and the first difference named."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyodl
from pyodl import models
from pyodl.cli import main
from pyodl.formats import to_bits
from pyodl.golden import Recorder, Session
from pyodl.golden.replay import replay


def recorded(arithmetic="fp16-fma", steps=5, every=2):
    net = models.tiny_cnn(arithmetic=arithmetic, seed=3)
    net.freeze("conv1")
    generator = np.random.default_rng(0)
    recorder = Recorder(net, every=every)
    for step in range(steps):
        x = generator.standard_normal(net.input_shape).astype(net.arithmetic.storage.dtype)
        recorder.step(x, step % 3, lr=0.05 / (1 + step), weight_decay=0.01 * (step % 2))
    return recorder.session(), net


@pytest.fixture(scope="module")
def session():
    return recorded()[0]


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "bf16-fp32acc", "fp32"])
def test_a_session_comes_out_again(arithmetic, tmp_path, capsys):
    session, net = recorded(arithmetic)
    path = tmp_path / "session.npz"
    session.save(path)
    loaded = Session.load(path)
    for name in ("inputs", "targets", "losses"):
        assert np.array_equal(to_bits(getattr(loaded, name)), to_bits(getattr(session, name)))
    assert sorted(loaded.checkpoints) == [2, 4, 5]
    for name, array in net.parameters().items():
        assert np.array_equal(to_bits(loaded.checkpoints[5][name]), to_bits(array))
    for threads in (1, 2, 7):
        found = replay(loaded, num_threads=threads)
        assert (found.identical, found.steps, found.checkpoints) == (True, 5, 3)
    assert main(["replay", str(path)]) == 0
    assert "5 steps and 3 checkpoints, every bit the same" in capsys.readouterr().out


def test_recording_changes_no_bit(session):
    net = models.tiny_cnn(arithmetic="fp16-fma", seed=3)
    net.freeze("conv1")
    for x, target, (lr, decay), loss in zip(
        session.inputs, session.targets, session.rates, session.losses, strict=True
    ):
        assert pyodl.train_step(net, x, target, lr=lr, weight_decay=decay) == float(loss)


def test_the_first_difference_is_named(session, tmp_path, capsys):
    losses = session.losses.copy()
    losses.view(np.uint16)[3] ^= 1
    path = tmp_path / "session.npz"
    replace(session, losses=losses).save(path)
    assert main(["replay", str(path)]) == 1
    said = capsys.readouterr().out
    assert "the loss of step 3 is 0x" in said
    assert f"recorded is 0x{losses.view(np.uint16)[3]:04x}" in said
    weights = {step: dict(parameters) for step, parameters in session.checkpoints.items()}
    (name, *_) = weights[4]
    changed = weights[4][name].copy()
    changed.reshape(-1).view(np.uint16)[7] ^= 0x8000
    weights[4][name] = changed
    found = replay(replace(session, checkpoints=weights))
    assert (found.steps, found.identical) == (4, False)
    assert found.difference.startswith(f"after step 3, {name}[")
    assert f"(1 of {changed.size} elements differ)" in found.difference


def test_another_rate_shows(session):
    rates = session.rates.copy()
    rates[1, 0] *= 1.5
    found = replay(replace(session, rates=rates))
    assert not found.identical
    assert found.steps <= 3


def test_no_step(tmp_path):
    recorder = Recorder(models.tiny_cnn())
    with pytest.raises(ValueError, match="no step was recorded"):
        recorder.session()
    with pytest.raises(ValueError, match="every is 0"):
        Recorder(models.tiny_cnn(), every=0)
    with pytest.raises(ValueError, match="loss"):
        Recorder(models.tiny_cnn(), loss="hinge")


def test_what_is_no_session(session, tmp_path, capsys):
    path = tmp_path / "log.npz"
    assert main(["replay", str(path)]) == 2
    models.tiny_cnn().save(path)
    assert main(["replay", str(path)]) == 2
    assert "is not a pyodl session: its kind is None" in capsys.readouterr().err
    replace(session, losses=session.losses[:-1]).save(path)
    assert main(["replay", str(path)]) == 2
    assert "inputs has shape (5, " in capsys.readouterr().err
    replace(session, checkpoints={9: session.checkpoints[5]}).save(path)
    assert main(["replay", str(path)]) == 2
    assert "it has a checkpoint after step 9 of 5" in capsys.readouterr().err


@pytest.fixture(scope="module")
def content(session, tmp_path_factory):
    path = tmp_path_factory.mktemp("session") / "session.npz"
    session.save(path)
    return path.read_bytes()


@given(cut=st.floats(0, 1), at=st.floats(0, 1), bit=st.integers(0, 7))
@settings(max_examples=40)
def test_a_damaged_file_is_an_error_or_the_same(content, tmp_path_factory, cut, at, bit):
    path = tmp_path_factory.mktemp("damaged") / "session.npz"
    flipped = bytearray(content)
    flipped[int(at * (len(content) - 1))] ^= 1 << bit
    for damaged in (content[: int(cut * (len(content) - 1))], bytes(flipped)):
        path.write_bytes(damaged)
        status = main(["replay", str(path)])
        assert status in (0, 2)  # a flipped bit may lie where nothing reads it; none goes unseen
