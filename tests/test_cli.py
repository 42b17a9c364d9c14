"""The command line: exit status, messages, files, and what Ctrl-C leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import pyodl
from pyodl import datasets, formats
from pyodl.cli import main


@pytest.fixture(autouse=True)
def little_data(monkeypatch, request):
    """Train on 40 digits and 20 keywords instead of all of them."""
    monkeypatch.setenv("COLUMNS", "100")
    digits, keywords = datasets.digits, datasets.keywords

    def few(data, count):
        return datasets.Dataset(data.images[:count], data.labels[:count], data.classes, data.name)

    monkeypatch.setattr(datasets, "digits", lambda *shape: few(digits(*shape), 50))
    monkeypatch.setattr(datasets, "keywords", lambda: few(keywords(), 40))


def bits(path):
    net = pyodl.Network.load(path)
    return {name: formats.to_bits(array).tolist() for name, array in net.parameters().items()}


def test_train_reports_both_arithmetics(tmp_path, capsys):
    out = tmp_path / "result.json"
    assert main(["train", "tiny_cnn", "--epochs", "2", "--seed", "3", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["model"] == "tiny_cnn"
    assert result["arithmetic"] == "fp16-fp32acc"
    assert (result["epochs"], result["seed"], result["cores"]) == (2, 3, 8)
    assert len(result["train_loss"]) == len(result["fp32_train_loss"]) == 2
    assert result["train_loss"] != result["fp32_train_loss"]
    assert 0 <= result["test_accuracy"] <= 1
    assert result["seconds_per_step"] > 0
    said = capsys.readouterr()
    difference = result["test_accuracy"] - result["fp32_test_accuracy"]
    assert f"difference    {difference:+.4f}" in said.out
    assert "3,818 parameters, 72,192 multiply-accumulates" in said.out
    assert said.err.count("epoch ") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_train_without_fp32(tmp_path, capsys):
    out = tmp_path / "result.json"
    how = ["--epochs", "1", "--no-fp32", "--json", str(out)]
    assert main(["train", "ds_cnn", "--arithmetic", "fp16-fma", "--cores", "2", *how]) == 0
    result = json.loads(out.read_text())
    assert (result["arithmetic"], result["cores"], result["data"]) == ("fp16-fma", 2, "keywords")
    assert result["fp32_test_accuracy"] is None
    assert "difference" not in capsys.readouterr().out


def device_warnings(said):
    lines = [line for line in said.err.splitlines() if "on the device" in line]
    assert all(line.startswith("pyodl: on the device, ") for line in lines)
    return lines


def test_device_gives_cores_and_warns_of_its_firmware(tmp_path, capsys):
    out = tmp_path / "result.json"
    how = ["--epochs", "1", "--no-fp32", "--json", str(out)]
    assert main(["train", "tiny_cnn", "--device", "single-core", *how]) == 0
    said = capsys.readouterr()
    assert json.loads(out.read_text())["cores"] == 1
    assert "on single-core, 1 cores" in said.out
    lines = device_warnings(said)
    assert len(set(lines)) == len(lines) == 8
    assert any(re.search(r"conv2 input gradient: .*stride.*defect 8", line) for line in lines)
    assert not any("race" in line for line in lines)  # one core races with nobody

    assert main(["train", "tiny_cnn", "--device", "single-core", "--cores", "4", *how]) == 0
    said = capsys.readouterr()
    assert json.loads(out.read_text())["cores"] == 4
    assert any("race" in line for line in device_warnings(said))


def test_device_warns_only_of_what_runs(capsys):
    how = ["--epochs", "1", "--no-fp32", "--device", "pulp-open"]
    assert main(["train", "tiny_cnn", "--freeze", "conv1", "conv2", *how]) == 0
    lines = device_warnings(capsys.readouterr())
    assert len(lines) == 4
    assert not any(re.search(r"conv. (weight|input) gradient", line) for line in lines)
    assert main(["train", "tiny_cnn", "--arithmetic", "fp32", *how]) == 0
    assert not device_warnings(capsys.readouterr())
    assert main(["train", "tiny_cnn", "--epochs", "1", "--no-fp32"]) == 0
    assert not device_warnings(capsys.readouterr())


def test_unknown_and_changed_devices_are_refused(tmp_path, capsys):
    assert main(["train", "tiny_cnn", "--device", "esp32"]) == 2
    assert "device is 'esp32'; it may be one of pulp-open" in capsys.readouterr().err
    net = str(tmp_path / "net.npz")
    how = ["--device", "vega", "--no-fp32", "--save", net, "--epochs", "1"]
    assert main(["train", "tiny_cnn", *how]) == 0
    again = ["train", "tiny_cnn", "--resume", net, "--epochs", "2"]
    assert main([*again, "--device", "pulp-open"]) == 2
    assert f"--device is pulp-open, but {net} has vega" in capsys.readouterr().err
    assert main([*again, "--device", "vega"]) == 0


def test_fp32_needs_no_twin(tmp_path):
    out = tmp_path / "result.json"
    how = ["--arithmetic", "fp32", "--epochs", "1", "--json", str(out)]
    assert main(["train", "tiny_cnn", *how]) == 0
    result = json.loads(out.read_text())
    assert result["test_accuracy"] == result["fp32_test_accuracy"]


def test_same_seed_same_bits_for_any_threads(tmp_path):
    for threads in ("1", "3"):
        path = str(tmp_path / threads)
        how = ["--epochs", "1", "--threads", threads, "--no-fp32", "--save", path]
        assert main(["train", "resnet8", *how]) == 0
    assert bits(tmp_path / "1") == bits(tmp_path / "3")


def test_frozen_layers_keep_their_weights(tmp_path):
    path = str(tmp_path / "net.npz")
    how = ["--freeze", "conv1", "conv2", "--epochs", "1", "--save", path]
    assert main(["train", "tiny_cnn", *how]) == 0
    net, fresh = pyodl.Network.load(path), pyodl.models.tiny_cnn()
    assert net.frozen == ("conv1", "conv2")
    for name, array in net.parameters().items():
        same = (array == fresh.parameters()[name]).all()
        assert same == name.startswith("conv")


def test_resume_goes_on_with_the_same_bits(tmp_path):
    whole, part = str(tmp_path / "whole.npz"), str(tmp_path / "part.npz")
    assert main(["train", "tiny_cnn", "--epochs", "3", "--no-fp32", "--save", whole]) == 0
    stopped = interrupted_at(part, 60)  # in the second epoch
    assert stopped == 1
    assert main(["train", "tiny_cnn", "--resume", part, "--save", part]) == 0
    assert bits(part) == bits(whole)
    notes, same = (pyodl.Network.load(path).notes for path in (part, whole))
    assert len(notes["train_loss"]) == 3
    assert notes["test_accuracy"] == same["test_accuracy"]


def interrupted_at(path, images):
    """Train for 3 epochs with Ctrl-C after so many images; return the exit status."""
    from pyodl.cli import _train_job

    class Line(_train_job.ProgressLine):
        def update(self, progress):
            super().update(progress)
            if progress.epoch * progress.images + progress.image == images:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_train_job, "ProgressLine", Line)
        return main(["train", "tiny_cnn", "--epochs", "3", "--save", str(path)])


def test_ctrl_c_leaves_a_checkpoint(tmp_path, capsys):
    path = tmp_path / "net.npz"
    before = signal.getsignal(signal.SIGINT)
    assert interrupted_at(path, 7) == 1
    assert signal.getsignal(signal.SIGINT) is before
    assert pyodl.Network.load(path).notes["images_done"] == 7
    said = capsys.readouterr().err
    assert f"interrupted after 0 epochs and 7 images; pyodl train tiny_cnn --resume {path}" in said
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_in_a_process_of_its_own(tmp_path):
    path = tmp_path / "net.npz"
    command = [sys.executable, "-m", "pyodl", "train", "tiny_cnn", "--epochs", "1000"]
    # -m looks in the working folder first, where the sources may be without their built kernels.
    process = subprocess.Popen(
        [*command, "--save", str(path)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "pyodl: interrupted after" in err
    assert "Traceback" not in err
    assert pyodl.Network.load(path).notes["images_done"] > 0


def test_plot(tmp_path):
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        path = tmp_path / f"curves{suffix}"
        assert main(["train", "tiny_cnn", "--epochs", "2", "--plot", str(path)]) == 0
        assert path.read_bytes().startswith(start)


def test_plot_without_matplotlib_says_so_before_training(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["train", "tiny_cnn", "--plot", str(tmp_path / "curves.png")]) == 2
    said = capsys.readouterr()
    assert said.err == "pyodl: --plot needs matplotlib: pip install 'pyodl[plot]'\n"
    assert said.out == ""


def test_a_loss_that_is_not_finite_is_null_in_json(tmp_path, capsys):
    out = tmp_path / "result.json"
    how = ["--lr", "1000", "--epochs", "1", "--no-fp32", "--json", str(out)]
    assert main(["train", "tiny_cnn", *how]) == 0
    assert json.loads(out.read_text())["train_loss"] == [None]
    assert "a smaller --lr may help" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["train"], "the following arguments are required: MODEL"),
        (["train", "vgg16"], "invalid choice: 'vgg16'"),
        (["train", "tiny_cnn", "--epochs", "0"], "'0' is not a whole number from 1 on"),
        (["train", "tiny_cnn", "--lr", "nan"], "'nan' is not a positive number"),
        (["train", "tiny_cnn", "--seed", "-1"], "'-1' is not a whole number from 0 on"),
        (
            ["train", "tiny_cnn", "--arithmetic", "fp8"],
            "arithmetic is 'fp8'; it may be one of fp16",
        ),
        (["train", "tiny_cnn", "--data", "mnist"], "the data set must be 'digits', 'keywords'"),
        (["train", "tiny_cnn", "--data", "cifar10:/nowhere"], "/nowhere"),
        (["train", "tiny_cnn", "--data", "keywords"], "the network takes (1, 8, 8)"),
        (["train", "tiny_cnn", "--freeze", "conv9"], "name is 'conv9'; it may be one of conv1,"),
        (["train", "tiny_cnn", "--save", "/nowhere/net.npz"], "there is no folder /nowhere"),
        (["train", "tiny_cnn", "--json", "/"], "it is a folder"),
        (["train", "tiny_cnn", "--plot", "curves.bmp"], "must end in .png, .svg, .pdf"),
        (["train", "tiny_cnn", "--resume", "/nowhere.npz"], "/nowhere.npz: No such file"),
        (["train", "tiny_cnn", "--resume", __file__], "is not a pyodl network"),
    ],
)
def test_unusable_input_is_2_and_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert len([line for line in said.err.splitlines() if line.startswith("pyodl")]) == 1
    assert said.out == ""


def test_resume_refuses_another_run(tmp_path, capsys):
    path = str(tmp_path / "net.npz")
    assert main(["train", "tiny_cnn", "--epochs", "1", "--no-fp32", "--save", path]) == 0
    other = tmp_path / "other.npz"
    pyodl.models.tiny_cnn().save(other)
    capsys.readouterr()
    for arguments, message in [
        (["tiny_cnn", "--resume", path], "has done its 1 epochs"),
        (["resnet8", "--resume", path], "is a checkpoint of tiny_cnn, not resnet8"),
        (["tiny_cnn", "--resume", path, "--seed", "1"], "--seed is 1, but"),
        (["tiny_cnn", "--resume", path, "--arithmetic", "fp32"], "--arithmetic is fp32, but"),
        (["tiny_cnn", "--resume", str(other)], "is no checkpoint that pyodl train wrote"),
    ]:
        assert main(["train", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["train", "tiny_cnn", "--resume", path, "--epochs", "2"]) == 0


def test_info_and_help(capsys):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for word in ("version", "kernels", "OpenMP", "threads", "fp16-fp32acc", "bfloat16", "resnet8"):
        assert word in said
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pyodl {pyodl.__version__}\n"
    for arguments in (["--help"], ["train", "--help"], ["info", "--help"]):
        assert main(arguments) == 0
    assert "examples:" in capsys.readouterr().out


def test_info_without_bfloat16(monkeypatch, capsys):
    formats._dtype.cache_clear()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    try:
        assert main(["info"]) == 0
        assert main(["train", "tiny_cnn", "--arithmetic", "bf16-fma"]) == 2
    finally:
        formats._dtype.cache_clear()
    said = capsys.readouterr()
    assert re.search(r"bfloat16 +no: .*pip install 'pyodl\[bfloat16\]'", said.out)
    assert "pip install 'pyodl[bfloat16]'" in said.err


def test_import_is_lazy():
    code = "import sys, pyodl; print(sorted(m for m in sys.modules if m.startswith('pyodl')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['pyodl']"
    assert set(pyodl.__all__) <= set(dir(pyodl))
    for name in pyodl.__all__:
        assert getattr(pyodl, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        pyodl.nothing  # noqa: B018


def test_the_bar_is_drawn_on_a_terminal():
    from pyodl._progress import ProgressLine
    from pyodl.training import History, Progress

    class Terminal:
        encoding = "utf-8"
        text = ""

        def isatty(self):
            return True

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    terminal = Terminal()
    line = ProgressLine("fp16", terminal)
    line.update(Progress(0, 2, 5, 10, 1.5, 0.2, 25.0))
    line.update(Progress(0, 2, 6, 10, 1.5, 0.21, 25.0))  # too soon to be drawn
    line.update(Progress(0, 2, 10, 10, 1.25, 0.4, 25.0))
    line.end_epoch(None, History(validation_accuracy=[0.5]))
    half, whole = "━" * 12 + "·" * 12, "━" * 24
    assert terminal.text.count("\r") == 3
    assert f"\rfp16  epoch 1/2  {half}  loss 1.5000  25 samples/s" in terminal.text
    assert terminal.text.endswith(
        f"\rfp16  epoch 1/2  {whole}  loss 1.2500  25 samples/s  held-out accuracy 0.5000\n"
    )
    assert np.char.count(terminal.text, "\n") == 1
