"""``pyodl info``."""

import argparse

import pyodl

HELP = "what this installation can do"
DESCRIPTION = "Print the version, the kernels in use, threads and arithmetics."
EPILOG = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options."""


def prepare(arguments: argparse.Namespace) -> None:
    """Check nothing."""


def run(_: None) -> int:
    """Print what there is; return the exit status."""
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
