"""Runs that go on, stop early, or are asked for again: what they compute with, what they keep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from command import binomctl, here

from binomctl.problem import amp
from binomctl.problem.build import build_problem
from binomctl.runs import RunDirectory
from binomctl.settings.layers import load_config
from binomctl.training.evaluate import Trained, evaluate
from binomctl.training.state import constants, restore

GLYPHS = ["train", "--meta-batch", 2, "--K", 2, "--ways", 3, "--set", "dataset.image_size=16",
          "--set", "model.filters=2", "--set", "training.validation_tasks=2", "--set",
          "training.validate_every=2", "--set", "dataset.queries=2"]  # fmt: skip
SINUSOID = ["train", "--dataset", "sinusoid", "--meta-batch", 2, "--set",
            "training.validation_tasks=2", "--set", "training.validate_every=2"]  # fmt: skip


def weights(run):
    return RunDirectory.open(run).checkpoints.load("last").model


def test_frozen_statistics_are_those_that_the_run_began_with(tmp_path):
    """They were measured at weights from a file, which a run that goes on does not read again."""
    binomctl(*GLYPHS, "--steps", 2, "--out", "other", "--seed", 5)
    frozen = [*GLYPHS, "--init", "other", "--set", "adaptation.statistics=frozen", "--alpha", 1e-3]
    binomctl(*frozen, "--steps", 4, "--out", "whole")
    binomctl(*frozen, "--steps", 2, "--out", "half")
    binomctl("train", "--resume", "half", "--steps", 4, "--allow-change", "training.steps")
    for name, tensor in weights(Path("whole")).items():
        assert torch.equal(tensor, weights(Path("half"))[name]), name
    binomctl("verify", "whole")


def test_a_sum_per_shot_is_by_the_shots_that_are_evaluated():
    """One that trained on one shot takes at four the steps that a four-shot run takes."""
    per_shot = ["--set", "adaptation.loss_reduction=sum_per_shot"]
    binomctl(*GLYPHS, *per_shot, "--steps", 2, "--out", "one")
    checkpoint = RunDirectory.open(Path("one")).checkpoints.load("best")
    config, _ = load_config(overrides={
        "dataset.name": "glyphs", "dataset.image_size": 16, "dataset.ways": 3, "dataset.shots": 4,
        "dataset.queries": 2, "model.filters": 2, "training.meta_batch": 2, "adaptation.K": 2,
        "adaptation.loss_reduction": "sum_per_shot",
    })  # fmt: skip
    problem = build_problem(config, constants(checkpoint))
    right = list(evaluate(problem, [Trained(*restore(problem, checkpoint))], problem.dataset,
                          "test", 6, 2))  # fmt: skip
    out, _ = binomctl("eval", "one", "--shots", 4, "--tasks", 6, "--adaptation-steps", 2,
                      "--log-tasks", "scores.csv", "--queries", 2, "--json")  # fmt: skip
    assert json.loads(out)["mean"] == pytest.approx(sum(right) / 6, abs=1e-6)


def test_bfloat16_is_timed_where_a_training_starts_and_nowhere_else(monkeypatch, tmp_path):
    monkeypatch.setattr(amp, "compared", lambda *args: (2e-3, 1e-3, 0.01))
    binomctl(*GLYPHS, "--steps", 2, "--amp", "bf16", "--out", "low")

    def refuses(*args):
        raise AssertionError("timed again")

    monkeypatch.setattr(amp, "compared", refuses)
    binomctl("train", "--resume", "low", "--steps", 3, "--allow-change", "training.steps")
    binomctl("eval", "low", "--tasks", 2)
    binomctl("error-analysis", "--run", "low", "--estimators", "fomaml", "--batches", 1)


def test_patience_ends_with_a_last_checkpoint():
    binomctl(*SINUSOID, "--steps", 40, "--out", "run", "--alpha", 0.001, "--set",
             "training.patience=2", "--set", "training.meta_lr=1e-12", "--set",
             "training.checkpoint_every=30")  # fmt: skip
    report = json.loads(Path("run/report.json").read_text())
    assert report["stopped_early"]
    assert RunDirectory.open(Path("run")).checkpoints.load("last").step == report["steps"]


def test_a_run_without_a_finite_validation_says_so_again():
    binomctl(*SINUSOID, "--steps", 2, "--out", "run")
    file = Path("run/report.json")
    report = json.loads(file.read_text())
    report["best"]["value"] = None
    file.write_text(json.dumps(report))
    done = here("train", "--resume", "run")
    assert done.returncode == 5
    assert "no validation gave a finite mse" in done.stderr


def test_a_resume_that_is_refused_for_its_data_keeps_the_report(monkeypatch):
    binomctl(*SINUSOID, "--steps", 2, "--out", "run")
    before = Path("run/report.json").read_bytes()
    monkeypatch.setattr("binomctl.training.opening.fingerprint", lambda *_: "another")
    done = here("train", "--resume", "run", "--steps", 3, "--allow-change", "training.steps")
    assert done.returncode == 4
    assert "the data are not those" in done.stderr
    assert Path("run/report.json").read_bytes() == before


def test_a_run_goes_on_with_other_tasks_where_that_was_agreed_to():
    binomctl(*GLYPHS, "--steps", 2, "--out", "run")
    more = ["train", "--resume", "run", "--shots", 2, "--steps", 3]
    done = here(*more, "--allow-change", "training.steps")
    assert done.returncode == 4
    assert "dataset.shots" in done.stderr
    binomctl(*more, "--allow-change", "training.steps", "--allow-change", "dataset.shots")
    assert RunDirectory.open(Path("run")).config().dataset.options["shots"] == 2
    again = [*more[:-1], 4, "--allow-change", "training.steps"]  # these are its data from now on
    binomctl(*again)


def test_a_run_that_was_killed_while_it_was_made_is_made_again():
    binomctl(*SINUSOID, "--steps", 2, "--out", "run")
    for name in ("config.yaml", "report.json", "metrics.jsonl", "environment.json"):
        Path("run", name).unlink()
    shutil.rmtree("run/checkpoints")
    binomctl(*SINUSOID, "--steps", 2, "--out", "run", "--resume", "auto")
    assert Path("run/report.json").exists()


def test_a_run_killed_between_the_two_files_of_a_change_goes_on():
    binomctl(*SINUSOID, "--steps", 2, "--out", "run")
    before = Path("run/config.yaml").read_bytes()
    binomctl("train", "--resume", "run", "--steps", 3, "--allow-change", "training.steps")
    Path("run/config.yaml").write_bytes(before)  # as if run.json had been written alone
    Path("run/report.json").unlink()
    binomctl("train", "--resume", "run", "--steps", 4, "--allow-change", "training.steps")
    assert json.loads(Path("run/report.json").read_text())["steps"] == 4


def test_a_tracker_is_named_once():
    done = here(*SINUSOID, "--steps", 2, "--tracker", "wandb", "--tracker", "wandb", "--out", "run")
    assert done.returncode == 2
    assert "tracker 'wandb' is named twice" in done.stderr
