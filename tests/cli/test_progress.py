"""Whoever waits is told how far a command is, on a terminal and off it; stdout stays its own."""

from __future__ import annotations

import io
import json
import sys

import pytest
from command import here

import binomctl.cli.counting as counting
from binomctl.cli.counting import Counting

SMALL = ["--dataset", "sinusoid", "--steps", 2, "--meta-batch", 2,
         "--set", "training.validation_tasks=2"]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(counting, "EVERY", 0.0)


@pytest.mark.usefixtures("often")
def test_lines_off_a_terminal_say_how_much_is_left(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(counting.time, "monotonic", lambda: now[0])
    with Counting("evaluating", 600, "tasks") as bar:
        now[0] = 30.0
        bar.advance(100)
        bar.doing("runs/one (1 of 2)")
        bar.reach(50)  # never back
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "evaluating: 600 tasks",
        "evaluating: 100 of 600 tasks, about 2 min left",
        "evaluating: 100 of 600 tasks, about 2 min left; runs/one (1 of 2)",
        "evaluating: 100 of 600 tasks, about 2 min left; runs/one (1 of 2)",
    ]


def test_lines_come_at_intervals_only(capsys):
    with Counting("evaluating", 10_000, "tasks") as bar:
        for _ in range(10_000):
            bar.advance()
    assert capsys.readouterr().err.splitlines() == ["evaluating: 10000 tasks"]


def test_a_bar_on_a_terminal_fits_it_and_leaves_nothing(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    with Counting("evaluating", 3, "tasks") as bar:
        bar.advance(3)
    shown = terminal.getvalue().split("\r")
    assert any("evaluating" in one for one in shown)
    assert shown[-1].strip() == ""


@pytest.mark.usefixtures("often")
def test_every_long_command_tells_and_keeps_stdout_for_its_result(tmp_path):
    for seed in (0, 1):
        for estimator in ("maml", "fomaml"):
            done = here("train", *SMALL, "--seed", seed, "--estimator", estimator, "--json",
                        "--out", tmp_path / f"{estimator}{seed}")  # fmt: skip
            assert done.returncode == 0, done.stderr
    fast = ["--dataset", "sinusoid", "--estimators", "fomaml", "--meta-batch", 2]
    told = {
        "evaluating": ["eval", tmp_path / "maml0", "--tasks", 4],
        "comparing": ["compare", tmp_path, "--tasks", 4],
        "measuring errors": ["error-analysis", *fast, "--batches", 3],
        "profiling": ["profile", *fast, "--seconds", 0.1],
        "planning": ["profile", "--plan", *fast, "--time-budget", "60s"],
    }
    for what, args in told.items():
        done = here(*args, "--json")
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith(f"{what}: ")]
        assert len(lines) >= 2, done.stderr
        assert any("left" in line for line in lines)
        assert json.loads(done.stdout)["schema"].startswith("binomctl/")
