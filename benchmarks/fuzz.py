"""Many inputs at the doors, and what came of them.

    python benchmarks/fuzz.py [INPUTS PER DOOR]

Runs tests/fuzz with so many inputs, drawn anew, and writes benchmarks/results/fuzz.json: inputs
tried and the findings, door by door.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/fuzz.json"


class Kept:
    """A pytest plugin that keeps how each door stood."""

    def __init__(self) -> None:
        self.doors: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call":
            finding = "" if report.passed else str(report.longrepr)[-2000:]
            self.doors.append(
                {"door": report.nodeid.rpartition("::")[2], "inputs": INPUTS,
                 "seconds": round(report.duration, 1), "finding": finding}
            )  # fmt: skip


INPUTS = int(sys.argv[1]) if len(sys.argv) > 1 else 5000

if __name__ == "__main__":
    os.environ["BINOMCTL_FUZZ"] = str(INPUTS)
    from binomctl.machine.environment import environment

    kept = Kept()
    pytest.main(["-q", str(ROOT / "tests/fuzz"), "-p", "no:xdist"], plugins=[kept])
    report = {"schema": "binomctl/fuzz/1", "environment": environment(), "doors": kept.doors}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
