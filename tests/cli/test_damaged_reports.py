"""A finished run whose report.json is damaged is said to be that, and not to be unfinished."""

from __future__ import annotations

import json
import shutil

import pytest
from command import binomctl

from binomctl.runs.resuming import damage
from binomctl.sweeps.folder import SweepFolder

SMALL = ("--dataset", "sinusoid", "--steps", 2, "--meta-batch", 2,
         "--set", "training.validation_tasks=2")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    for name in ("maml", "fomaml"):
        binomctl("train", *SMALL, "--estimator", name, "--out", root / name)
    return root


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "runs") / "maml"


def halved(report):
    report.write_bytes(report.read_bytes()[:100])


def without_seconds(report):
    kept = json.loads(report.read_text())
    report.write_text(json.dumps({k: v for k, v in kept.items() if k != "seconds"}))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (halved, "it is no whole JSON, from line "),
        (lambda report: report.write_bytes(b"\xff"), "it holds bytes that are no text"),
        (without_seconds, "its seconds are no number"),
        (lambda report: report.write_text("[]"), "it holds a list"),
        (lambda report: report.write_text("{}"), "it holds no best validation"),
    ],
)
def test_the_file_is_named_with_what_to_do_and_written_again(run, harm, why):
    report = run / "report.json"
    whole = json.loads(report.read_text())
    assert damage(run) == ""
    harm(report)
    told = f"{report} is damaged: {why}"
    assert damage(run).startswith(told)
    other, listed = json.loads(binomctl("runs", "ls", run.parent, "--json")[0])["runs"]
    assert other["state"] == "done"
    assert listed["state"] == "broken"
    assert listed["reason"].startswith(told)
    assert f"binomctl train --resume {run}" in " ".join(binomctl("runs", "show", run)[0].split())
    compared = binomctl("compare", run.parent, "--tasks", 2)[1]
    assert told in compared
    assert f"'binomctl train --resume {run}' writes it again" in compared
    assert "not finished" not in compared
    _, said = binomctl("train", "--resume", run)
    assert told in said
    again = json.loads(report.read_text())
    assert again["steps"] == 2
    assert again["best"] == whole["best"]
    assert damage(run) == ""


def test_a_sweep_says_so_of_its_cell(run):
    (run / "report.json").write_text("")
    cells = run.parent / "cells"
    cells.mkdir()
    shutil.copy(run / "config.yaml", cells / "maml.yaml")
    (cell,) = SweepFolder(run.parent, ["maml"]).states()
    assert cell.state == "stopped"
    assert cell.reason == "its report.json is damaged; the same sweep writes it again"


def test_a_run_that_is_not_over_has_no_damage(tmp_path):
    assert damage(tmp_path) == ""
    (tmp_path / "report.json").mkdir()
    assert "cannot be read" in damage(tmp_path)
