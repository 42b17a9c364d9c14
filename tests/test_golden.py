"""pyodl against every recorded firmware bit."""

import pytest
from golden_cases import differing, results
from golden_runs import differing_in_run, run_names

from pyodl import primitives


@pytest.mark.parametrize("family, flavour", results(), ids=map("-".join, results()))
def test_has_the_firmware_bits(family, flavour):
    wrong, compared = differing(primitives, results()[family, flavour])
    assert not wrong, f"{len(wrong)} differ, {compared} compared: {wrong[:10]}"
    assert compared


@pytest.mark.parametrize("name, flavour", run_names(), ids=map("-".join, run_names()))
def test_has_the_firmware_bits_of_a_training_run(name, flavour):
    wrong, compared = differing_in_run(primitives, name, flavour)
    assert not wrong, f"{len(wrong)} differ, {compared} compared: {wrong[:10]}"
    assert compared
