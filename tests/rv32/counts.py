"""Count the instructions of the inner loops in kernels.c, by hand and as clang 19 compiles them.

Run as a script, it prints both counts beside the cycle model's. Needs clang-19 and llvm-objdump-19
(Debian: ``clang-19 llvm-19``) for the compiled ones.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HAND", "Counts", "compiled", "missing_tools", "model"]

_SOURCE = Path(__file__).with_name("kernels.c")
_TOOLS = ("clang-19", "llvm-objdump-19")
_FLAGS = [
    "--target=riscv32-unknown-elf",
    "-march=rv32im_zfinx_zhinx_xcvmem_xcvsimd",
    "-mabi=ilp32",
    "-O2",
    "-ffp-contract=fast",
    "-mno-relax",  # branches show where they go
]


@dataclass(frozen=True)
class Counts:
    """Instructions of one iteration, without addresses and loop control.

    Parameters
    ----------
    loads, stores : int
    fma : int
        Accumulations, vector ones included.
    products : int
        Multiplications whose results are accumulated.
    converts : int
    shuffles : int
        Integer instructions on operands: packing and shifts.
    """

    loads: int
    fma: int
    products: int = 0
    converts: int = 0
    shuffles: int = 0
    stores: int = 0


# Counted by hand in the C source, for the loads, products and shuffles that it spells out.
HAND = {
    "tile_1x1_fp32": Counts(loads=2, fma=1),
    "tile_1x1_fp16": Counts(loads=2, fma=1),
    "tile_1x1_muladd": Counts(loads=2, fma=1, products=1),
    "tile_1x1_widen": Counts(loads=2, fma=1, converts=2),
    "tile_1x2_fp32": Counts(loads=3, fma=2),
    "tile_2x1_fp16": Counts(loads=3, fma=2),
    "tile_2x1_widen": Counts(loads=3, fma=2, converts=3),
    "tile_4x1_fp16": Counts(loads=5, fma=4),
    "tile_8x1_fp16": Counts(loads=9, fma=8),
    "tile_8x1_fp32": Counts(loads=9, fma=8),
    "tile_2x4_fp32": Counts(loads=6, fma=8),
    "dots_1x2_fp16": Counts(loads=3, fma=2),
    "dots_1x2_muladd": Counts(loads=3, fma=2, products=2),
    "dots_2x1_fp16": Counts(loads=3, fma=2),
    "dots_4x1_fp16": Counts(loads=5, fma=4),
    "dots_2x4_fp16": Counts(loads=6, fma=8),
    "dots_1x2_widen": Counts(loads=3, fma=4, converts=6, shuffles=3),
    "outer_1x2_fp16": Counts(loads=3, fma=2, shuffles=2),
    "outer_2x4_fp16": Counts(loads=6, fma=8, shuffles=4),
    "outer_2x4_muladd": Counts(loads=6, fma=8, products=8, shuffles=4),
}

_KINDS = (  # the first that matches; anything else is an address or loop control
    ("loads", r"lw|lh|lhu|cv\.lw|cv\.lh|cv\.lhu"),
    ("stores", r"sw|sh|cv\.sw|cv\.sh"),
    ("fma", r"fmadd\.[sh]|fadd\.[sh]"),
    ("products", r"fmul\.[sh]"),
    ("converts", r"fcvt\.[a-z.]+"),
    ("shuffles", r"cv\.pack(\.h)?|srli|srai"),
    ("unknown", r"<unknown>|\.word|\.insn"),  # vector arithmetic, told apart by its encoding
)
_VECTOR = {0x50: "fma", 0x51: "products", 0x52: "fma"}  # funct7 in kernels.c
_LINE = re.compile(r"\s*([0-9a-f]+):\s+([0-9a-f]{8})\s+(\S+)\s*(.*)")


def missing_tools() -> list[str]:
    """Return the tools that are not installed."""
    return [tool for tool in _TOOLS if shutil.which(tool) is None]


def compiled() -> dict[str, tuple[Counts, int]]:
    """Return the counts of each function's loop as compiled, and what is not in them.

    That rest is addresses, the loop counter and its branch.
    """
    with tempfile.TemporaryDirectory() as folder:
        binary = str(Path(folder) / "kernels.o")
        subprocess.run(["clang-19", *_FLAGS, "-c", str(_SOURCE), "-o", binary], check=True)
        text = subprocess.run(
            ["llvm-objdump-19", "-d", binary], check=True, capture_output=True, text=True
        ).stdout
    return {name: _count(lines) for name, lines in _functions(text).items()}


def _functions(text: str) -> dict[str, list[tuple[int, int, str, str]]]:
    """Return address, encoding, mnemonic and operands of the instructions, by function."""
    functions: dict[str, list[tuple[int, int, str, str]]] = {}
    name = ""
    for line in text.splitlines():
        if head := re.match(r"[0-9a-f]+ <(\w+)>:", line):
            name = head[1]
            functions[name] = []
        elif found := _LINE.match(line):
            address, encoding = int(found[1], 16), int(found[2], 16)
            functions[name].append((address, encoding, found[3], found[4]))
    return functions


def _count(lines: list[tuple[int, int, str, str]]) -> tuple[Counts, int]:
    """Count the loop of a function: from the target of its branch backwards to the branch."""
    loops = []
    for address, _, mnemonic, operands in lines:
        target = re.search(r"0x([0-9a-f]+)", operands)
        if mnemonic.startswith("b") and target and int(target[1], 16) <= address:
            loops.append((int(target[1], 16), address))
    ((first, last),) = loops
    kinds = Counter(_kind(line) for line in lines if first <= line[0] <= last)
    rest = kinds.pop("rest")
    return Counts(**kinds), rest


def _kind(line: tuple[int, int, str, str]) -> str:
    _, encoding, mnemonic, operands = line
    for kind, pattern in _KINDS:
        if re.fullmatch(pattern, mnemonic):
            if kind == "unknown":
                return _VECTOR[encoding >> 25]
            if kind == "loads" and "(sp)" in operands:
                return "rest"  # a spilled register
            return kind
    return "rest"


def model(name: str) -> Counts:
    """Return what the cycle model says of one iteration."""
    from pyodl.device.matmul_nests import Form, RegisterTile, inner

    nest, tile, form = name.split("_")
    rows, columns = (int(n) for n in tile.split("x"))
    step = {"fp32": "fma", "fp16": "fma"}.get(form, form)
    vector = nest != "tile"
    code = inner(
        RegisterTile(rows, columns, vector=vector),
        Form(1 if form == "fp32" else 2, step),
        *(0, 0),
        transpose_b=nest == "dots",
    )
    return Counts(
        loads=int(code.loads),
        fma=int(code.fma),
        products=int(code.products),
        converts=int(code.fp),
        shuffles=int(code.alu),
        stores=int(code.stores),
    )


def main() -> int:
    """Print the table; return 1 if two counts differ."""
    missing = missing_tools()
    if missing:
        print(f"not compiled: {', '.join(missing)} is not installed")
    found = {} if missing else compiled()
    print(f"{'inner loop':<18} {'loads':>5} {'fma':>4} {'mul':>4} {'cvt':>4} {'shuf':>4}  compiled")
    differ = False
    for name, hand in HAND.items():
        values = (hand.loads, hand.fma, hand.products, hand.converts, hand.shuffles)
        same = model(name) == hand
        text = "" if same else f"the model has {model(name)} "
        if found:
            counts, rest = found[name]
            same = same and counts == hand
            verdict = "the same" if counts == hand else str(counts)
            text += f"{verdict}, and {rest} for addresses and the loop"
        print(f"{name:<18} {{:>5}} {{:>4}} {{:>4}} {{:>4}} {{:>4}}  {text}".format(*values))
        differ = differ or not same
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
