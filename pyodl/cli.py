"""The command line: ``pyodl train``, ``pyodl bench`` and ``pyodl info``.

Exit status: 0 when all went well, 1 for a failure on the way such as an interruption, 2 for wrong
usage or unusable input, with one line on stderr that says what was wrong.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from math import isfinite

import pyodl

__all__ = ["main"]

_MODELS = ("resnet8", "ds_cnn", "tiny_cnn")
_DESCRIPTION = (
    "A bit-faithful host model of FP16 on-device training on multi-core microcontrollers."
)
_EXAMPLES = """\
examples:
  pyodl train resnet8                      digits in FP16 and, beside it, in FP32
  pyodl train ds_cnn --arithmetic fp16-fma --plot curves.png
  pyodl train resnet8 --freeze stem_conv stack1_conv1 stack1_conv2
  pyodl bench --against torch              time training steps beside PyTorch's in FP32
  pyodl info                               what this installation can do
"""
_TRAIN = """\
Train a network from its initial weights, bit for bit as the device would, and measure it on
images held out. By default the same network is trained in FP32 beside it, from the same numbers
and in the same order, so that the difference is what the arithmetic costs.
"""
_TRAIN_EXAMPLES = """\
data:
  digits         1,797 handwritten digits, in the package (default of resnet8 and tiny_cnn)
  keywords       1,728 synthetic spoken keywords, in the package (default of ds_cnn)
  cifar10:PATH   CIFAR-10, binary version, as downloaded
  speech:PATH    Speech Commands, as downloaded

examples:
  pyodl train resnet8 --epochs 3 --save net.npz --json result.json
  pyodl train resnet8 --resume net.npz --epochs 6 --save net.npz
  pyodl train ds_cnn --data speech:~/speech_commands_v0.02 --no-fp32

Ctrl-C ends training after the current image; with --save, the network as it is then can be
resumed, with the bits that an uninterrupted run has.
"""
_BENCH = """\
Time training steps: how long one takes, how many multiply-accumulates a second that is, which share
of what the processor can do at best, and which share of the time is Python's. Or time them beside
PyTorch's steps in FP32 on the same network, in turns and on as many threads.
"""
_BENCH_EXAMPLES = """\
examples:
  pyodl bench --profile                    and where the time goes, layer by layer
  pyodl bench --against torch --threads 2
  pyodl bench --models resnet8 --arithmetic fp16-fma --json result.json

PyTorch is no dependency: pip install torch. Figures mean little on a busy machine.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str or None
        Arguments after the program's name; None takes the process's.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed what there is to say
        return int(stop.code or 0)
    try:
        if arguments.command == "info":
            return _info()
        return _train(arguments) if arguments.command == "train" else _bench(arguments)
    except KeyboardInterrupt:
        return _complain("interrupted", 1)
    except BrokenPipeError:  # the reader of our output went away: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _train(arguments: argparse.Namespace) -> int:
    from pyodl import _train

    try:
        job = _train.prepare(arguments)
    except (OSError, ValueError, ImportError) as error:
        return _complain(error, 2)
    try:
        return _train.run(job)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(error, 1)


def _bench(arguments: argparse.Namespace) -> int:
    from pyodl import _bench_report

    try:
        job = _bench_report.prepare(arguments)
    except (OSError, ValueError, ImportError) as error:
        return _complain(error, 2)
    try:
        return _bench_report.run(job)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(error, 1)


def _complain(error: object, status: int) -> int:
    """Say in one line what was wrong; return the exit status."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    print(f"pyodl: {' '.join(text.split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="pyodl", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=formatter
    )
    parser.add_argument("--version", action="version", version=f"pyodl {pyodl.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    train = commands.add_parser(
        "train",
        help="train a network as the device would",
        description=_TRAIN,
        epilog=_TRAIN_EXAMPLES,
        formatter_class=formatter,
    )
    _add_train_arguments(train)
    bench = commands.add_parser(
        "bench",
        help="time training steps",
        description=_BENCH,
        epilog=_BENCH_EXAMPLES,
        formatter_class=formatter,
    )
    _add_bench_arguments(bench)
    commands.add_parser(
        "info",
        help="what this installation can do",
        description="Print the version, the kernels in use, threads and arithmetics.",
    )
    return parser


def _add_train_arguments(train: argparse.ArgumentParser) -> None:
    add = train.add_argument
    add("model", choices=_MODELS, metavar="MODEL", help=", ".join(_MODELS))
    add("--data", metavar="NAME", help="what to train on, see below")
    add("--epochs", type=_positive, metavar="N", help="passes over the data (default: the model's)")
    add(
        "--lr",
        type=_rate,
        metavar="RATE",
        help="initial learning rate, which falls towards 0 (default: the model's)",
    )
    add(
        "--arithmetic",
        metavar="NAME",
        help="fp16-fp32acc (default), fp16-fma, fp16-muladd, bf16-fp32acc, bf16-fma or fp32",
    )
    add("--cores", type=_positive, metavar="N", help="cores of the device (default: 8)")
    add(
        "--threads",
        type=_positive,
        metavar="N",
        help="threads of this computer (default: 1 for each network); no bit depends on them",
    )
    add("--seed", type=_natural, metavar="N", help="of weights and orders (default: 0)")
    add("--freeze", nargs="+", default=[], metavar="LAYER", help="layers not to train")
    add("--save", metavar="FILE", help="write the network here after each epoch (.npz)")
    add(
        "--resume", metavar="FILE", help="go on with a network that --save wrote; implies --no-fp32"
    )
    add("--plot", metavar="FILE", help="draw the learning curves here (.png, .svg or .pdf)")
    add("--json", metavar="FILE", help="write the results here")
    add("--no-fp32", action="store_true", help="do not train in FP32 beside it")


def _add_bench_arguments(bench: argparse.ArgumentParser) -> None:
    add = bench.add_argument
    add("--against", choices=("torch",), metavar="PEER", help="compare with: torch")
    add(
        "--models",
        nargs="+",
        choices=_MODELS,
        default=["resnet8", "ds_cnn"],
        metavar="MODEL",
        help="of resnet8, ds_cnn and tiny_cnn (default: the first two)",
    )
    add(
        "--arithmetic",
        nargs="+",
        metavar="NAME",
        help="one or more (default: fp16-fp32acc fp16-fma fp16-muladd)",
    )
    add("--threads", type=_positive, default=1, metavar="N", help="of this computer (default: 1)")
    add("--steps", type=_positive, default=40, metavar="N", help="steps to time (default: 40)")
    add("--profile", action="store_true", help="also time every layer and step by itself")
    add("--json", metavar="FILE", help="write the results here")


def _natural(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return value


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 0 < value < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return value


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (value > 0 and isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _info() -> int:
    import platform

    import numpy as np

    from pyodl import _kernels, models
    from pyodl.arithmetic import ARITHMETICS
    from pyodl.formats import BFLOAT16

    try:
        bfloat16 = f"yes ({BFLOAT16.dtype} of ml_dtypes)"
    except ImportError as error:
        bfloat16 = f"no: {error}"
    openmp = "yes" if _kernels.has_openmp() else "no: built without it, so there is one thread"
    rows = {
        "version": f"{pyodl.__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}",
        "kernels": f"{_kernels.ISA} (of {', '.join(_kernels.available_isas())}; PYODL_ISA chooses)",
        "OpenMP": openmp,
        "threads": str(_kernels.processors()),
        "arithmetics": ", ".join(ARITHMETICS),
        "bfloat16": bfloat16,
        "models": ", ".join(models.MODELS),
    }
    for name, value in rows.items():
        print(f"{name:<12} {value}")
    return 0
