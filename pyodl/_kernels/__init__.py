"""The kernels: typed Cython under the GIL's back, one C signature for all.

A kernel is a C function ``(arguments, team)`` that does the calling thread's part of the work. A
Cython module hands it out in a capsule; Python binds it once to arrays, sizes and scalars
(`Operation`), and that is where Python ends::

    primitives, network          bind(name, inputs, outputs, ...)      Python objects
    ------------------------------------------------------------------------------------
    _operation.pyx, _program.pyx Operation.run, Program.run            releases the GIL
    _trial.pxd, _schedule.pxd    who does what of a program            one parallel region
    _layout _contraction ...     this thread's share of tiles          pointers and sizes
    include/*.h                  one element or one register tile      floats and bits

Arithmetic is decided in the headers, in one place: ``formats.h`` rounds, ``arithmetic.h`` has the
single steps, ``steps.h`` the same steps on the vector registers of ``lanes.h``.

The kernel modules are built from the same sources for several x86-64 levels. The best one that the
processor runs is chosen once, here; ``PYODL_ISA`` overrides it (``baseline``, ``x86_64_v3``,
``x86_64_v4``, ``avx512_fp16``). All of them write the same bits. ``_operation`` and ``_program``
have no loops over data and are built once.
"""

import importlib
import os
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy import ndarray

try:
    from pyodl._kernels._operation import (
        Operation,
        has_openmp,
        processors,
        set_parallel_work,
        x86_level,
    )
    from pyodl._kernels._program import TRIAL_RUNS, Program, Step
except ModuleNotFoundError as error:
    raise ImportError(
        f"{Path(__file__).parent} has no kernels built for this Python: to use an installed pyodl "
        "leave the folder of its sources, or build them there with: pip install --editable ."
    ) from error

__all__ = [
    "BAND_SUMS",
    "BY_PIXELS",
    "ISA",
    "KERNELS",
    "LANES",
    "LISTS_TERMS",
    "MOST_LISTED",
    "OF_EXACT_PRODUCTS",
    "OPERANDS",
    "PEAK_MACS",
    "SHAPES",
    "TRIAL_RUNS",
    "Operation",
    "Program",
    "Step",
    "available_isas",
    "bind",
    "has_openmp",
    "processors",
    "set_parallel_work",
]

_LEVELS = {"avx512_fp16": 5, "x86_64_v4": 4, "x86_64_v3": 3, "baseline": 0}  # best first


def _modules(isa: str) -> list[str]:
    """Return the full names of the kernel modules built for ``isa``."""
    folder = Path(__file__).parent
    package = __name__
    if isa != "baseline":
        folder, package = folder / isa, f"{__name__}.{isa}"
    names = sorted(found.name for found in pkgutil.iter_modules([str(folder)]) if not found.ispkg)
    return [f"{package}.{name}" for name in names if name not in ("_operation", "_program")]


def available_isas() -> tuple[str, ...]:
    """Return the builds that exist and that this processor runs, best first."""
    return tuple(isa for isa, level in _LEVELS.items() if x86_level() >= level and _modules(isa))


def _choose() -> str:
    isas = available_isas()
    wanted = os.environ.get("PYODL_ISA") or isas[0]
    if wanted not in isas:
        raise ImportError(f"PYODL_ISA is {wanted!r}; this build and processor have {isas}")
    return wanted


ISA = _choose()
_LOADED = {name.rpartition(".")[2]: importlib.import_module(name) for name in _modules(ISA)}
KERNELS: dict[str, Any] = {}
for _module in _LOADED.values():
    KERNELS |= _module.KERNELS
# By step: outputs in one register, what operands are staged as, where zeros are left out, which one
# has the same bits where products are exact.
LANES: tuple[int, ...] = _LOADED["_contraction"].LANES
OPERANDS: tuple[str, ...] = _LOADED["_contraction"].OPERANDS
BY_PIXELS: tuple[bool, ...] = _LOADED["_contraction"].BY_PIXELS
LISTS_TERMS: tuple[bool, ...] = _LOADED["_contraction"].LISTS_TERMS
OF_EXACT_PRODUCTS: tuple[int, ...] = _LOADED["_contraction"].OF_EXACT_PRODUCTS
# Of tiles: rows, registers, how many of the rows may lie equally far apart.
SHAPES: tuple[tuple[int, int, int], ...] = _LOADED["_contraction"].SHAPES
BAND_SUMS: int = _LOADED["_pixels"].BAND_SUMS  # registers of them that "convolve_pixels" keeps
MOST_LISTED: int = _LOADED["_pixels"].MOST_LISTED  # pixels at a time
PEAK_MACS: tuple[int, ...] = _LOADED["_peak"].PEAK_MACS  # of one round of "fma_peak", by step


def bind(
    name: str,
    inputs: Sequence[ndarray | None],
    outputs: Sequence[ndarray | None],
    sizes: Sequence[int] = (),
    scalars: Sequence[float] = (),
    arithmetic: int = 0,
    cores: int = 1,
) -> Operation:
    """Bind the kernel called ``name`` to its arrays; see `Operation`."""
    return Operation(name, KERNELS[name], inputs, outputs, sizes, scalars, arithmetic, cores)
