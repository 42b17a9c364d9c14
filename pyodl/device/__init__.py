"""Devices: what a microcontroller has, and how it works through a training step.

Imports point down this list::

    memory.py    which tensor lies where in L2, and the peaks of L1 and L2
    tiles.py     the tiles of one step that fit L1, and what the DMA moves for them
    steps.py     the work of one training step of a network, layer by layer
    _file.py     devices in TOML files
    _device.py   `Device` and the presets

The three upper modules know networks and are imported by their own names; a network knows its
`Device` only.
"""

from pyodl.device._device import DEVICES, Device
from pyodl.device._file import get, load

__all__ = ["DEVICES", "Device", "get", "load"]
