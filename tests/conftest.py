"""Reproducible property tests: the same examples on every run, however slow the machine."""

import os
import pathlib
import sys
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for the helper modules next to the tests

# Host threads that spin while they wait take the processor from the other test workers: measured,
# twenty times the time. Read when OpenMP is loaded, so before pyodl is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("repeatable")  # --hypothesis-profile=explore looks further


@contextmanager
def sharing_everything():
    """Small operations run on one thread, whatever is asked for, unless they are told not to."""
    from pyodl._kernels import set_parallel_work

    old = set_parallel_work(0)
    try:
        yield
    finally:
        set_parallel_work(old)


@pytest.fixture(scope="module")
def every_operation_is_shared():
    """For all tests of a file."""
    with sharing_everything():
        yield


@pytest.fixture
def threads_for_everything():
    """For one test."""
    with sharing_everything():
        yield


@pytest.fixture
def outputs_of(monkeypatch):
    """-> function of a module, kernel and place: the outputs there of what it binds from now on."""

    def collect(module, kernel, place):
        found, bind = [], module.bind

        def remember(name, inputs, outputs, *args, **keywords):
            if name == kernel:
                found.append(outputs[place])
            return bind(name, inputs, outputs, *args, **keywords)

        monkeypatch.setattr(module, "bind", remember)
        return found

    return collect


def pytest_report_header():
    """Say what is tested: which package, which build of it, on how many processors."""
    import pyodl
    from pyodl import _kernels

    openmp = "OpenMP" if _kernels.has_openmp() else "no OpenMP"
    return [
        f"pyodl: {pathlib.Path(pyodl.__file__).parent}",
        f"kernels: {_kernels.ISA} of {', '.join(_kernels.available_isas())}; {openmp}",
    ]
