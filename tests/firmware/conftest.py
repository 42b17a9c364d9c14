"""One build of the firmware for all its tests; what is missing is said once for each."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for the harness

import firmware_harness as harness


def pytest_collection_modifyitems(items):
    """Keep these tests in one worker, which builds once; skip them where a tool is missing."""
    lacking = harness.missing()
    for item in items:
        if item.path.is_relative_to(harness.HERE):
            item.add_marker(pytest.mark.xdist_group("firmware"))
            if lacking:
                item.add_marker(pytest.mark.skip(reason=f"firmware under qemu: {lacking}"))


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """A function that returns the program, built with a defect if one is named."""
    programs = {}

    def program(defect=""):
        if defect not in programs:
            sound = defect and program().parent
            folder = tmp_path_factory.mktemp("firmware")
            programs[defect] = harness.build(folder, defect, sound)
        return programs[defect]

    return program
