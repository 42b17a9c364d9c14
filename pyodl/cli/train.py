"""``pyodl train``."""

import argparse
from typing import Any

from pyodl.cli._arguments import MODELS, natural, positive, rate

HELP = "train a network as the device would"
DESCRIPTION = """\
Train a network from its initial weights, bit for bit as the device would, and measure it on
images held out. By default the same network is trained in FP32 beside it, from the same numbers
and in the same order, so that the difference is what the arithmetic costs.
"""
EPILOG = """\
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("model", choices=MODELS, metavar="MODEL", help=", ".join(MODELS))
    add("--data", metavar="NAME", help="what to train on, see below")
    add("--epochs", type=positive, metavar="N", help="passes over the data (default: the model's)")
    add(
        "--lr",
        type=rate,
        metavar="RATE",
        help="initial learning rate, which falls towards 0 (default: the model's)",
    )
    add(
        "--arithmetic",
        metavar="NAME",
        help="fp16-fp32acc (default), fp16-fma, fp16-muladd, bf16-fp32acc, bf16-fma or fp32",
    )
    add(
        "--device",
        metavar="NAME",
        help="train for this device (pulp-open, vega, single-core or a .toml file), and warn of "
        "what its firmware is known to get wrong (default: pulp-open, without warnings)",
    )
    add("--cores", type=positive, metavar="N", help="cores of the device (default: the device's)")
    add(
        "--threads",
        type=positive,
        metavar="N",
        help="threads of this computer (default: 1 for each network); no bit depends on them",
    )
    add("--seed", type=natural, metavar="N", help="of weights and orders (default: 0)")
    add("--freeze", nargs="+", default=[], metavar="LAYER", help="layers not to train")
    add("--plan", metavar="FILE", help="use the kernels that pyodl tune --save chose")
    add("--save", metavar="FILE", help="write the network here after each epoch (.npz)")
    add(
        "--resume", metavar="FILE", help="go on with a network that --save wrote; implies --no-fp32"
    )
    add("--plot", metavar="FILE", help="draw the learning curves here (.png, .svg or .pdf)")
    add("--json", metavar="FILE", help="write the results here")
    add("--no-fp32", action="store_true", help="do not train in FP32 beside it")


def prepare(arguments: argparse.Namespace) -> Any:
    """Check the arguments and return the job."""
    from pyodl.cli import _train_job

    return _train_job.prepare(arguments)


def run(job: Any) -> int:
    """Train; return the exit status."""
    from pyodl.cli import _train_job

    return _train_job.run(job)
