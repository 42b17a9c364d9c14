"""The device's core count changes bits by its rules only; the host's thread count never does."""

import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from agreement import assert_same
from reference import ARITHMETICS, FLOAT16, KERNELS, resolve
from strategies import filled

import pyodl
from pyodl import primitives as P

CORES = [1, 2, 3, 5, 8, 16, 100]


def _array(ar, *shape, seed=1, kind="mixed"):
    return filled(shape, ar.storage, kind, seed)


def _calls(ar):
    """{name: a call of every primitive that takes cores, on shapes large enough to be shared}."""
    x, w = _array(ar, 9, 20, 21), _array(ar, 13, 9, 3, 3, seed=2, kind="normal")
    dy, dw_w = _array(ar, 13, 20, 21, seed=3), _array(ar, 9, 3, 3, seed=4, kind="normal")
    pw, flat = _array(ar, 13, 9, seed=5, kind="normal"), _array(ar, 420, seed=6)
    fc, bias = _array(ar, 10, 420, seed=7, kind="normal"), _array(ar, 13, seed=8)
    ten, nine = _array(ar, 10, seed=9), _array(ar, 9, seed=10, kind="normal")
    a, b, pooled = _array(ar, 33, 65, seed=11), _array(ar, 65, 34, seed=12), _array(ar, 9, 10, 10)
    geo = {"stride": 1, "padding": 1, "layout": "CHW"}
    calls = {
        "matmul": lambda **k: P.matmul(a, b, **k),
        "matvec": lambda **k: P.matvec(fc, flat, **k),
        "depthwise_forward": lambda **k: P.depthwise_forward(x, dw_w, padding=1, **k),
        "depthwise_weight_grad": lambda **k: P.depthwise_weight_grad(x, x, 3, padding=1, **k),
        "depthwise_input_grad": lambda **k: P.depthwise_input_grad(
            dw_w, x, (20, 21), padding=1, **k
        ),
        "pointwise_forward": lambda **k: P.pointwise_forward(x, pw, layout="CHW", **k),
        "pointwise_weight_grad": lambda **k: P.pointwise_weight_grad(x, dy, layout="CHW", **k),
        "pointwise_input_grad": lambda **k: P.pointwise_input_grad(pw, dy, layout="CHW", **k),
        "linear_forward": lambda **k: P.linear_forward(flat, fc, ten, **k),
        "linear_weight_grad": lambda **k: P.linear_weight_grad(flat, ten, **k),
        "linear_bias_grad": lambda **k: P.linear_bias_grad(ten, **k),
        "linear_input_grad": lambda **k: P.linear_input_grad(fc, ten, **k),
        "relu_forward": lambda **k: P.relu_forward(x, **k),
        "relu_backward": lambda **k: P.relu_backward(x, x, **k),
        "leaky_relu_forward": lambda **k: P.leaky_relu_forward(x, 0.1, **k),
        "leaky_relu_backward": lambda **k: P.leaky_relu_backward(x, x, 0.1, **k),
        "sigmoid_forward": lambda **k: P.sigmoid_forward(x, **k),
        "sigmoid_backward": lambda **k: P.sigmoid_backward(x, x, **k),
        "softmax_fast": lambda **k: P.softmax_forward(fc, exp="fast", **k),
        "softmax_backward": lambda **k: P.softmax_backward(fc, fc, **k),
        "avg_pool_forward": lambda **k: P.avg_pool_forward(x, 2, 2, **k),
        "avg_pool_backward": lambda **k: P.avg_pool_backward(pooled, (20, 21), 2, 2, **k),
        "max_pool_forward": lambda **k: P.max_pool_forward(x, 2, 2, **k),
        "max_pool_backward": lambda **k: P.max_pool_backward(x, pooled, 2, 2, **k),
        "add": lambda **k: P.add(x, x, **k),
        "instance_norm_forward": lambda **k: P.instance_norm_forward(x, nine, nine, **k),
        "instance_norm_param_grad": lambda **k: P.instance_norm_param_grad(x, x, nine, nine, **k),
        "instance_norm_input_grad": lambda **k: P.instance_norm_input_grad(
            x, x, nine, nine, nine, nine, **k
        ),
        "sgd": lambda **k: P.sgd(x, x, 0.1, weight_decay=0.01, **k),
    }
    for algorithm in ("direct", "im2row"):
        g = {**geo, "algorithm": algorithm}
        calls |= {
            f"conv2d_forward-{algorithm}": lambda g=g, **k: P.conv2d_forward(x, w, bias, **g, **k),
            f"conv2d_weight_grad-{algorithm}": lambda g=g, **k: P.conv2d_weight_grad(
                x, dy, 3, **g, **k
            ),
            f"conv2d_input_grad-{algorithm}": lambda g=g, **k: P.conv2d_input_grad(
                w, dy, (20, 21), **g, **k
            ),
            f"conv2d_bias_grad-{algorithm}": lambda a=algorithm, **k: P.conv2d_bias_grad(
                dy, layout="CHW", algorithm=a, **k
            ),
        }
    return calls


NAMES = list(_calls(ARITHMETICS["fp16-fp32acc"]))


def _same(got, want, what):
    for g, w in (
        zip(np.atleast_1d(got), np.atleast_1d(want), strict=True)
        if not isinstance(got, tuple)
        else zip(got, want, strict=True)
    ):
        assert_same(g, w, what)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("name", NAMES)
def test_threads_never_change_a_bit(name, arithmetic):
    call = _calls(ARITHMETICS[arithmetic])[name]
    want = call(arithmetic=arithmetic, cores=3, num_threads=1)
    for n in (2, 3, 7, 16, None):
        _same(call(arithmetic=arithmetic, cores=3, num_threads=n), want, f"{name}, {n} threads")


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("name", [n for n in NAMES if n != "matvec"])
def test_cores_change_no_bit_of_the_default_kernels(name, arithmetic):
    call = _calls(ARITHMETICS[arithmetic])[name]
    want = call(arithmetic=arithmetic, cores=1)
    for cores in CORES:
        _same(call(arithmetic=arithmetic, cores=cores), want, f"{name}, {cores} cores")


@pytest.mark.parametrize("kernel", KERNELS)
def test_cores_change_bits_where_the_fall_back_does(kernel):
    """One core count per kernel that runs in the end; equal ends, equal bits, and the reverse."""
    n, k, m = 18, 33, 14
    a, b = filled((n, k), FLOAT16, "normal", 1), filled((m, k), FLOAT16, "normal", 2)
    seen = {}
    for cores in CORES:
        c = P.matmul(a, b, transpose_b=True, kernel=kernel, cores=cores, arithmetic="fp16-fma")
        final = resolve(kernel, n, k, m, cores)
        assert_same(c, seen.setdefault(final, c), f"{kernel} -> {final}")
    if kernel in ("simd_4x8", "m_simd_4x8"):
        ends = [c.view(np.uint16).tobytes() for c in seen.values()]
        assert len(ends) >= 2
        assert len(set(ends)) == len(ends)


def test_softmax_sums_in_one_part_per_core():
    x = filled((1000,), FLOAT16, "normal", 1)
    seen = {
        P.softmax_forward(x, exp="expf", arithmetic="fp16-fma", cores=c).tobytes() for c in CORES
    }
    assert len(seen) > 1


def test_calls_from_several_python_threads():
    """Calls share nothing: the same bits come out when many run at once."""
    calls = _calls(ARITHMETICS["fp16-fma"])
    common = {"arithmetic": "fp16-fma", "num_threads": 2}
    want = {n: call(**common) for n, call in calls.items()}
    with ThreadPoolExecutor(8) as pool:
        jobs = [(n, pool.submit(call, **common)) for _ in range(4) for n, call in calls.items()]
        for name, job in jobs:
            _same(job.result(), want[name], name)


_SMALL_TEAM = """
import numpy as np, pyodl
from pyodl._kernels import set_parallel_work
set_parallel_work(0)
nets = [pyodl.models.tiny_cnn(arithmetic="fp16-fma", seed=0) for _ in range(2)]
image = np.full(nets[0].input_shape, 0.5, np.float16)
for net, threads in zip(nets, (1, 4)):
    for label in range(3):
        pyodl.train_step(net, image, label, num_threads=threads)
one, four = (b"".join(p.tobytes() for p in net.parameters().values()) for net in nets)
assert one == four
"""


@pytest.mark.parametrize("limit", ["1", "3"])
def test_fewer_threads_than_asked_for(limit):
    """OpenMP may give a smaller team than was scheduled for."""
    folder = str(pathlib.Path(pyodl.__file__).parents[1])  # of the package under test
    environment = {**os.environ, "PYTHONPATH": folder, "OMP_THREAD_LIMIT": limit}
    subprocess.run([sys.executable, "-P", "-c", _SMALL_TEAM], env=environment, check=True)
