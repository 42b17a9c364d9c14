"""``pyodl compare``."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pyodl.cli._arguments import MODELS, natural, output, positive, rate
from pyodl.cli._table import Table

if TYPE_CHECKING:
    from pyodl.golden import Vectors
    from pyodl.golden.compare import Comparison, TensorComparison
    from pyodl.golden.diagnosis import Diagnosis

    Job = tuple[argparse.Namespace, Comparison, Diagnosis]

HELP = "where a device's dump differs from what it must compute, and why"
DESCRIPTION = """\
Compare what a device dumped with vectors, or with training steps of a model: which tensors differ,
by how much, where first, and which other way to compute gives the dump's bits.
"""
EPILOG = """\
what is read:
  dump.bin      raw little-endian bits, and dump.json, which describes them:
                {"y": {"dtype": "float16", "shape": [16, 32, 32], "offset": 0}, ...}
  dump.npz      arrays of the storage format, or of its bits as unsigned integers
  dump.txt      hexadecimal as a firmware prints it: y: 3c00 bc01 ...
  a directory   of pyodl export
Tensors are named as in the vectors, or as in their C headers. A dump need not hold all of them.

examples:
  pyodl compare uart.txt --against vectors
  pyodl compare dump.bin --against vectors --html report.html --json report.json
  pyodl compare dump.npz --against resnet8 --steps 3 --arithmetic fp16-fma --seed 7
  pyodl compare dump.npz --against net.npz             a network of train --save
  pyodl compare dump.bin --against vectors --identify  of a build that nobody knows

Exit status: 0 if all bits are the same, 1 if any differ, 2 if the input cannot be used.
"""

_FIELDS = ("steps", "arithmetic", "cores", "kernel", "seed", "data", "loss", "lr", "weight_decay")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("dump", metavar="DUMP", help="what the device dumped")
    add(
        "--against",
        metavar="WHAT",
        help=f"directory of pyodl export (default: DUMP's), or training steps of "
        f"{', '.join(MODELS)} or a file of train --save",
    )
    add("--json", metavar="FILE", help="write all of it here as JSON")
    add("--html", metavar="FILE", help="write a report with plots here")
    add(
        "--identify",
        action="store_true",
        help="also name every arithmetic and matmul kernel that gives the dump's bits",
    )
    add("--prefix", metavar="NAME", help="of the names in the dump, as of pyodl export")
    model = parser.add_argument_group("of a model, as for pyodl export step")
    add = model.add_argument
    add("--steps", type=positive, metavar="N", help="training steps (default: 1)")
    add("--arithmetic", metavar="NAME", help="default: fp16-fp32acc, or the network's")
    add("--cores", type=positive, metavar="N", help="of the device (default: 8)")
    add("--matmul", dest="kernel", metavar="KERNEL", help="of all layers (default: their own)")
    add("--seed", type=natural, metavar="N", help="of the inputs (default: 0)")
    add("--data", metavar="NAME", help="kind of inputs (default: normal)")
    add("--loss", metavar="NAME", help="default: cross_entropy")
    add("--lr", type=rate, metavar="RATE")
    add("--weight-decay", type=rate, metavar="RATE")
    add("--freeze", nargs="+", metavar="LAYER", help="layers that are not trained")


def prepare(arguments: argparse.Namespace) -> "Job":
    """Compare, and write the files: whatever fails here says nothing of the device's bits."""
    from pyodl._files import whole_file
    from pyodl.golden.compare import compare
    from pyodl.golden.diagnosis import diagnose
    from pyodl.golden.dumps import files_of, read_dump

    files = {name: output(arguments, name) for name in ("json", "html")}
    vectors = _expected(arguments)
    found = compare(read_dump(arguments.dump, vectors, arguments.prefix), vectors)
    taken = [path.resolve() for path in files_of(arguments.dump)]
    for name, path in files.items():
        if path is not None and path.resolve() in taken:
            raise ValueError(f"--{name} {path}: it is the dump's own file")
    diagnosis = diagnose(found)
    for name, path in files.items():
        if path is not None:
            text = _TEXTS[name](found, diagnosis, arguments.dump)
            with whole_file(path) as file:
                file.write(text.encode("utf-8", "backslashreplace"))
    return arguments, found, diagnosis


def run(job: "Job") -> int:
    """Print what was found; return the exit status."""
    from pyodl.golden.report import summary

    arguments, found, diagnosis = job
    if found.identical:
        print(f"{arguments.dump}: {summary(found)}")
    else:
        _print_tensors(found)
        print(f"\n{arguments.dump}: {summary(found)}")
        _print_first(found)
        _print_causes(diagnosis)
    if arguments.identify:
        _print_identified(found)
    return 0 if found.identical else 1


def _json_text(found: "Comparison", diagnosis: "Diagnosis", dump: str) -> str:
    everything = {"dump": dump, **found.to_json(), "diagnosis": diagnosis.to_json()}
    return json.dumps(everything, indent=1) + "\n"


def _html_text(found: "Comparison", diagnosis: "Diagnosis", dump: str) -> str:
    from pyodl.golden.report import html_report

    return html_report(found, dump, diagnosis)


_TEXTS = {"json": _json_text, "html": _html_text}


def _expected(arguments: argparse.Namespace) -> "Vectors":
    """Return the vectors that the arguments name."""
    from pyodl import Network, golden
    from pyodl.golden.export import read

    fields = {name: getattr(arguments, name) for name in _FIELDS}
    fields = {name: value for name, value in fields.items() if value is not None}
    if arguments.freeze is not None:
        fields["frozen"] = tuple(arguments.freeze)
    against = Path(arguments.against or Path(arguments.dump).parent)
    if arguments.against in MODELS and not (against / "manifest.json").exists():
        return golden.vectors_of(golden.StepCase(arguments.against, **fields))
    if against.is_file():
        net = Network.load(against)
        case = golden.StepCase.of(net, **fields)
        return golden.vectors_of(case, case.inputs(net.parameters()))
    if fields:
        raise ValueError(f"vectors take no {_option(min(fields))}: their manifest has it")
    if not (against / "manifest.json").is_file():
        raise ValueError(
            f"--against {against}: it is neither a directory of pyodl export nor a file of "
            f"train --save nor one of {', '.join(MODELS)}"
        )
    return read(against)


def _option(name: str) -> str:
    """Return an option as it is typed."""
    special = {"kernel": "matmul", "frozen": "freeze"}
    return "--" + special.get(name, name).replace("_", "-")


def _print_tensors(found: "Comparison") -> None:
    """Print a row for each tensor."""
    from pyodl.golden.report import ORIGINS

    width = max(len(tensor.name) for tensor in found.tensors)
    columns = {"elements": ">9", "differ": ">9", "share": ">8", "bits": ">8", "most ULP": ">9"}
    table = Table({"tensor": f"<{width}", **columns, "the difference": ""})
    for tensor in found.tensors:
        if not tensor.differing:
            table.row(tensor.name, str(tensor.got.size), "0", "", "", "", "")
            continue
        table.row(
            *(tensor.name, str(tensor.got.size), str(tensor.differing)),
            *(f"{tensor.differing / tensor.got.size:.2%}", str(tensor.differing_bits)),
            *(tensor.most, ORIGINS[tensor.origin]),
        )


def _print_first(found: "Comparison") -> None:
    """Print where the tensors differ first, and where what they compute does."""
    from pyodl.golden.report import unseen

    first, fault = found.first, found.fault
    if first is not None:
        print(f"\nfirst difference: {_described(first)}")
    if fault is None:
        print("\nall other differences follow from what the device was given")
    elif fault is not first:
        print(f"\nfirst wrong computation: {_described(fault)}")
    if found.unseen:
        print(f"  {unseen(found)}")


def _described(tensor: "TensorComparison") -> str:
    """Return the description of a difference, indented below its heading."""
    return "\n  ".join(tensor.describe())


def _print_causes(diagnosis: "Diagnosis") -> None:
    """Print what reproduces the dump's bits."""
    for line in diagnosis.describe():
        print(f"\n{line}")
    for cause in diagnosis.causes:
        print(f"\nwhat gives the bits of {cause.tensor.name}:")
        for line in cause.describe():
            print(f"  {line}")


def _print_identified(found: "Comparison") -> None:
    """Print the arithmetics and kernels that give the dump's bits."""
    from pyodl.golden.diagnosis import identify_dump

    common, single = identify_dump(found)
    if not single:
        print("\nno operation has all its inputs and outputs in the dump: nothing to identify")
        return
    print(f"\nidentified from {len(single)} operations: {common}")
    if len(single) > 1:
        for name, identification in single.items():
            print(f"  {name}: {identification}")
