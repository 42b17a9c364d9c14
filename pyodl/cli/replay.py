"""``pyodl replay``."""

import argparse
from typing import TYPE_CHECKING

from pyodl.cli._arguments import positive

if TYPE_CHECKING:
    from pyodl.golden.replay import Session

HELP = "run a recorded training session again, bit for bit"
DESCRIPTION = """\
Run a recorded training session again: the same network, inputs, targets and rates. Every recorded
loss and checkpoint must come out with the same bits; the first that does not is named.
"""
EPILOG = """\
A session is recorded from Python, from pyodl's own training or from what a device logged:
  recorder = pyodl.golden.Recorder(net); recorder.step(x, label, lr=0.02); ...
  recorder.session().save("session.npz")

example:
  pyodl replay session.npz

Exit status: 0 if all bits are the same, 1 if any differ, 2 if the input cannot be used.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("log", metavar="LOG", help="a file of Session.save")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="of this computer; no bit depends on them"
    )


def prepare(arguments: argparse.Namespace) -> "tuple[str, Session, int | None]":
    """Read the log."""
    from pyodl.golden.replay import Session

    return arguments.log, Session.load(arguments.log), arguments.threads


def run(job: "tuple[str, Session, int | None]") -> int:
    """Replay, say what was found; return the exit status."""
    from pyodl.golden.replay import replay

    path, session, threads = job
    found = replay(session, num_threads=threads)
    if found.identical:
        print(
            f"{path}: {found.steps} steps and {found.checkpoints} checkpoints, every bit the same"
        )
        return 0
    print(f"{path}: {found.difference}")
    return 1
