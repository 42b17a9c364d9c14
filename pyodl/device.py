"""Devices that a network trains on."""

from dataclasses import dataclass

from pyodl.primitives import _check as check

__all__ = ["DEVICES", "Device", "get"]


@dataclass(frozen=True)
class Device:
    """A microcontroller.

    Parameters
    ----------
    name : str
    cores : int
        Cores of the cluster. They change bits only through the matmul kernels' fall-back rules
        (docs/numerics.md, section 4).

    Raises
    ------
    TypeError, ValueError
        If ``name`` is no string, or ``cores`` no positive integer.
    """

    name: str
    cores: int

    def __post_init__(self) -> None:
        """Check the fields."""
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, not {type(self.name).__name__}")
        check.integer("cores", self.cores, 1)


DEVICES = {device.name: device for device in (Device("pulp-open", 8), Device("single-core", 1))}


def get(device: str | Device) -> Device:
    """Return the device called ``device``, or the `Device` given.

    Raises
    ------
    TypeError
        If it is neither a string nor a `Device`.
    ValueError
        If no device has that name.
    """
    if isinstance(device, Device):
        return device
    return DEVICES[check.choice("device", device, DEVICES)]
