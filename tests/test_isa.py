"""Every build writes the same bits, on any number of host threads.

A build is chosen when pyodl is imported, so each one runs in a process of its own
(`digest_kernels.py`) and must print what the baseline prints on one thread.
"""

import functools
import os
import pathlib
import shutil
import subprocess
import sys

import digest_kernels
import pytest

import pyodl
from pyodl import _kernels
from pyodl.arithmetic import get
from pyodl.primitives._steps import step_of

WORKER = pathlib.Path(__file__).parent / "digest_kernels.py"
ISAS = _kernels.available_isas()
THREADS = [1, 2, 7]


def _environment(isa):
    # The package under test must be found from the worker too, wherever it was imported from.
    folders = [str(pathlib.Path(pyodl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders)), "PYODL_ISA": isa}


def _worker(isa, *options):
    command = [sys.executable, str(WORKER), *options]
    return subprocess.run(
        command, env=_environment(isa), capture_output=True, text=True, check=False
    )


@functools.cache
def _digests(isa, threads, arithmetic):
    options = ["--quick", "--threads", str(threads), "--arithmetic", arithmetic]
    done = _worker(isa, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_baseline_is_always_built():
    assert "baseline" in ISAS
    assert _kernels.ISA in ISAS


def test_every_level_of_this_processor_is_built():
    """No level that the processor has is left out, whatever machine the tests run on."""
    from pyodl._kernels._operation import x86_level

    levels = {"avx512_fp16": 5, "x86_64_v4": 4, "x86_64_v3": 3, "baseline": 0}
    assert tuple(isa for isa, level in levels.items() if level <= x86_level()) == ISAS


def test_an_unknown_build_is_refused():
    done = _worker("x86_64_v9")
    assert done.returncode == 1
    assert "PYODL_ISA is 'x86_64_v9'" in done.stderr


def test_digests_tell_kernels_and_arithmetics_apart():
    """The comparison is not vacuous: what has other bits by its definition has other digests."""
    found = {}
    for arithmetic in ("fp16-fp32acc", "fp16-fma", "fp16-muladd"):
        for line in _digests("baseline", 1, arithmetic):
            key, _, digest = line.rpartition(": ")
            found[tuple(key.split(", "))] = digest
    transposed = {k: v for k, v in found.items() if k[0] == "matmul of a transpose"}
    assert len({transposed[k] for k in transposed if k[2] == "naive_m"}) == 3
    of_one = {k[2]: v for k, v in transposed.items() if k[1] == "fp16-fma"}
    assert len({of_one[k] for k in ("naive_m", "simd_2x4", "simd_4x8", "m_simd_4x8")}) == 4


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "arithmetic",
    [
        pytest.param(name, marks=pytest.mark.xdist_group(name))  # one worker keeps its baseline
        for name in ("fp16-fp32acc", "fp16-fma", "fp16-muladd", "bf16-fp32acc", "bf16-fma", "fp32")
    ],
)
def test_every_build_and_thread_count_has_the_same_bits(arithmetic, isa, threads):
    want = _digests("baseline", 1, arithmetic)
    got = _digests(isa, threads, arithmetic)
    assert len(got) == len(want) > 200
    different = [line for line, same in zip(got, want, strict=True) if line != same]
    assert not different


class _Asked(dict):
    """A dict that remembers which keys it was asked for."""

    def __init__(self, *args):
        super().__init__(*args)
        self.keys_asked = set()

    def __getitem__(self, key):
        self.keys_asked.add(key)
        return super().__getitem__(key)


def test_digests_run_every_kernel(monkeypatch):
    asked = _Asked(_kernels.KERNELS)
    monkeypatch.setattr(_kernels, "KERNELS", asked)
    for _, kernels, shapes, call in digest_kernels.cases():
        for kernel in ("naive", "simd_2x4") if kernels == digest_kernels.MATMUL else (None,):
            for arithmetic in ("fp16-fp32acc", "fp16-fma"):  # the latter by pixels in every build
                keywords = {"arithmetic": arithmetic} | ({"kernel": kernel} if kernel else {})
                for shape in shapes[:-1]:
                    call(digest_kernels.Draw(arithmetic, "moderate", 0), shape, keywords)
    # Tested build by build in test_transcendental; and the loop that measures the processor's peak.
    elsewhere = {"exp_float", "log_float", "fast_exp_float", "fma_peak"}
    if not step_of(get("fp16-fma")).lists_terms:
        elsewhere.add("convolve_pixels")
    assert _kernels.KERNELS.keys() - asked.keys_asked == elsewhere


def test_sources_without_kernels_say_so(tmp_path):
    package = pathlib.Path(pyodl.__file__).parent
    shutil.copytree(package, tmp_path / "pyodl", ignore=shutil.ignore_patterns("*.so"))
    code = "import pyodl.primitives"
    how = {"cwd": tmp_path, "capture_output": True, "text": True}
    run = subprocess.run([sys.executable, "-c", code], check=False, **how)
    assert run.returncode == 1
    assert "pip install --editable ." in run.stderr.splitlines()[-1]
