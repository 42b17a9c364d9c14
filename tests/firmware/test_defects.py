"""Defects seeded into the C kernels are seen, and seen where they are."""

import json

import firmware_harness as harness
import numpy as np
import pytest
from defect_cases import CALLS, STEPS, explained

from pyodl import golden
from pyodl.cli import main


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


RIGHT = {  # the kind of the explanation, and which of that kind
    "LEFTOVER": ("leftover", "added to lane 0"),
    "UNFUSED": ("arithmetic", "fp16-muladd"),
    "PADDING": ("padding", "up and down, left and right"),
    "CORES": ("cores", "9"),
}
ALIKE = {  # what gives the same bits: 2x4 sums in this order, and runs on any number of cores
    "CORES": {
        *(("cores", str(cores)) for cores in range(10, 17)),
        *(("kernel", name) for name in ("simd_2x4", "m_simd_2x4", "m_simd_4x8")),
        ("leftover", "added to the sum of the lanes"),
    }
}


def compared(tmp_path, vectors, found):
    """What pyodl compare says of tensors that the device dumped, and its exit status."""
    golden.write(tmp_path / "vectors", vectors, c_headers=False)
    dump, out = harness.write_dump(tmp_path / "dump.bin", found), tmp_path / "found.json"
    command = ["compare", str(dump), "--against", str(tmp_path / "vectors"), "--json", str(out)]
    status = main(command)
    return status, json.loads(out.read_text())


def choices(cause):
    return {(e["kind"], choice) for e in cause["explanations"] for choice in e["choices"]}


@pytest.mark.parametrize("defect", harness.DEFECTS)
def test_compare_names_the_element_and_the_defect_of_a_call(defect, build, tmp_path):
    shown = CALLS[defect]()
    (broken,) = harness.run_vectors(build(defect), [shown.vectors])
    status, found = compared(tmp_path, shown.vectors, broken)
    assert status == 1
    (name,) = shown.case.outputs
    (tensor,) = found["tensors"]
    assert (tensor["name"], tuple(tensor["first"]["place"].values())) == (name, shown.element)
    (cause,) = found["diagnosis"]["causes"]
    assert RIGHT[defect] in choices(cause)


@pytest.mark.parametrize("defect", harness.DEFECTS)
def test_compare_names_only_what_the_data_do_not_rule_out(defect, build, tmp_path):
    vectors = golden.vectors_of(CALLS[defect]().case.replace(data="normal", seed=3))
    (broken,) = harness.run_vectors(build(defect), [vectors])
    _, found = compared(tmp_path, vectors, broken)
    (cause,) = found["diagnosis"]["causes"]
    assert choices(cause) == {RIGHT[defect]} | ALIKE.get(defect, set())


ALIKE_IN_A_STEP = {
    "LEFTOVER": {("kernel", "m_simd_4x8")},  # adds its leftovers to lane 0
    "PADDING": {("padding", "up and down")},  # as many columns on the left as on the right
    "CORES": ALIKE["CORES"] - {("kernel", "m_simd_4x8")},
}


@pytest.mark.parametrize("defect", harness.DEFECTS)
def test_compare_names_the_tensor_and_the_defect_of_a_training_step(defect, build, tmp_path):
    case, tensor = STEPS[defect]
    vectors = golden.vectors_of(case)
    broken = harness.run_steps(build(defect), vectors)
    status, found = compared(tmp_path, vectors, broken)
    assert status == 1
    first = f"step0/{tensor}"
    assert found["first"] == found["fault"] == first
    place = first_difference(broken[first], vectors.tensors[first].bits)
    (row,) = (row for row in found["tensors"] if row["name"] == first)
    assert tuple(row["first"]["place"].values()) == place
    for cause in found["diagnosis"]["causes"]:
        assert RIGHT[defect] in choices(cause)
    cause = found["diagnosis"]["causes"][0]
    assert choices(cause) == {RIGHT[defect]} | ALIKE_IN_A_STEP.get(defect, set())
    whole = choices({"explanations": found["diagnosis"]["whole"]})
    assert (RIGHT[defect] in whole) == (defect in ("UNFUSED", "CORES"))


def test_compare_explains_a_dump_of_few_tensors_as_a_whole(build, tmp_path):
    vectors = golden.vectors_of(STEPS["UNFUSED"][0])
    broken = harness.run_steps(build("UNFUSED"), vectors)
    few = {name: bits for name, bits in broken.items() if "/parameter/" in name}
    _, found = compared(tmp_path, vectors, few)
    (whole,) = found["diagnosis"]["whole"]
    assert (whole["kind"], whole["choices"]) == ("arithmetic", ["fp16-muladd"])


def test_compare_finds_nothing_wrong_with_the_sound_program(build, tmp_path):
    vectors = golden.vectors_of(golden.StepCase("tiny_cnn", steps=2, arithmetic="fp16-fma"))
    status, found = compared(tmp_path, vectors, harness.run_steps(build(), vectors))
    assert (status, found["identical"], found["diagnosis"]["causes"]) == (0, True, [])


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
