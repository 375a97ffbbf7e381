"""Runs and meta-gradients against their recorded bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from golden.cases import CASES, fingerprint, machine

RECORDED = json.loads(Path(__file__).with_name("golden.json").read_text())


pytestmark = pytest.mark.usefixtures("one_op_thread")


def test_nothing_is_recorded_that_is_not_run():
    assert list(RECORDED["cases"]) == list(CASES)
    assert len(CASES) == 38


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_the_record(name):
    """Bitwise on the machine that recorded them; elsewhere as close as float32 sums come."""
    found, wanted = fingerprint(CASES[name]()), RECORDED["cases"][name]
    assert found["norm"] == pytest.approx(wanted["norm"], rel=1e-4)
    assert found["entries"] == pytest.approx(wanted["entries"], rel=1e-3, abs=1e-4)
    if machine() == RECORDED["machine"]:
        assert found == wanted
