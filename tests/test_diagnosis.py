"""What explains a dump, as a whole and operation by operation."""

import json
from functools import cache

import numpy as np
import pytest
from dump_files import computed
from hypothesis import given, settings
from hypothesis import strategies as st

from pyodl import arithmetic as arithmetics
from pyodl import golden
from pyodl.cli import main
from pyodl.formats import from_bits
from pyodl.golden.compare import compare
from pyodl.golden.diagnosis import diagnose, identify_dump
from pyodl.golden.report import html_report

STEPS = golden.StepCase("tiny_cnn", 2, arithmetic="fp16-fma", kernel="simd_2x4", cores=4)


@cache
def steps(**overrides):
    vectors = golden.vectors_of(STEPS)
    return golden.vectors_of(STEPS.replace(**overrides), vectors.inputs())


def diagnosed(got, vectors):
    return diagnose(compare(got, vectors))


def pairs(explanations):
    return {(e.kind, choice) for e in explanations for choice in e.choices}


def run_on(vectors, wrong):
    """Run the steps on, with other calls of some operations: {an output: overrides}."""
    tensors = vectors.inputs()
    for operation in vectors.case.operations:
        name = next(iter(operation.outputs.values()))
        tensors |= operation.run(tensors, **wrong.get(name, {}))
    return {name: tensors[name].view(np.uint16) for name in computed(vectors)}


def test_identical_tensors_need_no_explanation():
    found = diagnosed(computed(steps()), steps())
    assert (found.whole, found.causes, found.common.matches) == ((), (), ())
    assert found.describe() == []


@pytest.mark.parametrize(
    "overrides, kind, choice",
    [
        ({"arithmetic": "fp16-muladd"}, "arithmetic", "fp16-muladd"),
        ({"arithmetic": "fp16-fp32acc"}, "arithmetic", "fp16-fp32acc"),
        ({"kernel": "naive"}, "kernel", "naive"),
        (
            {"kernel": "naive", "arithmetic": "fp16-muladd"},
            "arithmetic fp16-muladd + kernel",
            "naive",
        ),
    ],
)
def test_one_cause_of_all_is_named(overrides, kind, choice):
    found = diagnosed(computed(steps(**overrides)), steps())
    assert (kind, choice) in pairs(found.whole)
    assert len({e.kind for e in found.whole}) == 1
    assert "every tensor of the dump is that of a run" in found.describe()[0]
    assert len(found.causes) == 3


def test_few_tensors_are_enough_for_one_cause_of_all():
    broken = computed(steps(arithmetic="fp16-muladd", kernel="simd_4x8"))
    few = {name: broken[name] for name in broken if "parameter" in name}
    found = diagnosed(few, steps())
    assert pairs(found.whole) >= {("arithmetic fp16-muladd + kernel", "simd_4x8")}
    assert found.causes[0].explanations == ()
    assert any("the dump lacks step0/gradient/" in line for line in found.causes[0].describe())


def test_errors_of_single_operations_are_explained_one_by_one():
    wrong = {
        "step0/activation/conv2": {"arithmetic": "fp16-muladd"},
        "step0/output_gradient/relu1": {"kernel": "naive"},
    }
    found = diagnosed(run_on(steps(), wrong), steps())
    assert found.whole == ()
    assert [cause.tensor.name for cause in found.causes] == list(wrong)
    first, second = (pairs(cause.explanations) for cause in found.causes)
    assert ("arithmetic", "fp16-muladd") in first
    assert ("kernel", "naive") in second
    assert ("fp16-fma", "naive") in found.causes[1].identification.matches
    assert set(found.causes[1].sources.values()) == {"dump", "given"}
    assert found.common.matches == ()


def test_what_wrong_operations_have_in_common_is_told():
    wrong = {
        f"step0/activation/{name}": {"arithmetic": "fp16-muladd"}
        for name in ("conv1", "conv2", "linear")
    }
    found = diagnosed(run_on(steps(), wrong), steps())
    assert found.whole == ()
    assert found.common.arithmetics == ("fp16-muladd",)
    (line,) = found.describe()
    assert line.startswith("the first 3 wrong operations all agree with fp16-muladd ")


def test_a_parameter_that_was_not_updated_is_named():
    tensors = steps().inputs()
    for operation in steps().case.operations:
        given = {**tensors}
        if operation.layer == "conv1" and "step1/activation/conv1" in operation.outputs.values():
            given["step0/parameter/conv1.weight"] = tensors["initial/parameter/conv1.weight"]
        tensors |= operation.run(given)
    got = {name: tensors[name].view(np.uint16) for name in computed(steps())}
    (cause,) = diagnosed(got, steps()).causes
    assert pairs(cause.explanations) == {("stale", "initial/parameter/conv1.weight")}


def test_bits_that_nothing_gives_are_not_explained():
    got = computed(steps())
    got["step0/activation/conv2"] = got["step0/activation/conv2"] ^ np.uint16(0x155)
    found = diagnosed(got, steps())
    assert found.whole == ()
    assert found.causes[0].explanations == ()
    assert found.causes[0].describe()[0] == "nothing that was tried gives these bits"


def test_what_follows_from_other_inputs_has_no_cause_here():
    inputs = steps().inputs()
    inputs["step0/input"] = -inputs["step0/input"]
    other = golden.vectors_of(STEPS, inputs)
    found = compare({name: t.bits for name, t in other.tensors.items()}, steps())
    assert not found.identical
    assert diagnose(found).causes == ()


def test_the_command_says_what_gives_the_bits(tmp_path, capsys):
    case = golden.case_of("matmul", (5, 9, 7), arithmetic="fp16-fma", kernel="simd_2x4")
    golden.write(tmp_path / "v", case)
    np.savez(tmp_path / "dump.npz", **case.run(arithmetic="fp16-fp32acc"))
    files = [f"--{kind}={tmp_path / kind}" for kind in ("json", "html")]
    command = ["compare", str(tmp_path / "dump.npz"), "--against", str(tmp_path / "v")]
    assert main([*command, *files]) == 1
    said = capsys.readouterr().out
    sentence = "sums are accumulated in FP32 (fp16-fp32acc)"
    assert f"what gives the bits of c:\n  {sentence}\n" in said
    assert f"<li>{sentence}</li>" in (tmp_path / "html").read_text()
    (cause,) = json.loads((tmp_path / "json").read_text())["diagnosis"]["causes"]
    assert (cause["tensor"], cause["primitive"]) == ("c", "matmul")
    assert cause["replayed_from"] == {"a": "given", "b": "given"}
    assert {"arithmetic"} == {item["kind"] for item in cause["explanations"]}
    assert ["fp16-fp32acc", "simd_2x4"] in cause["identification"]


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "fp16-muladd", "fp16-fp32acc", "bf16-fma"])
@pytest.mark.parametrize("kernel", ["naive", "simd_2x4", "m_simd_4x8"])
def test_a_dump_without_a_label_is_identified(arithmetic, kernel):
    case = golden.case_of("matmul", (6, 9, 8), cores=4, seed=3)  # the vectors' own are others
    vectors = golden.vectors_of(case)
    reference = case.replace(arithmetic=arithmetic)
    inputs = {
        name: from_bits(tensor.bits, arithmetics.get(arithmetic).storage)
        for name, tensor in vectors.tensors.items()
        if tensor.role == "input"
    }
    got = {
        own: reference.run(inputs, kernel=own)["c"].view(np.uint16)
        for own in ("naive", "simd_2x4", "m_simd_4x8")
    }
    common, _ = identify_dump(compare({"c": got[kernel]}, vectors))
    matches = {own for name, own in common.matches if name == arithmetic and own in got}
    assert matches == {own for own in got if np.array_equal(got[own], got[kernel])}
    assert arithmetic in common.arithmetics


def test_the_command_identifies_a_build(tmp_path, capsys):
    broken = steps(arithmetic="fp16-muladd")
    golden.write(tmp_path / "v", steps(), c_headers=False)
    np.savez(tmp_path / "dump.npz", **computed(broken))
    command = ["compare", str(tmp_path / "dump.npz"), "--against", str(tmp_path / "v")]
    assert main([*command, "--identify"]) == 1
    said = capsys.readouterr().out.split("identified from 8 operations: ")[1].splitlines()
    assert said[0].startswith("fp16-muladd simd_2x4")
    assert "fp16-fma" not in said[0]
    assert len(said) == 9
    np.savez(tmp_path / "dump.npz", **{"step0/loss": computed(steps())["step0/loss"]})
    assert main([*command, "--identify"]) == 0
    assert "nothing to identify" in capsys.readouterr().out


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_no_bits_are_too_strange_to_be_compared(data):
    """NaNs of any payload, infinities, subnormals; in any tensors, of any that are there."""
    case = golden.StepCase("tiny_cnn", arithmetic="fp16-fma")
    vectors = golden.vectors_of(case)
    names = data.draw(st.sets(st.sampled_from(list(vectors.tensors)), min_size=1))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    share = data.draw(st.sampled_from([0.01, 0.5, 1.0]))
    dump = {}
    for name in names:
        bits = vectors.tensors[name].bits
        strange = rng.integers(0, 1 << 16, bits.shape).astype(bits.dtype)
        dump[name] = np.where(rng.random(bits.shape) < share, strange, bits)
    found = compare(dump, vectors)
    assert {t.name for t in found.differing} == {
        name for name in names if not np.array_equal(dump[name], vectors.tensors[name].bits)
    }
    diagnosis = diagnose(found, most=1)
    assert len(diagnosis.causes) == (found.fault is not None)
    json.dumps([found.to_json(), diagnosis.to_json()], allow_nan=False)
    assert html_report(found, "dump", diagnosis).endswith("</html>\n")
