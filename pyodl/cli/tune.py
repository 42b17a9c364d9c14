"""``pyodl tune``."""

import argparse
from typing import Any

from pyodl.cli._arguments import positive
from pyodl.cli.profile import add_target

HELP = "choose kernels and tiles for a device by predicted cycles"
DESCRIPTION = """\
Choose the matmul kernel and the tile of every layer and step that take the fewest predicted cycles,
trying all of them. Only kernels that leave the bits of the network as they are come into question,
unless --any-bits is given; then it says which steps change theirs.
"""
EPILOG = """\
examples:
  pyodl tune resnet8 --save plan.json
  pyodl tune resnet8 --any-bits --save plan.json && pyodl train resnet8 --plan plan.json
  pyodl tune net.npz --device mine.toml --jobs 4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_target(parser)
    add = parser.add_argument
    add("--any-bits", action="store_true", help="also try kernels that change bits")
    add("--jobs", type=positive, default=1, metavar="N", help="processes (default: 1)")
    add("--save", metavar="FILE", help="write the choices here (JSON), for train --plan")


def prepare(arguments: argparse.Namespace) -> Any:
    """Check the arguments, and search."""
    from pyodl.cli import _device_report

    return _device_report.prepare_tuning(arguments)


def run(job: Any) -> int:
    """Report; return the exit status."""
    from pyodl.cli import _device_report

    return _device_report.run_tuning(job)
