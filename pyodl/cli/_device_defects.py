"""What the firmware's defects do to a network on its device, in a line each."""

from pyodl.fidelity import Defect, known_defects
from pyodl.golden import Operation, StepCase
from pyodl.network import Network

__all__ = ["warnings"]

_STEPS = {
    "weight_grad": "weight gradient",
    "input_grad": "input gradient",
    "backward": "input gradient",
    "grad": "gradient",
}
_NAMED = 3  # layers of a line; the others are counted


def warnings(model: str, net: Network) -> list[str]:
    """Return a line for each defect that a training step meets, with the layers it concerns.

    The firmware's FP32 primitives are others, of which no defects are known here. What pyodl
    computes to the same bits is not mentioned.

    Parameters
    ----------
    model : str
        Of `pyodl.models.MODELS`.
    net : Network
        That model, with its device, its arithmetic and its frozen layers.
    """
    if net.arithmetic.storage.name == "float32":
        return []
    case = StepCase(model, arithmetic=net.arithmetic.name, cores=net.device.cores)
    found: dict[tuple[str, int], list[tuple[str, Defect]]] = {}
    for operation in case.operations:
        if _runs(operation, net):
            for defect in _defects(operation, net):
                key = _STEPS.get(operation.case.step, operation.case.step), defect.item
                found.setdefault(key, []).append((operation.layer, defect))
    return [_line(step, item, told) for (step, item), told in found.items()]


def _runs(operation: Operation, net: Network) -> bool:
    """Whether the device has this call; frozen layers spare it some."""
    step = operation.case.step
    if operation.case.primitive in ("add_bias", "reshape") or step == "bias_grad":
        return False  # the firmware computes a bias gradient together with the weight gradient
    own = net.macs().get(operation.layer, {})
    return bool(own.get(step, True))


def _defects(operation: Operation, net: Network) -> list[Defect]:
    case, options = operation.case, dict(operation.case.parameters)
    if case.step == "weight_grad":
        options["bias"] = f"{operation.layer}.bias" in net.parameters()
    found = known_defects(case.primitive, list(case.shapes.values()), case.cores, **options)
    return [defect for defect in found if not defect.modelled]


def _line(step: str, item: int, told: list[tuple[str, Defect]]) -> str:
    layers = list(dict.fromkeys(layer for layer, _ in told))
    names = ", ".join(layers[:_NAMED])
    if len(layers) > _NAMED:
        names += f" and {len(layers) - _NAMED} more"
    kinds = ", ".join(sorted({defect.kind for _, defect in told}))
    return f"on the device, {names} {step}: {told[0][1].message} ({kinds}; defect {item})"
