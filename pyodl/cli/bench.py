"""``pyodl bench``."""

import argparse
from typing import Any

from pyodl.cli._arguments import MODELS, positive

HELP = "time training steps"
DESCRIPTION = """\
Time training steps: how long one takes, how many multiply-accumulates a second that is, which share
of what the processor can do at best, and which share of the time is Python's. Or time them beside
PyTorch's steps in FP32 on the same network, in turns and on as many threads.
"""
EPILOG = """\
examples:
  pyodl bench --profile                    and where the time goes, layer by layer
  pyodl bench --against torch --threads 2
  pyodl bench --models resnet8 --arithmetic fp16-fma --json result.json

PyTorch is no dependency: pip install torch. Figures mean little on a busy machine.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--against", choices=("torch",), metavar="PEER", help="compare with: torch")
    add(
        "--models",
        nargs="+",
        choices=MODELS,
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
    add("--threads", type=positive, default=1, metavar="N", help="of this computer (default: 1)")
    add("--steps", type=positive, default=40, metavar="N", help="steps to time (default: 40)")
    add("--profile", action="store_true", help="also time every layer and step by itself")
    add("--json", metavar="FILE", help="write the results here")


def prepare(arguments: argparse.Namespace) -> Any:
    """Check the arguments and return the job."""
    from pyodl.cli import _bench_report

    return _bench_report.prepare(arguments)


def run(job: Any) -> int:
    """Time and report; return the exit status."""
    from pyodl.cli import _bench_report

    return _bench_report.run(job)
