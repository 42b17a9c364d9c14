"""One call of a primitive: its shapes, parameters and seed, its inputs and what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from dataclasses import replace as dataclass_replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from pyodl import arithmetic as arithmetics
from pyodl.golden import _primitives as table
from pyodl.golden._data import DATA, draw
from pyodl.primitives import _check as check

if TYPE_CHECKING:
    from pyodl.golden.steps import StepCase

__all__ = ["Case", "Operation", "from_json"]

Shape = tuple[int, ...]
_MOST_ELEMENTS = 1 << 27  # of a tensor: far beyond any microcontroller, not beyond a host


@dataclass(frozen=True)
class Case:
    """One call of a primitive.

    Parameters
    ----------
    primitive : str
        A function of `pyodl.primitives`, such as "conv2d_weight_grad"; or "add_bias" or "reshape".
    shapes : mapping of str to tuple of int
        Of every tensor that it takes, by the name of the argument; those that may be left out,
        such as "bias", are taken where they are named.
    parameters : mapping
        What else the function takes: stride, padding, layout, algorithm, kernel, lr, ...
    arithmetic : str
    cores : int
        Of the device.
    seed : int
        For `inputs`.
    data : str
        Which inputs are drawn: "normal"; "subnormals", "overflow", "signed-zeros", "nan-inf",
        "ties" or "leftovers"; "hard" mixes all of them.

    Raises
    ------
    TypeError, ValueError
        If there is no such primitive, or it does not take these tensors or parameters; what the
        values may be is checked when it runs.

    Examples
    --------
    >>> case = Case("matmul", {"a": (4, 9), "b": (6, 9)}, {"transpose_b": True}, cores=2)
    >>> case.run(case.inputs())["c"].shape
    (4, 6)
    """

    primitive: str
    shapes: Mapping[str, Shape]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    arithmetic: str = "fp16-fp32acc"
    cores: int = 8
    seed: int = 0
    data: str = "normal"

    def __post_init__(self) -> None:
        """Check the fields and make tuples of lists."""
        known = table.get(self.primitive)
        arithmetics.get(self.arithmetic)
        check.integer("cores", self.cores, 1)
        check.integer("seed", self.seed, 0)
        check.choice("data", self.data, DATA)
        shapes = _mapping("shapes", self.shapes)
        _names("shapes", shapes, known.tensors, frozenset(known.tensors) - known.optional)
        parameters = _mapping("parameters", self.parameters)
        _names("parameters", parameters, known.parameters, known.required)
        object.__setattr__(
            self,
            "shapes",
            {name: _shape(name, shapes[name]) for name in known.tensors if name in shapes},
        )
        object.__setattr__(
            self,
            "parameters",
            {
                name: _value(name, parameters[name])
                for name in known.parameters
                if name in parameters
            },
        )

    @property
    def family(self) -> str:
        """What the primitive belongs to, such as "conv2d"."""
        return table.family_and_step(self.primitive)[0]

    @property
    def step(self) -> str:
        """Step of the family, such as "weight_grad"; "" where there is but one."""
        return table.family_and_step(self.primitive)[1]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that `run` returns."""
        return table.get(self.primitive).outputs

    @property
    def input_names(self) -> frozenset[str]:
        """Names of the tensors that `inputs` returns."""
        return frozenset(self.shapes)

    @property
    def output_names(self) -> frozenset[str]:
        """Names of the tensors that `run` returns."""
        return frozenset(self.outputs)

    def axes(self, tensor: str, ndim: int) -> tuple[str, ...]:
        """Return the names of a tensor's axes, outermost first: ("co", "ci", "kh", "kw")."""
        return table.axes_of(self.primitive, tensor, ndim, dict(self.parameters))

    def inputs(self) -> dict[str, ndarray]:
        """Draw the input tensors, in the storage format.

        Returns
        -------
        dict of ndarray
            By name, in the order of the arguments; the same for the same case.

        Raises
        ------
        ImportError
            If the format is bfloat16 and ml_dtypes is not installed.
        """
        storage = arithmetics.get(self.arithmetic).storage
        return {
            name: draw(name, shape, storage, self.data, self.seed)
            for name, shape in self.shapes.items()
        }

    def run(
        self, inputs: Mapping[str, ndarray] | None = None, **overrides: Any
    ) -> dict[str, ndarray]:
        """Compute the outputs.

        Parameters
        ----------
        inputs : mapping of str to ndarray, or None
            In the storage dtype of the arithmetic; None draws them.
        **overrides
            Fields or parameters that shall be others, as in `replace`.

        Returns
        -------
        dict of ndarray
            By name; a scalar as an array of shape (1,).

        Raises
        ------
        TypeError, ValueError
            If the inputs are not those of the case, or whatever the primitive raises.
        """
        case = self.replace(**overrides) if overrides else self
        known = table.get(case.primitive)
        given = case.inputs() if inputs is None else dict(inputs)
        if given.keys() != case.shapes.keys():
            raise ValueError(f"inputs are {sorted(given)}; they must be {sorted(case.shapes)}")
        for name, array in given.items():
            if np.shape(array) != case.shapes[name]:
                raise ValueError(
                    f"{name} has shape {np.shape(array)}; it must be {case.shapes[name]}"
                )
        result = known.function(
            **given, **case.parameters, arithmetic=case.arithmetic, cores=case.cores
        )
        results = result if isinstance(result, tuple) else (result,)
        return {
            name: np.atleast_1d(np.asarray(array))
            for name, array in zip(known.outputs, results, strict=True)
        }

    def replace(self, **overrides: Any) -> "Case":
        """Return the case with other fields or parameters: ``case.replace(kernel="naive")``.

        Raises
        ------
        TypeError, ValueError
            As for a new case.
        """
        own = {f.name for f in fields(self)}
        changed = {name: value for name, value in overrides.items() if name in own}
        rest = {name: value for name, value in overrides.items() if name not in own}
        if rest:
            changed["parameters"] = {**changed.get("parameters", self.parameters), **rest}
        return dataclass_replace(self, **changed)

    def to_json(self) -> dict[str, Any]:
        """Return the case as a dictionary of what JSON has; `from_json` reads it."""
        return {
            "kind": "primitive",
            "primitive": self.primitive,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "parameters": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in self.parameters.items()
            },
            "arithmetic": self.arithmetic,
            "cores": self.cores,
            "seed": self.seed,
            "data": self.data,
        }


@dataclass(frozen=True)
class Operation:
    """One call in a chain.

    Parameters
    ----------
    case : Case
    inputs : dict
        Names of the chain's tensors, by the case's.
    outputs : dict
        Likewise; outputs that nobody wants are left out.
    layer : str
        Of the network; "" for the loss.
    """

    case: Case
    inputs: dict[str, str]
    outputs: dict[str, str]
    layer: str

    def run(self, tensors: Mapping[str, ndarray], **overrides: Any) -> dict[str, ndarray]:
        """Compute the outputs, by the chain's names; overrides as in `Case.run`."""
        given = {own: tensors[name] for own, name in self.inputs.items()}
        found = self.case.run(given, **overrides)
        return {name: found[own] for own, name in self.outputs.items()}


def from_json(item: Any) -> "Case | StepCase":
    """Return the `Case` or `StepCase` that ``to_json`` described.

    Raises
    ------
    TypeError, ValueError
        If ``item`` describes neither.
    """
    from pyodl.golden.steps import StepCase  # noqa: PLC0415 - it is made of cases

    kinds: dict[str, type[Case] | type[StepCase]] = {"primitive": Case, "step": StepCase}
    if not isinstance(item, dict):
        raise TypeError(f"a case must be a dictionary, not {type(item).__name__}")
    kind = kinds[check.choice("kind", item.get("kind"), kinds)]
    given = {name: value for name, value in item.items() if name != "kind"}
    known = {f.name for f in fields(kind)}
    if given.keys() != known:
        raise ValueError(f"a case has {sorted(given)}; it must have {sorted(known)}")
    return kind(**given)


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    return dict(value)


def _names(
    what: str, given: dict[str, Any], known: tuple[str, ...], required: frozenset[str]
) -> None:
    """Check the names of tensors or parameters."""
    unknown = given.keys() - set(known)
    if unknown:
        allowed = ", ".join(known) or "none"
        raise ValueError(f"{what} names {min(unknown)!r}; it may name {allowed}")
    missing = [name for name in known if name in required and name not in given]
    if missing:
        raise ValueError(f"{what} names no {missing[0]!r}; it must")


def _shape(name: str, shape: Any) -> Shape:
    if not isinstance(shape, tuple | list) or not shape:
        raise TypeError(f"the shape of {name} must be integers, not {shape!r}")
    if len(shape) > 5:
        raise ValueError(f"the shape of {name} has {len(shape)} dimensions; it may have 5")
    checked = tuple(check.integer(f"the shape of {name}", size, 1) for size in shape)
    if np.prod(checked, dtype=object) > _MOST_ELEMENTS:
        raise ValueError(f"the shape of {name} is {checked}; it may have 2**27 elements")
    return checked


def _value(name: str, value: Any) -> Any:
    """Return a parameter as JSON can hold it: a number, a string, a bool or a tuple of integers."""
    if isinstance(value, tuple | list):
        return tuple(check.integer(name, item, 0) for item in value)
    if isinstance(value, np.integer | np.floating | np.bool_):
        return value.item()
    if value is not None and not isinstance(value, bool | int | float | str):
        raise TypeError(f"{name} must be a number, a string or integers, not {value!r}")
    return value
