"""The C headers of a directory of vectors.

A header holds a set of tensors: all of a `Case`; of a `StepCase` the initial parameters, and each
step. A tensor is ``static const uint16_t`` (``uint32_t`` for float32), placed by ``PYODL_SECTION``,
with its shape as macros and a descriptor for ``pyodl_check``.
"""

import json
import re
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING, Any

from pyodl import arithmetic as arithmetics
from pyodl.formats import round_to, to_bits

if TYPE_CHECKING:
    from pyodl.golden.export import Tensor, Vectors

__all__ = ["CHECKER", "check_prefix", "headers", "identifier"]

CHECKER = "pyodl_check.h"
_PER_LINE = {16: 12, 32: 8}


def identifier(name: str) -> str:
    """Return a name as C can have it: "step0/gradient/fc.weight" is step0_gradient_fc_weight."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def check_prefix(prefix: str | None) -> None:
    """Raise ValueError if ``prefix`` is neither None nor an identifier of C."""
    if prefix is not None and not re.fullmatch(r"[A-Za-z_]\w*", prefix, flags=re.ASCII):
        raise ValueError(f"prefix is {prefix!r}; it must be an identifier of C")


def headers(vectors: "Vectors", prefix: str | None = None) -> dict[str, str]:
    """Return the headers' texts by file name, the checker's among them.

    Parameters
    ----------
    vectors : Vectors
    prefix : str or None
        What identifiers begin with; None takes the primitive's or the model's name.
    """
    described = vectors.case.to_json()
    name = described.get("primitive") or described["model"]
    prefix = prefix or (name if isinstance(name, str) else "network")
    checker = resources.files("pyodl.golden").joinpath("include", CHECKER)
    texts = {CHECKER: checker.read_text(encoding="utf-8")}
    for name, tensors in _sets(vectors, prefix).items():
        texts[f"{name}.h"] = "".join(_header(vectors, name, prefix, tensors))
    return texts


def _sets(vectors: "Vectors", prefix: str) -> dict[str, list["Tensor"]]:
    """Return the tensors of each header, by its name."""
    if vectors.case.to_json()["kind"] == "primitive":
        return {prefix: list(vectors.tensors.values())}
    sets: dict[str, list[Tensor]] = {}
    for tensor in vectors.tensors.values():
        sets.setdefault(f"{prefix}_{tensor.name.split('/')[0]}", []).append(tensor)
    return sets


def _header(vectors: "Vectors", name: str, prefix: str, tensors: list["Tensor"]) -> Iterable[str]:
    described = vectors.case.to_json()
    guard = f"PYODL_VECTORS_{name.upper()}_H"
    yield f"/* Written by pyodl {vectors.version}; do not edit.\n *\n"
    for key, value in described.items():
        yield f" * {key:<10} {json.dumps(value)}\n"
    yield " *\n * tensor, shape, role:\n"
    for tensor in tensors:
        axes = ", ".join(f"{a} {n}" for a, n in zip(tensor.layout, tensor.shape, strict=True))
        yield f" *   {identifier(tensor.name)} ({axes}), {tensor.role}\n"
    yield f" */\n#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n"
    yield f'#include "{CHECKER}"\n\n'
    for macro, value in _macros(vectors, described):
        yield f"#define {name.upper()}_{macro} {value}\n"
    for tensor in tensors:
        yield from _tensor(prefix, tensor)
    yield "\n#endif\n"


def _macros(vectors: "Vectors", described: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Return the numbers of a case as macros; a real number as the bits that the device stores."""
    storage = arithmetics.get(vectors.case.arithmetic).storage
    values = {"cores": described["cores"], **described.get("parameters", {})}
    values |= {key: described[key] for key in ("lr", "weight_decay") if key in described}
    for name, value in values.items():
        if isinstance(value, list):
            yield name.upper(), "{" + ", ".join(str(item) for item in value) + "}"
        elif isinstance(value, float):
            bits = int(to_bits(round_to(value, storage)))
            yield f"{name.upper()}_BITS", f"0x{bits:0{storage.bits // 4}x}"
        elif isinstance(value, int):
            yield name.upper(), str(int(value))


def _tensor(prefix: str, tensor: "Tensor") -> Iterable[str]:
    """Yield the macros, the bits and the descriptor of a tensor."""
    name = f"{prefix}_{identifier(tensor.name)}"
    upper, width = name.upper(), tensor.format.bits
    yield "\n"
    for axis, size in zip(tensor.layout, tensor.shape, strict=True):
        yield f"#define {upper}_{identifier(axis).upper()} {size}\n"
    yield f"#define {upper}_SIZE {tensor.bits.size}\n"
    yield f"PYODL_SECTION PYODL_ALIGN static const uint{width}_t {name}[{upper}_SIZE] = {{\n"
    digits = tensor.bits.astype(f">u{width // 8}").tobytes().hex()
    words = [f"0x{digits[i : i + width // 4]}" for i in range(0, len(digits), width // 4)]
    for i in range(0, len(words), _PER_LINE[width]):
        yield "    " + ", ".join(words[i : i + _PER_LINE[width]]) + ",\n"
    shape = ", ".join(str(size) for size in tensor.shape)
    axes = ", ".join(f'"{axis}"' for axis in tensor.layout)
    yield f"}};\nstatic const pyodl_tensor {name}_tensor = {{\n"
    yield f'    "{prefix}/{tensor.name}", {name}, PYODL_{tensor.format.name.upper()}, '
    yield f"{upper}_SIZE, {tensor.bits.ndim},\n    {{{shape}}}, {{{axes}}}}};\n"
