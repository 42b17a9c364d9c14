"""Devices: presets, checks of every field, and TOML files."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyodl
from pyodl import device, formats
from pyodl.device import DEVICES, Device

INTEGERS = {
    name: value
    for name, value in asdict(DEVICES["pulp-open"]).items()
    if isinstance(value, int) and not isinstance(value, bool)
}
FLAGS = ("fpu_pipelined_fp16", "fpu_pipelined_bf16", "fpu_pipelined_fp32")


def toml(fields):
    words = {True: "true", False: "false"}
    return "".join(
        f"{name} = {words[v] if isinstance(v, bool) else repr(v)}\n" for name, v in fields.items()
    )


def test_default_is_the_platform_of_the_paper():
    chip = device.get("pulp-open")
    assert (chip.cores, chip.l1_bytes, chip.l1_banks) == (8, 65536, 16)
    assert (chip.l2_bytes, chip.dma_bytes_per_cycle) == (1572864, 8)
    assert Device("pulp-open", 8) == chip
    assert [chip.lanes(formats.get(f)) for f in ("float16", "bfloat16", "float32")] == [2, 2, 1]


@pytest.mark.parametrize(
    "name, suffix", [("float16", "fp16"), ("bfloat16", "bf16"), ("float32", "fp32")]
)
def test_formats_find_their_fields(name, suffix):
    chip = Device(
        "chip",
        2,
        **{f"lanes_{suffix}": 4, f"fpu_latency_{suffix}": 7, f"fpu_pipelined_{suffix}": False},
    )
    storage = formats.get(name)
    assert (chip.lanes(storage), chip.fpu_latency(storage)) == (4, 7)
    assert not chip.fpu_pipelined(storage)


def test_single_core_differs_from_pulp_open_in_its_cores():
    single = DEVICES["single-core"]
    assert replace(single, name="pulp-open", cores=8, fork_cycles=100) == DEVICES["pulp-open"]


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_are_checked(name):
    fields = asdict(DEVICES["pulp-open"])
    with pytest.raises(ValueError, match=rf"^{name} is -1; it must be an integer from \d+ to \d+$"):
        Device(**fields | {name: -1})
    with pytest.raises(ValueError, match=rf"^{name} is {2**31}; "):
        Device(**fields | {name: 2**31})
    for value in (1.5, True, "8", None):
        with pytest.raises(TypeError, match=rf"^{name} must be an integer from"):
            Device(**fields | {name: value})


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan")])
def test_clock_is_checked(value):
    with pytest.raises(ValueError, match=r"clock_hz is .*; it must be a number above 0 and finite"):
        Device("chip", 1, clock_hz=value)
    with pytest.raises(TypeError, match="clock_hz must be a number"):
        Device("chip", 1, clock_hz="fast")


def test_names_and_flags_are_checked():
    with pytest.raises(ValueError, match="name is ''"):
        Device("", 1)
    with pytest.raises(TypeError, match="name must be a string, not int"):
        Device(3, 1)
    for flag in FLAGS:
        with pytest.raises(TypeError, match=f"{flag} must be a bool, not int"):
            Device("chip", 1, **{flag: 1})


def test_get_takes_names_paths_and_devices(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "vega"\nname = "mine"\n')
    mine = replace(DEVICES["vega"], name="mine")
    assert device.get(mine) is mine
    assert device.get("vega") is DEVICES["vega"]
    assert device.get(path) == device.get(str(path)) == mine
    with pytest.raises(ValueError, match="device is 'toaster'; it may be one of pulp-open, vega"):
        device.get("toaster")
    with pytest.raises(TypeError, match="device must be a string, a path or a Device, not int"):
        device.get(8)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml"):
        device.get("nowhere.toml")


@given(st.data())
def test_a_file_of_all_fields_is_the_device(tmp_path_factory, data):
    fields = asdict(DEVICES["pulp-open"])
    fields |= {name: data.draw(st.integers(1, 64), label=name) for name in INTEGERS}
    fields |= {name: data.draw(st.booleans(), label=name) for name in FLAGS}
    path = tmp_path_factory.mktemp("device") / "chip.toml"
    path.write_text(toml(fields))
    assert device.load(path) == Device(**fields)


@pytest.mark.parametrize("name", asdict(DEVICES["pulp-open"]))
def test_a_missing_field_is_named(tmp_path, name):
    fields = asdict(DEVICES["pulp-open"])
    del fields[name]
    path = tmp_path / "chip.toml"
    path.write_text(toml(fields))
    with pytest.raises(ValueError, match=rf"chip\.toml: {name} is missing; it must be \w+"):
        device.load(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("cores = -8", r"cores is -8; it must be an integer from 1 to 2147483647"),
        ("l1_bytes = 0", r"l1_bytes is 0; it must be an integer from 1 to 2147483647"),
        ('l1_banks = "many"', r"l1_banks must be an integer from 1 to 1024, not str"),
        (
            "l1_byte = 1",
            r"l1_byte is no field of a device; did you mean l1_bytes \(an integer",
        ),
        ("clokc_hz = 1.0", r"clokc_hz is no field of a device; did you mean clock_hz \(a number"),
        ("colour = 1", r"colour is no field of a device; its fields are name, cores"),
        ("clock_hz = inf", r"clock_hz is inf; it must be a number above 0"),
        ("fpu_pipelined_fp16 = 2", r"fpu_pipelined_fp16 must be a bool, not int"),
        ("cores = ", r"is not TOML"),
        ("cores = \xff", r"is not TOML"),
    ],
)
def test_wrong_fields_are_named(tmp_path, text, message):
    path = tmp_path / "chip.toml"
    path.write_bytes(f'base = "pulp-open"\nname = "chip"\n{text}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"chip\.toml.*{message}"):
        device.load(path)


@pytest.mark.parametrize("base", ['"toaster"', "3", "[1]"])
def test_a_base_is_a_preset(tmp_path, base):
    path = tmp_path / "chip.toml"
    path.write_text(f'base = {base}\nname = "chip"\n')
    with pytest.raises(ValueError, match=r"chip\.toml: base is .*; it must be one of pulp-open"):
        device.load(path)


def test_a_base_does_not_lend_its_name(tmp_path):
    path = tmp_path / "chip.toml"
    path.write_text('base = "vega"\n')
    with pytest.raises(ValueError, match="name is missing; it must be a string"):
        device.load(path)


def test_a_network_keeps_its_device_in_a_file(tmp_path):
    chip = Device("chip", 3, l1_bytes=32768, clock_hz=1e8, fpu_pipelined_fp32=False)
    net = pyodl.models.tiny_cnn(device=chip)
    net.save(tmp_path / "net.npz")
    assert pyodl.Network.load(tmp_path / "net.npz").device == chip
