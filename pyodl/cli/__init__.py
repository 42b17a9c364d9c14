"""The command line: a module for each command.

A command's module has ``HELP``, ``DESCRIPTION``, ``EPILOG``, ``add_arguments(parser)``,
``prepare(arguments)``, which checks everything and returns a job, and ``run(job)``, which returns
the exit status. It imports what it works with only there, so that ``--help`` is quick.

Exit status: 0 when all went well, 1 for a failure on the way such as an interruption, 2 for wrong
usage or unusable input, with one line on stderr that says what was wrong.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import pyodl
from pyodl.cli import bench, compare, export, info, profile, replay, train, tune

__all__ = ["main"]

_COMMANDS = {
    "train": train,
    "profile": profile,
    "tune": tune,
    "bench": bench,
    "export": export,
    "compare": compare,
    "replay": replay,
    "info": info,
}
_DESCRIPTION = (
    "A bit-faithful host model of FP16 on-device training on multi-core microcontrollers."
)
_EXAMPLES = """\
examples:
  pyodl train resnet8                      digits in FP16 and, beside it, in FP32
  pyodl train ds_cnn --arithmetic fp16-fma --plot curves.png
  pyodl train resnet8 --freeze stem_conv stack1_conv1 stack1_conv2
  pyodl profile resnet8 --plot roofline.png         cycles and memory on a device, predicted
  pyodl tune resnet8 --save plan.json      the fastest kernels and tiles, without changing bits
  pyodl bench --against torch              time training steps beside PyTorch's in FP32
  pyodl export step resnet8 --steps 3 -o vectors    what a firmware must compute, for its tests
  pyodl compare uart.txt --against vectors          where a device's dump differs, and why
  pyodl replay session.npz                 a recorded training session again, bit for bit
  pyodl info                               what this installation can do
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
        return _run(arguments.module, arguments)
    except KeyboardInterrupt:
        return _complain("interrupted", 1)
    except BrokenPipeError:  # the reader of our output went away: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(command: ModuleType, arguments: argparse.Namespace) -> int:
    """Prepare a command's job and do it."""
    try:
        job = command.prepare(arguments)
    except (OSError, ValueError, ImportError) as error:
        return _complain(error, 2)
    try:
        return int(command.run(job))
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
    """Return the parser of every command."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="pyodl", description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=formatter
    )
    parser.add_argument("--version", action="version", version=f"pyodl {pyodl.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=formatter,
        )
        module.add_arguments(command)
        command.set_defaults(module=module)
    return parser
