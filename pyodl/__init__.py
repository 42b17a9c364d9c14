"""A bit-faithful host model of FP16 on-device training on multi-core microcontrollers.

Names are imported when they are first used, so that ``import pyodl`` costs little more than NumPy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyodl import arithmetic, datasets, device, fidelity, formats, layers, models, primitives
    from pyodl.arithmetic import Arithmetic
    from pyodl.device import Device
    from pyodl.device.profile import Profile, profile
    from pyodl.device.tune import Tuning, tune
    from pyodl.network import Network
    from pyodl.training import History, Progress, evaluate, fit, train_step

__version__ = "0.1.0"

__all__ = [
    "Arithmetic",
    "Device",
    "History",
    "Network",
    "Profile",
    "Progress",
    "Tuning",
    "__version__",
    "arithmetic",
    "datasets",
    "device",
    "evaluate",
    "fidelity",
    "fit",
    "formats",
    "layers",
    "models",
    "primitives",
    "profile",
    "train_step",
    "tune",
]

_MODULES = (
    "arithmetic",
    "datasets",
    "device",
    "fidelity",
    "formats",
    "layers",
    "models",
    "primitives",
)
_HOMES = {
    "Arithmetic": "arithmetic",
    "Device": "device",
    "History": "training",
    "Network": "network",
    "Profile": "device.profile",
    "Progress": "training",
    "Tuning": "device.tune",
    "evaluate": "training",
    "fit": "training",
    "profile": "device.profile",
    "train_step": "training",
    "tune": "device.tune",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"pyodl.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'pyodl' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pyodl.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
