"""Dumps beside vectors: what differs, where first, and what only follows from that."""

import json
from functools import cache

import numpy as np
import pytest
from dump_files import computed, hexadecimal, write_raw

from pyodl import golden
from pyodl.cli import main
from pyodl.golden.compare import compare

CONV = golden.case_of(
    *("conv2d_forward", (3, 5, 6)), out_channels=4, kernel_size=3, padding=1, arithmetic="fp16-fma"
)


@cache
def steps(arithmetic="fp16-fma"):
    return golden.vectors_of(golden.StepCase("tiny_cnn", 2, arithmetic=arithmetic))


def of_y(values, expected, dtype="float16"):
    """Compare two lists of numbers as the output of a ReLU."""
    arithmetic = {"float16": "fp16-fma", "float32": "fp32"}[dtype]
    want = np.array(expected, dtype)
    vectors = golden.vectors_of(
        golden.Case("relu_forward", {"x": want.shape}, arithmetic=arithmetic), {"x": want}
    )
    got = np.array(values, dtype).view(f"u{want.itemsize}")
    (tensor,) = compare({"y": got}, vectors).tensors
    return tensor


def test_the_same_bits_are_identical():
    found = compare(computed(steps()), steps())
    assert found.identical
    assert (found.first, found.fault, found.missing, found.unseen) == (None, None, (), ())
    assert [t.differing for t in found.tensors] == [0] * len(found.tensors)


def test_differences_are_counted_by_element_bit_and_ulp():
    ulp = 2.0**-10
    tensor = of_y(
        [1 + ulp, 2, 1 - ulp / 2, 1 + 3 * ulp, np.nan, -0.0, 1 + 8 * ulp, 1 + 9 * ulp],
        [1, 2, 1, 1, 1, 0, 1, 1],
    )
    assert (tensor.differing, tensor.got.size) == (7, 8)
    assert tensor.histogram == {"0": 1, "1": 2, "3-4": 1, "5-8": 1, "9-16": 1, "NaN": 1}
    words = [(0x3C01, 0x3C00), (0x3BFF, 0x3C00), (0x3C03, 0x3C00), (0x7E00, 0x3C00)]
    words += [(0x8000, 0), (0x3C08, 0x3C00), (0x3C09, 0x3C00)]
    assert tensor.differing_bits == sum((a ^ b).bit_count() for a, b in words)


def test_every_bin_of_the_histogram_has_its_limits():
    far = [1, 2, 3, 4, 5, 8, 9, 2**20, 2**20 + 1, 2**31 - 2**24]
    start = np.zeros(len(far), np.float32)
    tensor = of_y(
        (start.view(np.uint32) + np.array(far, np.uint32)).view(np.float32), start, "float32"
    )
    assert tensor.histogram == {
        **dict.fromkeys(("1", "2", "9-16"), 1),
        **dict.fromkeys(("3-4", "5-8"), 2),
        **dict.fromkeys((f"{2**k // 2 + 1}-{2**k}" for k in (20, 21, 31)), 1),
    }


def test_the_first_difference_is_told_in_the_layouts_terms():
    for layout, where in (
        ("CHW", "output channel 2, row 3, column 4"),
        ("HWC", "row 3, column 4, output channel 2"),
    ):
        case = golden.case_of(
            "conv2d_forward", (3, 5, 6), out_channels=4, kernel_size=3, padding=1, layout=layout
        )
        vectors = golden.vectors_of(case)
        place = (2, 3, 4) if layout == "CHW" else (3, 4, 2)
        got = computed(vectors)
        got["y"][place] ^= 3
        first = compare(got, vectors).first.first
        assert (first.where, first.place) == (where, place)
        assert first.index == np.ravel_multi_index(place, got["y"].shape)
        assert first.got ^ first.expected == 3


def test_what_follows_from_a_difference_is_told_from_where_it_began():
    vectors, name = steps(), "step0/output_gradient/relu1"
    got = computed(vectors)
    passed = np.argwhere(vectors.tensors["step0/activation/relu1"].values > 0)[-1]
    got[name][tuple(passed)] ^= 0x400
    case = vectors.case  # run on with the wrong tensor
    tensors = {n: t.values for n, t in vectors.tensors.items()}
    after = False
    for operation in case.operations:
        if after:
            tensors |= operation.run(tensors)
        elif name in operation.outputs.values():
            tensors[name], after = got[name].view(np.float16), True
    got = {n: tensors[n].view(np.uint16) for n in got}
    found = compare(got, vectors)
    origins = {t.name: t.origin for t in found.differing}
    assert origins.pop(name) == "here"
    assert found.first.name == found.fault.name == name
    assert len(origins) > 10
    assert set(origins.values()) == {"before"}
    got["step1/loss"] ^= 1  # a second error, much later
    found = compare(got, vectors)
    assert {t.name for t in found.differing if t.origin == "here"} == {name, "step1/loss"}


def test_all_follows_from_a_wrong_input():
    vectors = steps()
    inputs = vectors.inputs()
    inputs["step1/input"] = inputs["step1/input"] * np.float16(2)
    got = golden.vectors_of(vectors.case, inputs)
    found = compare({n: t.bits for n, t in got.tensors.items()}, vectors)
    assert (found.first.name, found.first.origin) == ("step1/input", "given")
    assert found.fault is None
    assert {t.origin for t in found.differing[1:]} == {"before"}


def test_what_a_dump_lacks_is_said_and_replayed():
    vectors, name = steps(), "step0/gradient/conv1.weight"
    got = computed(vectors)
    few = {n: got[n].copy() for n in ("step0/activation/linear", name, "step1/loss")}
    few[name][0, 0, 1, 1] ^= 1
    found = compare(few, vectors)
    assert len(found.missing) == len(got) - 3
    assert found.fault.name == name
    assert "step0/output_gradient/conv1" in found.unseen
    assert "step0/activation/linear" not in found.unseen
    assert "step1/activation/conv1" not in found.unseen
    only = {n: t.bits for n, t in steps("fp16-muladd").tensors.items() if n.endswith("loss")}
    found = compare(only, vectors)
    assert (found.fault.name, found.fault.origin) == ("step0/loss", "unknown")


@pytest.mark.parametrize(
    "dump, message",
    [
        ({}, "the dump holds no tensors"),
        ({"z": np.zeros(1, np.uint16)}, "'z', which the vectors do not have"),
        ({"y": np.zeros((4, 5, 6), np.float16)}, r"y has shape \(4, 5, 6\) and dtype float16; it"),
        ({"y": np.zeros((4, 5), np.uint16)}, r"y has shape \(4, 5\) and dtype uint16; it must"),
    ],
)
def test_what_is_no_dump_of_the_vectors_is_refused(dump, message):
    with pytest.raises(ValueError, match=message):
        compare(dump, golden.vectors_of(CONV))


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def run(*arguments):
    return main(["compare", *map(str, arguments)])


def test_the_command_says_that_all_is_the_same(tmp_path, capsys):
    vectors = golden.write(tmp_path / "v", CONV)
    dump = write_raw(tmp_path / "dump.bin", computed(vectors))
    assert run(dump, "--against", tmp_path / "v") == 0
    assert capsys.readouterr().out == f"{dump}: identical, 1 tensors\n"
    assert run(tmp_path / "v" / "vectors.npz") == 0


def test_the_command_says_what_differs_and_where(tmp_path, capsys):
    vectors = golden.write(tmp_path / "v", CONV)
    words = hexadecimal(vectors.tensors["y"].bits)
    expected, words[40] = words[40], "7e01"
    (tmp_path / "uart.txt").write_text("y: " + " ".join(words))
    out = tmp_path / "found.json"
    assert run(tmp_path / "uart.txt", "--against", tmp_path / "v", "--json", out) == 1
    said = capsys.readouterr().out
    assert "1 of 1 tensors differ" in said
    assert "first difference: y (conv2d_forward)" in said
    assert "at output channel 1, row 1, column 4 (element 40)" in said
    assert f"expected 0x{expected} (" in said
    assert "got 0x7e01 (nan), one is NaN" in said
    found = json.loads(out.read_text())
    (y,) = found["tensors"]
    assert (found["identical"], found["first"], found["fault"]) == (False, "y", "y")
    assert found["case"] == CONV.to_json()
    assert (y["elements"], y["differing_elements"], y["bits"]) == (120, 1, 1920)
    assert y["differing_bits"] == (int(expected, 16) ^ 0x7E01).bit_count()
    assert y["ulp_histogram"] == {"NaN": 1}
    assert y["first"]["place"] == {"co": 1, "h": 1, "w": 4}
    assert (y["first"]["got"], y["first"]["ulp"]) == ("0x7e01", None)


def test_the_command_compares_with_a_model(tmp_path, capsys):
    model = ("--against", "tiny_cnn", "--steps", 2, "--arithmetic")
    np.savez(tmp_path / "dump.npz", **computed(steps()))
    assert run(tmp_path / "dump.npz", *model, "fp16-fma") == 0
    assert run(tmp_path / "dump.npz", *model, "fp16-muladd") == 1
    assert "first difference: step0/activation/conv1 (training step 0," in capsys.readouterr().out


def test_the_command_refuses_what_it_cannot_use(tmp_path, capsys):
    golden.write(tmp_path / "v", CONV)
    (tmp_path / "dump.txt").write_text("y: 3c00")
    (tmp_path / "other").mkdir()
    against = ("--against", tmp_path / "v")
    for arguments, message in (
        ((tmp_path / "none.bin", *against), "none.bin: No such file or directory"),
        ((tmp_path / "dump.txt", *against), "dump.txt: line 1: y has 1 words; it must have 120"),
        ((tmp_path / "dump.txt", "--against", tmp_path / "other"), "neither a directory of pyodl"),
        ((tmp_path / "dump.txt", "--against", "lenet"), "nor one of resnet8"),
        ((tmp_path / "dump.txt",), "it is neither a directory of pyodl export"),
        ((tmp_path / "dump.txt", *against, "--cores", 4), "vectors take no --cores"),
        ((tmp_path / "dump.txt", *against, "--freeze", "a"), "vectors take no --freeze"),
        ((tmp_path / "dump.txt", *against, "--json", tmp_path / "no" / "f"), "there is no folder"),
        ((tmp_path / "dump.txt", "--against", "tiny_cnn", "--arithmetic", "fp8"), "fp8"),
    ):
        assert run(*arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("pyodl: ")
        assert said.err.count("\n") == 1
        assert message in said.err


def test_the_command_does_not_write_over_the_dump(tmp_path, capsys):
    vectors = golden.write(tmp_path / "v", CONV)
    dump = write_raw(tmp_path / "dump.bin", computed(vectors))
    against, before = ("--against", tmp_path / "v"), written(tmp_path)
    for option in (("--json", tmp_path / "dump.json"), ("--html", dump)):
        assert run(dump, *against, *option) == 2
        assert "it is the dump's own file" in capsys.readouterr().err
    assert written(tmp_path) == before
    (tmp_path / "uart.txt").write_text("y: " + " ".join(hexadecimal(computed(vectors)["y"])))
    for _ in range(2):
        assert run(tmp_path / "uart.txt", *against, "--json", tmp_path / "uart.json") == 0


def test_the_command_compares_with_a_saved_network(tmp_path):
    case = golden.StepCase("tiny_cnn", arithmetic="fp16-fma", seed=5)
    net = case.network()
    net.save(tmp_path / "net.npz")
    own = golden.StepCase.of(net)
    np.savez(tmp_path / "dump.npz", **own.run(own.inputs(net.parameters())))
    assert run(tmp_path / "dump.npz", "--against", tmp_path / "net.npz") == 0
    assert run(tmp_path / "dump.npz", "--against", tmp_path / "net.npz", "--lr", 0.5) == 1
