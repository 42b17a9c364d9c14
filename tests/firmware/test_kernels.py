"""C kernels for RISC-V, run under qemu, against vectors of every kernel and of training steps."""

import firmware_harness as harness
import numpy as np
import pytest
from firmware_cases import random_case

from pyodl import golden
from pyodl.primitives._orders import resolve

CASES = {  # of each primitive; the others have 8
    "matmul": 480,
    "matvec": 30,
    "conv2d_forward": 60,
    "conv2d_weight_grad": 60,
    "conv2d_input_grad": 60,
}


def differing(found, vectors):
    """The outputs that have not the vectors' bits, as texts."""
    return [
        f"{vectors.case}: {name}: {np.count_nonzero(bits != vectors.tensors[name].bits)} differ"
        for name, bits in found.items()
        if not np.array_equal(bits, vectors.tensors[name].bits)
    ]


def test_the_random_products_run_every_kernel_in_every_arithmetic():
    run = set()
    for seed in range(CASES["matmul"]):
        case = random_case("matmul", seed)
        (n, k), b = case.shapes.values()
        transposed = case.parameters["transpose_b"]
        m = b[0] if transposed else b[1]
        kernel = resolve(case.parameters["kernel"], n, k, m, case.cores)
        run.add((kernel, case.arithmetic, transposed))
    assert run == {
        (kernel, arithmetic, transposed)
        for kernel in harness.KERNELS
        for arithmetic in harness.ARITHMETICS
        for transposed in (True, False)
    }


@pytest.mark.parametrize("name", harness.OPERATIONS)
def test_exported_cases_have_the_same_bits(name, build, tmp_path):
    vectors = []
    for seed in range(CASES.get(name, 8)):
        golden.write(tmp_path / str(seed), random_case(name, seed), c_headers=False)
        vectors.append(golden.read(tmp_path / str(seed)))
    found = harness.run_vectors(build(), vectors)
    wrong = [
        text for got, wanted in zip(found, vectors, strict=True) for text in differing(got, wanted)
    ]
    assert not wrong, f"{len(wrong)} tensors differ, such as {wrong[:3]}"


@pytest.mark.parametrize("arithmetic", harness.ARITHMETICS)
@pytest.mark.parametrize(
    "case",
    [
        golden.StepCase("resnet8", seed=1, kernel="simd_4x8"),
        golden.StepCase("ds_cnn", seed=2, cores=5, kernel="m_simd_2x4", weight_decay=0.01),
        golden.StepCase("tiny_cnn", steps=3, seed=3, cores=1, loss="mse", kernel="unroll_4x1"),
    ],
    ids=lambda case: case.model,
)
def test_training_steps_have_the_same_bits(case, arithmetic, build, tmp_path):
    golden.write(tmp_path / "v", case.replace(arithmetic=arithmetic), c_headers=False)
    vectors = golden.read(tmp_path / "v")
    assert not differing(harness.run_steps(build(), vectors), vectors)


def test_the_kernels_are_fused_where_the_arithmetic_says_so():
    fused = {name: harness.assembly(name) for name in harness.ARITHMETICS}
    halves = {name: text.count("fmadd.h") for name, text in fused.items()}
    assert halves["fp16-fma"] > 0
    assert halves["fp16-muladd"] == halves["fp16-fp32acc"] == 0
    assert "fmadd.s" in fused["fp16-fp32acc"]
    assert "fmadd.s" not in fused["fp16-muladd"]
    assert "fmadd.h" not in harness.assembly("fp16-fma", "UNFUSED")
