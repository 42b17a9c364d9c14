"""``pyodl profile``."""

import argparse
from typing import Any

from pyodl.cli._arguments import MODELS

HELP = "predict cycles and memory of a training step on a device"
DESCRIPTION = """\
Predict what one training step costs on a device, by layer and step: cycles from the loop nests of
the kernels, tiles that fit L1, bytes that the DMA moves, and what FP16 gains over FP32. Nothing is
run; docs/device.md says what the predictions were checked against.
"""
EPILOG = """\
devices: pulp-open (default), vega, single-core, or a TOML file such as

  base = "pulp-open"
  name = "mine"
  cores = 4
  l1_bytes = 32768

examples:
  pyodl profile resnet8 --plot roofline.png
  pyodl profile net.npz --device mine.toml --json profile.json
  pyodl profile ds_cnn --arithmetic fp16-fp32acc --kernel simd_4x8
"""


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare what is profiled and on which device."""
    add = parser.add_argument
    add("network", metavar="MODEL|FILE.npz", help=f"{', '.join(MODELS)}, or what train saved")
    add(
        "--device",
        metavar="NAME|FILE",
        help="a preset or a TOML file (default: pulp-open, or a saved network's)",
    )
    add(
        "--arithmetic",
        metavar="NAME",
        help="default: fp16-fma, the SIMD kernels' own, or a saved network's",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_target(parser)
    add = parser.add_argument
    add(
        "--kernel",
        default="auto",
        metavar="NAME",
        help="a matmul kernel for all steps (default: auto, the fastest for each)",
    )
    add("--plot", metavar="FILE", help="draw the roofline here (.png, .svg or .pdf)")
    add("--json", metavar="FILE", help="write the results here")


def prepare(arguments: argparse.Namespace) -> Any:
    """Check the arguments, and predict."""
    from pyodl.cli import _device_report

    return _device_report.prepare_profile(arguments)


def run(job: Any) -> int:
    """Report; return the exit status."""
    from pyodl.cli import _device_report

    return _device_report.run_profile(job)
