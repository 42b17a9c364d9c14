"""``pyodl export``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyodl.cli._arguments import MODELS, natural, positive, rate

if TYPE_CHECKING:
    from pyodl.golden import Case, StepCase

HELP = "write vectors for a firmware's tests"
DESCRIPTION = """\
Write the inputs and the outputs of a primitive, or of training steps of a network, as the device
has them to the bit: vectors.npz with manifest.json, and C headers with pyodl_check.h, which
compares on the device.
"""
EPILOG = """\
what to export:
  matmul matvec                    --in NxKxM, --in NxK
  conv2d                           --step forward, weight_grad, bias_grad, input_grad; --in CxHxW
  depthwise pointwise              --step forward, weight_grad, input_grad; --in CxHxW
  linear                           the steps of conv2d; --in IN --out-channels OUT
  avg_pool max_pool                --step forward, backward; --in CxHxW
  relu leaky_relu sigmoid          --step forward, backward; --in of any shape
  softmax                          --step forward, backward; --in N or ROWSxN
  instance_norm                    --step forward, input_grad, param_grad; --in CxHxW
  cross_entropy mse l1 berhu       --step grad for the gradient
  add sgd im2row im2col block_transpose pad transpose chw_to_hwc hwc_to_chw
  step MODEL                       training steps of resnet8, ds_cnn, tiny_cnn or a saved network

examples:
  pyodl export conv2d --step weight_grad --in 16x32x32 --out-channels 16 --kernel-size 3 \\
      --padding 1 --matmul simd_4x8 --cores 8 --arithmetic fp16-fma --seed 7 -o vectors
  pyodl export matmul --in 8x27x16 --transpose-b --matmul simd_2x4 --data leftovers -o vectors
  pyodl export step resnet8 --steps 3 -o vectors
  pyodl export step net.npz --freeze stem_conv -o vectors      a network of train --save

A directory of vectors that is there is replaced, anything else only with --force.
"""

_STEP_ONLY = ("steps", "loss", "freeze")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("what", metavar="WHAT", help="a primitive, or: step")
    add(
        "model",
        nargs="?",
        metavar="MODEL",
        help=f"after step: {', '.join(MODELS)}, or a file of train --save",
    )
    add("-o", "--output", required=True, metavar="DIR", help="where to write")
    add("--step", metavar="NAME", help="of the primitive (default: forward, where there is one)")
    add("--in", dest="size", type=_size, metavar="SIZE", help="of the input, such as 16x32x32")
    add("--out-channels", type=positive, metavar="N", help="or outputs of a linear layer")
    add("--kernel-size", type=_integers, metavar="K", help="one, or height and width: 3 or 10,4")
    add("--stride", type=_integers, metavar="S", help="one, or vertical and horizontal")
    add("--padding", type=_integers, metavar="P", help="one, or up,down,left,right")
    add("--layout", metavar="NAME", help="CHW (default) or HWC")
    add("--algorithm", metavar="NAME", help="im2row (default) or direct")
    add("--matmul", dest="kernel", metavar="KERNEL", help="naive (default), simd_4x8, ...")
    add("--transpose-b", action="store_const", const=True, help="B is stored transposed")
    add("--bias", action="store_true", help="add a bias")
    add("--slope", type=float, metavar="X", help="of leaky_relu")
    add("--alpha", type=float, metavar="X", help="of berhu")
    add("--exp", metavar="NAME", help="of softmax: expf (default) or fast")
    add("--axes", type=_integers, metavar="A,B,...", help="of transpose")
    add("--lr", type=rate, metavar="RATE", help="of sgd and step")
    add("--weight-decay", type=rate, metavar="RATE", help="of sgd and step")
    add("--loss", metavar="NAME", help="of step (default: cross_entropy)")
    add("--freeze", nargs="+", metavar="LAYER", help="of step: layers not to train")
    add("--steps", type=positive, metavar="N", help="of step (default: 1)")
    add("--cores", type=positive, metavar="N", help="of the device (default: 8)")
    add("--arithmetic", metavar="NAME", help="default: fp16-fp32acc, or the network's")
    add("--seed", type=natural, metavar="N", help="of the inputs (default: 0)")
    add(
        "--data",
        metavar="NAME",
        help="normal (default), subnormals, overflow, signed-zeros, nan-inf, ties, leftovers, or "
        "hard, which mixes them",
    )
    add("--prefix", metavar="NAME", help="of C names (default: the primitive's or the model's)")
    add("--no-headers", action="store_true", help="write no C")
    add("--force", action="store_true", help="replace a directory that holds other files")


def prepare(arguments: argparse.Namespace) -> Any:
    """Run the case; return what is to be written, and where."""
    from pyodl import golden
    from pyodl.golden.export import check_prefix, check_target

    check_prefix(arguments.prefix)
    check_target(arguments.output, force=arguments.force)
    if arguments.what == "step":
        return arguments, golden.vectors_of(*_steps(arguments))
    return arguments, golden.vectors_of(_case(arguments))


def run(job: Any) -> int:
    """Write the directory; return the exit status."""
    from pyodl import golden

    arguments, vectors = job
    golden.write(
        arguments.output,
        vectors,
        c_headers=not arguments.no_headers,
        prefix=arguments.prefix,
        force=arguments.force,
    )
    computed = sum(tensor.role == "output" for tensor in vectors.tensors.values())
    print(f"{arguments.output}: {len(vectors.tensors)} tensors, {computed} of them computed")
    return 0


def _given(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of these names that were given."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


_PARAMETERS = (
    *("kernel_size", "stride", "padding", "layout", "algorithm", "kernel", "transpose_b"),
    *("slope", "alpha", "exp", "axes", "lr", "weight_decay"),
)
_COMMON = ("arithmetic", "cores", "seed", "data")


def _steps(arguments: argparse.Namespace) -> "tuple[StepCase, dict[str, Any]]":
    """Return the training steps that the arguments describe, and their inputs."""
    from pyodl import Network, golden

    if arguments.model is None:
        raise ValueError(f"step needs a model: {', '.join(MODELS)}, or a file of train --save")
    own = ("steps", "loss", "lr", "weight_decay", "kernel")
    others = (*(name for name in _PARAMETERS if name not in own), "step", "size", "out_channels")
    for name in _given(arguments, others):
        raise ValueError(f"training steps take no {_option(name)}")
    if arguments.bias:
        raise ValueError("training steps take no --bias")
    fields = _given(arguments, own + _COMMON)
    if arguments.freeze is not None:
        fields["frozen"] = tuple(arguments.freeze)
    if arguments.model in MODELS or not Path(arguments.model).exists():
        case = golden.StepCase(arguments.model, **fields)
        return case, case.inputs()
    net = Network.load(arguments.model)
    case = golden.StepCase.of(net, **fields)
    return case, case.inputs(net.parameters())


def _case(arguments: argparse.Namespace) -> "Case":
    """Return the call that the arguments describe."""
    from pyodl import golden, primitives

    if arguments.model is not None:
        raise ValueError(f"{arguments.what} takes no {arguments.model!r}; only step takes a model")
    for name in _given(arguments, _STEP_ONLY):
        raise ValueError(f"{arguments.what} takes no {_option(name)}; only step does")
    name = _primitive(arguments.what, arguments.step, tuple(primitives.__all__))
    if arguments.size is None:
        raise ValueError(f"{name} needs --in, the size of the input, such as 16x32x32")
    return golden.case_of(
        name,
        arguments.size,
        out_channels=arguments.out_channels,
        bias=arguments.bias,
        **_given(arguments, _COMMON + _PARAMETERS),
    )


def _primitive(what: str, step: str | None, names: tuple[str, ...]) -> str:
    """Return the function for a primitive and a step of it."""
    from pyodl.golden import family_and_step

    steps: dict[str, list[str]] = {}
    for name in names:
        family, own = family_and_step(name)
        steps.setdefault(family, []).append(own)
    if what in names and step is None:
        return what
    if what not in steps:
        known = ", ".join(sorted(steps))
        raise ValueError(f"there is no primitive {what!r}; it may be step, {known}")
    chosen = step if step is not None else "forward"
    if chosen not in steps[what]:
        allowed = ", ".join(own for own in steps[what] if own) or "none"
        raise ValueError(f"{what} has no step {chosen!r}; it may be {allowed}")
    return f"{what}_{chosen}"


def _option(name: str) -> str:
    """Return an option as it is typed."""
    special = {"size": "--in", "kernel": "--matmul"}
    return special.get(name, "--" + name.replace("_", "-"))


def _size(text: str) -> tuple[int, ...]:
    """Read "16x32x32"."""
    return tuple(positive(part) for part in text.lower().split("x"))


def _integers(text: str) -> int | tuple[int, ...]:
    """Read "3" or "10,4"."""
    values = tuple(natural(part) for part in text.split(","))
    return values[0] if len(values) == 1 else values
