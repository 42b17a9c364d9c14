"""Defects seeded into the C kernels are seen, and seen where they are."""

import json

import firmware_harness as harness
import numpy as np
import pytest
from defect_cases import CALLS, STEPS, explained

from pyodl import golden


def first_difference(got, want):
    """The first element whose bits differ, in C order, as a tuple."""
    differs = np.flatnonzero((got != want).reshape(-1))
    return tuple(int(i) for i in np.unravel_index(differs[0], want.shape))


@pytest.mark.parametrize("defect", harness.DEFECTS)
def test_a_defect_shows_in_the_element_that_it_must(defect, build):
    shown = CALLS[defect]()
    (name,) = shown.case.outputs
    want = shown.vectors.tensors[name].bits
    (sound,) = harness.run_vectors(build(), [shown.vectors])
    (broken,) = harness.run_vectors(build(defect), [shown.vectors])
    assert np.array_equal(sound[name], want)
    assert first_difference(broken[name], want) == shown.element
    values = want.view(np.float16)[shown.element], broken[name].view(np.float16)[shown.element]
    assert values == (shown.expected, shown.got)


@pytest.mark.parametrize("defect", harness.DEFECTS)
def test_a_defects_bits_are_those_of_its_explanation(defect, build):
    case, seen = CALLS[defect]().case, 0
    (name,) = case.outputs
    cases = [case.replace(data=data, seed=3) for data in ("normal", "leftovers", "ties")]
    vectors = [golden.vectors_of(case) for case in cases]
    for of_case, broken in zip(vectors, harness.run_vectors(build(defect), vectors), strict=True):
        values = explained(defect, of_case.case, of_case.inputs())[name]
        assert np.array_equal(broken[name], values.view(np.uint16))
        seen += not np.array_equal(broken[name], of_case.tensors[name].bits)
    assert seen


@pytest.mark.parametrize("defect", harness.DEFECTS)
def test_a_defect_shows_first_where_it_strikes_a_training_step(defect, build):
    case, tensor = STEPS[defect]
    vectors = golden.vectors_of(case)
    found = harness.run_steps(build(defect), vectors)
    wrong = [n for n, bits in found.items() if not np.array_equal(bits, vectors.tensors[n].bits)]
    assert wrong[0] == f"step0/{tensor}"


def test_a_dump_has_the_bits_where_its_description_says(build, tmp_path):
    vectors = golden.vectors_of(golden.StepCase("tiny_cnn", arithmetic="fp16-fma"))
    dump = harness.write_dump(tmp_path / "dump.bin", harness.run_steps(build(), vectors))
    described = json.loads((tmp_path / "dump.json").read_text())
    assert list(described) == [n for n, t in vectors.tensors.items() if t.role == "output"]
    for name, where in described.items():
        count = int(np.prod(where["shape"]))
        bits = np.frombuffer(dump.read_bytes(), "<u2", count, where["offset"])
        assert np.array_equal(bits.reshape(where["shape"]), vectors.tensors[name].bits)
    assert dump.stat().st_size == where["offset"] + 2 * count


@pytest.mark.parametrize("defect", ["", "LEFTOVER"])
def test_a_firmwares_own_test_with_exported_headers(defect, build, tmp_path):
    case = golden.case_of(
        "matmul",
        (6, 9, 8),
        transpose_b=True,
        kernel="simd_2x4",
        arithmetic="fp16-fma",
        cores=4,
        data="leftovers",
    )
    directory = tmp_path / "headers"
    tensor = golden.write(directory, case, prefix="case").tensors["c"]
    flags = ["-DFP16_FMA", f"-I{directory}", *([f"-DDEFECT_{defect}"] if defect else [])]
    done = harness.execute(
        harness.link(tmp_path / "check", [harness.HERE / "check_main.c"], *flags)
    )
    if not defect:
        assert (done.returncode, done.stdout) == (0, b"")
        return
    lines = done.stdout.decode().splitlines()
    (broken,) = harness.run_vectors(build(defect), [golden.vectors_of(case)])
    n, m = first_difference(broken["c"], tensor.bits)
    assert done.returncode == 1
    assert len(lines) == 1
    assert f"first element {n * 8 + m} [n {n}, m {m}]: expected" in lines[0]
