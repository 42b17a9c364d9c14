"""Devices: what a microcontroller has, and how it works through a training step.

Imports point down this list::

    tune.py      the fastest kernels and tiles, without changing bits
    profile.py   what a training step costs, layer by layer
    search.py    the fastest of a step's kernels and tiles
    cycles.py    cycles of a step: slowest cores, forks, DMA
    *_nests.py   the kernels' loop nests, as data
    loops.py     what a loop nest is, and the one function that counts its cycles
    memory.py    which tensor lies where in L2, and the peaks of L1 and L2
    tiles.py     the tiles of one step that fit L1, and what the DMA moves for them
    steps.py     the work of one training step of a network, layer by layer
    _file.py     devices in TOML files
    _device.py   `Device` and the presets

A network knows its `Device` only; what knows networks is imported by its own name.
"""

from pyodl.device._device import DEVICES, Device
from pyodl.device._file import get, load

__all__ = ["DEVICES", "Device", "get", "load"]
