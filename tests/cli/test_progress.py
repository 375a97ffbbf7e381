"""Whoever waits is told how far a command is, on a terminal and off it; stdout stays its own."""

from __future__ import annotations

import io
import json
import sys
from contextlib import closing

import pytest
from command import here

import binomctl.cli.bar as bar
import binomctl.cli.counting as counting
from binomctl.cli.console import print_note, print_table
from binomctl.cli.counting import Counting
from binomctl.cli.progress import Progress
from binomctl.metric import Metric
from binomctl.reporting.intervals import MeanCI
from binomctl.training.loop import Step

SMALL = ["--dataset", "sinusoid", "--steps", 2, "--meta-batch", 2,
         "--set", "training.validation_tasks=2"]  # fmt: skip


GRID = """common: {dataset.name: sinusoid}
methods: [{estimator.name: maml}, {estimator.name: fomaml}]
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(counting, "EVERY", 0.0)


@pytest.mark.usefixtures("often")
def test_lines_off_a_terminal_say_how_much_is_left(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(bar.time, "monotonic", lambda: now[0])
    with Counting("evaluating", 600, "tasks") as counted:
        now[0] = 30.0
        counted.advance(100)
        counted.doing("runs/one (1 of 2)")
        counted.reach(50)  # never back
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "evaluating: 600 tasks",
        "evaluating: 100 of 600 tasks, about 2 min left",
        "evaluating: 100 of 600 tasks, about 2 min left; runs/one (1 of 2)",
        "evaluating: 100 of 600 tasks, about 2 min left; runs/one (1 of 2)",
    ]


def test_lines_come_at_intervals_only(capsys):
    with Counting("evaluating", 10_000, "tasks") as counted:
        for _ in range(10_000):
            counted.advance()
    assert capsys.readouterr().err.splitlines() == ["evaluating: 10000 tasks"]


def test_a_bar_on_a_terminal_fits_it_and_leaves_nothing(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    with Counting("evaluating", 3, "tasks") as counted:
        counted.advance(3)
    shown = terminal.getvalue().split("\r")
    assert any("evaluating" in one for one in shown)
    assert shown[-1].strip() == ""


@pytest.mark.usefixtures("often", "memory_known")
def test_every_long_command_tells_and_keeps_stdout_for_its_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where --certify writes what it finds
    for seed in (0, 1):
        for estimator in ("maml", "fomaml"):
            done = here("train", *SMALL, "--seed", seed, "--estimator", estimator, "--json",
                        "--out", tmp_path / f"{estimator}{seed}")  # fmt: skip
            assert done.returncode == 0, done.stderr
    fast = ["--dataset", "sinusoid", "--estimators", "fomaml", "--meta-batch", 2]
    (tmp_path / "grid.yaml").write_text(GRID)
    told = {
        "evaluating": ["eval", tmp_path / "maml0", "--tasks", 4],
        "comparing": ["compare", tmp_path, "--tasks", 4],
        "measuring errors": ["error-analysis", *fast, "--batches", 3],
        "profiling": ["profile", *fast, "--seconds", 0.1],
        "planning": ["profile", "--plan", *fast, "--time-budget", "60s"],
        "trying": ["train", *SMALL, "--dry-run"],
        "making steps 1 to 2 again": ["verify", tmp_path / "maml0", "--replay", 4],
        "searching": ["bounds", "--K", 3, "--theorem", "3.8", "--certify", "--force"],
        "checking": ["sweep", "grid.yaml", "--dry-run"],
    }
    for what, args in told.items():
        done = here(*args, "--json")
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith(f"{what}: ")]
        assert len(lines) >= 2, done.stderr
        assert any("left" in line for line in lines)
        assert json.loads(done.stdout)["schema"].startswith("binomctl/")


def screen_of(monkeypatch):
    """In the test itself: pytest sets stderr anew after a fixture."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("COLUMNS", "60")
    return made


def test_a_narrow_bar_keeps_its_numbers_and_the_metric(monkeypatch):
    screen = screen_of(monkeypatch)
    step = Step(10_001, 1.0, 0.525)
    with closing(Progress(60_000, Metric("accuracy", "share", True), 10_000)) as progress:
        progress.on_step(step, 1.0)
        progress.on_validation(10_001, MeanCI(0.702, 0.028, 50), True)
    drawn = [one for one in screen.getvalue().replace("\n", "\r").split("\r") if "10001/" in one]
    assert all(len(one) <= 60 for one in drawn)
    assert "10001/60000" in drawn[-1]
    assert "left, accuracy 52.5%" in drawn[-1]
    said = "step 10001: validation accuracy 70.2% (95% CI 67.4% to\n73.0%, n = 50), best so far\n"
    assert f" \r{said}" in screen.getvalue(), "the bar is wiped away before"


def test_a_note_stands_above_a_bar_and_breaks_between_words(monkeypatch):
    screen = screen_of(monkeypatch)
    with Counting("measuring", 4, "batches"):
        print_note("a sentence that is longer than a line of sixty columns and goes on behind it")
    said = "a sentence that is longer than a line of sixty columns and\ngoes on behind it\n"
    assert f" \r{said}" in screen.getvalue(), "the bar is wiped away before"
    print_note(f"wrote {'x' * 80}")
    assert screen.getvalue().endswith(f"wrote\n{'x' * 80}\n"), "a path is one word"


def test_a_title_is_broken_by_the_terminal_and_not_by_a_short_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    title = "a title of [many] words, wider than what stands under it"
    print_table(title, [("a", "b"), ("next", "binomctl eval short")])
    print_table("run", [("run", "here"), ("next", f"binomctl eval {'long' * 12}")])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == title
    assert "  next   binomctl eval short" in lines
    assert lines[-1] == f"next: binomctl eval {'long' * 12}", "a command can be copied"
