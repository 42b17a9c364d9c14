"""Dumps of a device: what is read, bit for bit, and what is refused."""

import json
import os
import zipfile
from functools import cache

import numpy as np
import pytest
from dump_files import computed, hexadecimal, write_raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyodl import golden
from pyodl.golden.dumps import read_dump, write_dump

CONV = golden.case_of(
    "conv2d_forward", (3, 4, 5), out_channels=2, kernel_size=3, padding=1, arithmetic="fp16-fma"
)


@cache
def vectors_of(arithmetic="fp16-fma", data="nan-inf"):
    return golden.vectors_of(CONV.replace(arithmetic=arithmetic, data=data))


@cache
def steps():
    return golden.vectors_of(golden.StepCase("tiny_cnn", arithmetic="fp16-fma"))


def same(found, expected):
    return list(found) == list(expected) and all(
        np.array_equal(found[n], expected[n]) and found[n].dtype == expected[n].dtype
        for n in expected
    )


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "bf16-fma", "fp32"])
def test_raw_binary_is_read_with_its_description(arithmetic, tmp_path):
    vectors = vectors_of(arithmetic)
    dtype = vectors.tensors["y"].format.name
    dump = write_raw(tmp_path / "dump.bin", computed(vectors), dtype)
    assert same(read_dump(dump, vectors), computed(vectors))


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "bf16-fma", "fp32"])
@pytest.mark.parametrize("order", ["C", "F", ">"])
def test_arrays_are_read_as_values_or_as_bits(arithmetic, order, tmp_path):
    vectors = vectors_of(arithmetic)
    y = vectors.tensors["y"]
    bits = y.bits.astype(">" + y.bits.dtype.str[1:]) if order == ">" else y.bits.copy(order[0])
    np.savez(tmp_path / "bits.npz", y=bits)
    np.savez_compressed(tmp_path / "values.npz", y=y.values)
    for name in ("bits.npz", "values.npz"):
        assert same(read_dump(tmp_path / name, vectors), computed(vectors))


@pytest.mark.parametrize("arithmetic", ["fp16-fma", "bf16-fma", "fp32"])
@pytest.mark.parametrize("file", ["dump.bin", "dump", "dump.npz", "dump.txt"])
def test_what_is_written_is_read_again(arithmetic, file, tmp_path):
    vectors = vectors_of(arithmetic)
    tensors = {name: tensor.values for name, tensor in vectors.tensors.items()}
    write_dump(tmp_path / file, tensors)
    bits = {name: tensor.bits for name, tensor in vectors.tensors.items()}
    assert same(read_dump(tmp_path / file, vectors), bits)


def test_steps_are_written_and_a_raw_dump_has_the_bytes_of_a_device(tmp_path):
    vectors = steps()
    tensors = {name: tensor.values for name, tensor in vectors.tensors.items()}
    outputs = {name: tensors[name] for name in computed(vectors)}
    for file in ("own.bin", "own.npz", "own.txt"):
        write_dump(tmp_path / file, outputs)
        assert same(read_dump(tmp_path / file, vectors), computed(vectors))
    device = write_raw(tmp_path / "device.bin", computed(vectors))
    assert (tmp_path / "own.bin").read_bytes() == device.read_bytes()
    described = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("own", "device")]
    assert described[0] == described[1]


@pytest.mark.parametrize(
    "file, tensors, error, message",
    [
        ("dump.bin", {}, ValueError, "tensors is empty"),
        ("dump.json", {"y": np.float16([1])}, ValueError, "json is the suffix"),
        ("dump.bin", {"y": np.ones(2)}, TypeError, "y has dtype float64; it must be one of"),
    ],
)
def test_what_is_no_dump_is_not_written(file, tensors, error, message, tmp_path):
    with pytest.raises(error, match=message):
        write_dump(tmp_path / file, tensors)
    assert not list(tmp_path.iterdir())


def test_a_directory_of_vectors_is_a_dump_of_every_tensor(tmp_path):
    vectors = golden.write(tmp_path / "v", steps())
    every = {name: tensor.bits for name, tensor in vectors.tensors.items()}
    assert same(read_dump(tmp_path / "v", vectors), every)
    assert same(read_dump(tmp_path / "v" / "vectors.npz", vectors), every)


TEXTS = {
    "on one line": lambda words: "y: " + " ".join(words),
    "with 0x and commas": lambda words: "y = {" + ", ".join(f"0x{w}" for w in words) + "};",
    "as C": lambda words: (
        "/* y */\nstatic const uint16_t y[2][4][5] = {\n"
        + "".join(f"  0x{w},  // {i}\n" for i, w in enumerate(words))
        + "};\n"
    ),
    "upper case and shortened": lambda words: "y: " + " ".join(f"0X{int(w, 16):X}" for w in words),
    "named as in C": lambda words: "conv2d_forward_y: " + " ".join(words),
    "named as the checker names it": lambda words: "conv2d_forward/y:" + " ".join(words),
    "one word on a line": lambda words: "y:\n" + "\n".join(words),
    "with addresses": lambda words: (
        "y:\n" + "".join(f"{2 * i:04x}: {w}\n" for i, w in enumerate(words))
    ),
    "in a log": lambda words: (
        "booting 1234 cores\n[00:01.5] core0> y: {words[0]}\n".replace("{words[0]}", words[0])
        + "[00:02.25] core1> DMA done, 12 bytes\n"
        + "\n".join(f"[00:1{i}.5] core{i % 8}> {w}" for i, w in enumerate(words[1:]))
        + "\n[01:00.0] core0> cycles: 1234\n[01:00.1] core0> z: dead\nbye\n"
    ),
    "after what the checker prints": lambda words: (
        "pyodl: conv2d_forward/y: 1 of 40 differ, first element 0 [co 0, h 0, w 0]\n"
        "y: " + " ".join(words)
    ),
    "with the line ends of a serial port": lambda words: "\r\ny: " + "\r\n".join(words) + "\r\n",
}


@pytest.mark.parametrize("form", TEXTS)
def test_hexadecimal_is_read_as_firmware_prints_it(form, tmp_path):
    vectors = vectors_of()
    dump = tmp_path / "dump.txt"
    dump.write_text(TEXTS[form](hexadecimal(vectors.tensors["y"].bits)))
    assert same(read_dump(dump, vectors), computed(vectors))


def test_tensors_of_a_step_may_be_named_as_in_c(tmp_path):
    expected = computed(steps())
    dump = tmp_path / "dump.log"
    lines = [
        f"{prefix}{name.replace('/', '_').replace('.', '_')}= {' '.join(hexadecimal(bits))}\n"
        for (name, bits), prefix in zip(
            reversed(expected.items()), ["", "tiny_cnn_"] * len(expected), strict=False
        )
    ]
    dump.write_text("".join(lines))
    assert same(read_dump(dump, steps()), expected)  # in the order of computation
    dump.write_text("net_step0_loss: 3c00")
    assert read_dump(dump, steps(), "net")["step0/loss"].tolist() == [0x3C00]
    with pytest.raises(ValueError, match="holds none of the tensors initial/parameter/conv1"):
        read_dump(dump, steps())


def described(**changes):
    item = {"dtype": "float16", "shape": [2, 4, 5], "offset": 0, **changes}
    return json.dumps({"y": {key: value for key, value in item.items() if value is not None}})


UNUSABLE = {
    "y has the bytes 0 to 79, the file has 78": ("d.bin", bytes(78), described()),
    "2 bytes follow the last tensor": ("d.bin", bytes(82), described()),
    "y is not described by its": ("d.bin", bytes(80), described(dtype=None)),
    "y has dtype float32; it must be float16": ("d.bin", bytes(80), described(dtype="float32")),
    r"y has shape \(40,\); it must be \(2, 4, 5\)": ("d.bin", bytes(80), described(shape=[40])),
    r"shape of y is \[2, 4, True\]": ("d.bin", bytes(80), described(shape=[2, 4, True])),
    "offset of y is -2": ("d.bin", bytes(80), described(offset=-2)),
    "offset of y is 0.0": ("d.bin", bytes(80), described(offset=0.0)),
    r"d.json, which describes it, is no JSON": ("d.bin", bytes(80), "{"),
    r"d.json, which describes it, is no object": ("d.bin", bytes(80), "[]"),
    r"it holds 'z'; it may hold x, w, y": ("d.bin", bytes(80), '{"z": {}}'),
    "it holds none of the tensors x, w, y": ("d.bin", b"", "{}"),
    "conv2d_forward_y twice": (
        *("d.bin", bytes(80)),
        described()[:-1] + ', "conv2d_forward_y"' + described()[4:],
    ),
    "x begins at byte 60, inside another tensor": (
        *("d.bin", bytes(180)),
        described()[:-1] + ', "x": {"dtype": "float16", "shape": [3, 4, 5], "offset": 60}}',
    ),
    "there is no d.json beside it": ("d.bin", b"\0" * 80, None),
    "line 1: y has 1 words; it must have 40": ("d.txt", b"y: 3c00", None),
    "line 2: y has more than the 40 words": ("d.txt", b"y: 3c00\n" + b"3c00 " * 40, None),
    "line 1 is no hexadecimal: '3c0g'": ("d.txt", b"y: 3c0g", None),
    "passed over line 2: '3c0 3c00'": ("d.txt", b"y: 3c00\n3c0 3c00", None),
    "line 2: it holds y twice": ("d.txt", 2 * (b"y:" + 40 * b" 0000" + b"\n"), None),
    "none of the tensors x, w, y$": ("d.txt", b"nothing", None),
    "no .npz file that can be read: File is not a zip": ("d.npz", b"nothing", None),
}


@pytest.mark.parametrize("message", UNUSABLE)
def test_what_is_wrong_with_a_dump_is_said(message, tmp_path):
    name, data, description = UNUSABLE[message]
    dump = tmp_path / name
    dump.write_bytes(data)
    if description is not None:
        dump.with_suffix(".json").write_text(description)
    with pytest.raises(ValueError, match=message) as caught:
        read_dump(dump, vectors_of())
    assert str(caught.value).startswith(f"{dump}: ")


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"y": np.zeros((2, 4, 5))}, "y has dtype float64; it must be float16 or uint16"),
        ({"y": np.zeros((2, 4, 5), "V2")}, r"y has dtype \|V2; it must be float16 or uint16"),
        ({"y": np.zeros((5, 4, 2), "u2")}, r"y has shape \(5, 4, 2\); it must be \(2, 4, 5\)"),
        ({"z": np.zeros(3, "u2")}, "it holds 'z'; it may hold x, w, y"),
        ({}, "it holds none of the tensors x, w, y"),
    ],
)
def test_arrays_that_are_not_the_tensors_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "dump.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_dump(tmp_path / "dump.npz", vectors_of())


def test_an_array_with_too_little_data_or_too_much_is_refused(tmp_path):
    np.save(tmp_path / "y.npy", vectors_of().tensors["y"].bits)
    whole = (tmp_path / "y.npy").read_bytes()
    for data, message in ((whole[:-2], "y is truncated"), (whole + b"\0\0", "y is too long")):
        with zipfile.ZipFile(tmp_path / "dump.npz", "w") as archive:
            archive.writestr("y.npy", data)
        with pytest.raises(ValueError, match=message):
            read_dump(tmp_path / "dump.npz", vectors_of())


def test_a_pipe_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: it is no regular file"):
        read_dump(tmp_path / "pipe", vectors_of())


def test_a_missing_dump_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_dump(tmp_path / "dump.bin", vectors_of())


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["change", "cut", "repeat", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=4,
)


def damaged(data, edits):
    for kind, where, new in edits:
        at = int(where * len(data))
        after = {"change": data[at + len(new) :], "cut": b"", "repeat": data[at:] + data[at:]}
        middle = b"" if kind in ("cut", "repeat") else new
        data = data[:at] + middle + after.get(kind, data[at:])
    return data


@pytest.mark.parametrize("kind", ["bin", "json", "npz", "deflated.npz", "txt"])
def test_damage_is_refused_or_read_as_tensors(kind, tmp_path):
    vectors = vectors_of()
    expected = computed(vectors)
    dump = write_raw(tmp_path / "dump.bin", expected)
    hit = dump.with_suffix(f".{kind}")
    if kind.endswith("npz"):
        dump = hit
        (np.savez_compressed if "deflated" in kind else np.savez)(dump, **expected)
    elif kind == "txt":
        dump = hit
        dump.write_text(TEXTS["in a log"](hexadecimal(expected["y"])))
    sound = hit.read_bytes()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(EDITS)
    def check(edits):
        hit.write_bytes(damaged(sound, edits))
        found, message = {}, f"{dump}: "
        try:
            found = read_dump(dump, vectors)
        except ValueError as error:
            message = str(error)
        assert message.startswith(f"{dump}: ")
        for name, bits in found.items():
            assert (bits.shape, bits.dtype) == (expected[name].shape, expected[name].dtype)

    check()
