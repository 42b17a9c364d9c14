"""What a microcontroller has: its fields, their ranges, and the presets."""

from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any

from pyodl.formats import Format
from pyodl.primitives import _check as check

__all__ = ["DEVICES", "FIELDS", "Device", "allowed"]

_LARGEST = 2**31 - 1  # the devices count in 32 bits
_SUFFIX = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}
_RANGES: dict[str, tuple[int, int]] = {
    "cores": (1, _LARGEST),
    "lanes_fp16": (1, 64),
    "lanes_bf16": (1, 64),
    "lanes_fp32": (1, 64),
    "fpu_shared_by": (1, 64),
    "fpu_latency_fp16": (1, 64),
    "fpu_latency_bf16": (1, 64),
    "fpu_latency_fp32": (1, 64),
    "l1_bytes": (1, _LARGEST),
    "l1_banks": (1, 1024),
    "l2_bytes": (1, _LARGEST),
    "dma_bytes_per_cycle": (1, 1024),
    "dma_setup_cycles": (0, 1_000_000),
    "fork_cycles": (0, 1_000_000),
}


@dataclass(frozen=True)
class Device:
    """A cluster of cores with a shared L1, fed by a DMA from an L2.

    The defaults are those of ``pulp-open``. Only ``cores`` can change bits, through the fall-back
    rules of the matmul kernels (docs/numerics.md, section 4); all else decides tiles and cycles.

    Parameters
    ----------
    name : str
    cores : int
        Cores that share the work of a kernel.
    lanes_fp16, lanes_bf16, lanes_fp32 : int
        Elements of one SIMD operation.
    fpu_shared_by : int
        Cores that share one FPU; 1 is a private FPU.
    fpu_latency_fp16, fpu_latency_bf16, fpu_latency_fp32 : int
        Cycles from the issue of a multiply-add to the first cycle that can use its result; 1 means
        that the next instruction can.
    fpu_pipelined_fp16, fpu_pipelined_bf16, fpu_pipelined_fp32 : bool
        Whether the FPU takes a new operation in every cycle; otherwise it takes one per latency.
    l1_bytes, l1_banks : int
        Shared L1 (the cluster's scratchpad), and its word-interleaved banks.
    l2_bytes : int
    dma_bytes_per_cycle, dma_setup_cycles : int
        Bandwidth between L2 and L1, and the cycles that start one transfer.
    fork_cycles : int
        Fork and join of one parallel section.
    clock_hz : float
        Of the cluster, in Hz.

    Raises
    ------
    TypeError, ValueError
        If a field is of another type or out of its range; the message names the field, its value
        and what it may be.

    Notes
    -----
    Where the presets' numbers come from. "Assumed" marks what no public source was found for.

    ``pulp-open``: the open PULP cluster of eight CV32E40P cores, which is no chip.

    - 8 cores, 64 KiB of L1 in 16 banks, 1.5 MiB of L2, DMA of 8 bytes a cycle: the platform's
      public configuration.
    - Two 16-bit lanes, one 32-bit lane: packed SIMD in a 32-bit register file.
    - One private FPU a core, pipelined: with one multiply-add a cycle, the peak of 8 MAC a cycle in
      FP32 and 16 in FP16.
    - FPU latency 1: the value of ``FPU_ADDMUL_LAT`` 0 in the CV32E40P user manual; the parameter
      allows more. FP16 and bfloat16 as FP32: assumed.
    - 30 cycles to start a DMA transfer: assumed; Rossi et al. (Computing Frontiers 2014) describe
      a DMA programmed in few instructions by the cores themselves.
    - 100 cycles for fork and join: assumed, software included.
    - 450 MHz: assumed, taken from ``vega``.

    ``vega``: like the cluster of Vega (Rossi et al., IEEE JSSC 57, 2022, arXiv:2110.09101).

    - 8 cores that compute (of nine: one steers), 128 KiB of L1 in 16 banks, about 1.5 MiB of L2,
      four FPUs for eight cores, 450 MHz at most: as the paper describes the chip.
    - FPU latency 2, pipelined: assumed (one pipeline register of a shared FPU).
    - DMA, fork and join: assumed, as ``pulp-open``.

    ``single-core``: ``pulp-open`` with one core, and no cost of fork and join.
    """

    name: str
    cores: int
    lanes_fp16: int = 2
    lanes_bf16: int = 2
    lanes_fp32: int = 1
    fpu_shared_by: int = 1
    fpu_latency_fp16: int = 1
    fpu_latency_bf16: int = 1
    fpu_latency_fp32: int = 1
    fpu_pipelined_fp16: bool = True
    fpu_pipelined_bf16: bool = True
    fpu_pipelined_fp32: bool = True
    l1_bytes: int = 64 * 1024
    l1_banks: int = 16
    l2_bytes: int = 1536 * 1024
    dma_bytes_per_cycle: int = 8
    dma_setup_cycles: int = 30
    fork_cycles: int = 100
    clock_hz: float = 450e6

    def __post_init__(self) -> None:
        """Check the fields."""
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, not {type(self.name).__name__}")
        if not self.name:
            raise ValueError("name is ''; it must be a string that is not empty")
        for name in FIELDS[1:]:
            _check(name, getattr(self, name))

    def lanes(self, storage: Format) -> int:
        """Return the SIMD lanes of a storage format."""
        return int(getattr(self, f"lanes_{_SUFFIX[storage.name]}"))

    def fpu_latency(self, storage: Format) -> int:
        """Return the cycles from a multiply-add in a format to the first use of its result."""
        return int(getattr(self, f"fpu_latency_{_SUFFIX[storage.name]}"))

    def fpu_pipelined(self, storage: Format) -> bool:
        """Return whether the FPU takes an operation of a format in every cycle."""
        return bool(getattr(self, f"fpu_pipelined_{_SUFFIX[storage.name]}"))


FIELDS = tuple(field.name for field in fields(Device))


def allowed(name: str) -> str:
    """Return what a field may be, in words."""
    if name in _RANGES:
        return "an integer from {} to {}".format(*_RANGES[name])
    if name.startswith("fpu_pipelined"):
        return "true or false"
    return "a number above 0 and finite" if name == "clock_hz" else "a string that is not empty"


def _check(name: str, value: Any) -> None:
    """Check one field, all but the name."""
    if name.startswith("fpu_pipelined"):
        check.flag(name, value)
    elif name == "clock_hz":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be {allowed(name)}, not {type(value).__name__}")
        if not 0 < value < inf:
            raise ValueError(f"{name} is {value}; it must be {allowed(name)}")
    else:
        least, most = _RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be {allowed(name)}, not {type(value).__name__}")
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; it must be {allowed(name)}")


_PULP_OPEN = Device("pulp-open", 8)

DEVICES = {
    device.name: device
    for device in (
        _PULP_OPEN,
        Device(
            "vega",
            8,
            fpu_shared_by=2,
            fpu_latency_fp16=2,
            fpu_latency_bf16=2,
            fpu_latency_fp32=2,
            l1_bytes=128 * 1024,
        ),
        replace(_PULP_OPEN, name="single-core", cores=1, fork_cycles=0),
    )
}
