"""How far a sweep is, in one line and a table."""

from __future__ import annotations

import json

import pytest
from command import binomctl
from rich.console import Console

from binomctl.cli.sweep_table import summary, sweep_table
from binomctl.sweeps.folder import CellState, SweepFolder, share_done
from binomctl.sweeps.grid import read_grid

GRID = "common: {dataset.name: sinusoid, training.steps: 40}\nmethods: [{estimator.name: maml}]\n"


def cell(name, state, step, seconds, left=None, reason="", value=None):
    return CellState(name, state, step, 100, seconds, left, "mse", "number", value, reason)


STATES = [
    cell("one", "done", 60, 60.0, 0.0, value=1.5),  # stopped early: it is whole
    cell("two", "running", 50, 100.0, 100.0, value=2.5),
    cell("three", "failed", 0, 0.0, reason="killed"),
    cell("four", "waiting", 0, 0.0),
]


def test_the_summary_counts_cells_and_steps_and_says_the_time_left():
    said = "4 cells: 1 done, 1 running, 1 failed, 1 waiting; 38% of all steps"
    assert share_done(STATES) == 150 / 400
    # The running one's 100 s, and twice 100 steps of 2 s.
    assert summary(STATES, 1) == f"{said}, about 8 min left"
    assert summary(STATES, 2) == f"{said}, about 4 min left"
    assert summary(STATES[:1], 1) == "1 cell: 1 done; 100% of all steps"


@pytest.mark.parametrize("width", [60, 120])
def test_the_table_fits_and_says_the_steps_of_what_runs(width):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(*sweep_table(STATES, 2, width), sep="\n")
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert "about 4 min left" in text
    assert text.count("━") - text.count("─") <= 30
    assert ("50/100" if width == 120 else "running 50/100") in text
    assert "failed: killed" in text


def test_a_sweep_that_has_not_begun_has_no_share_and_no_time(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    folder = tmp_path / "sweep"
    SweepFolder.create(folder, read_grid(tmp_path / "grid.yaml"))
    report = json.loads(binomctl("sweep", "status", folder, "--json")[0])
    assert report["share_done"] == 0
    assert report["seconds_left"] is None
    out, _ = binomctl("sweep", "status", folder)
    assert out.startswith("1 cell: 1 waiting; 0% of all steps\n")
