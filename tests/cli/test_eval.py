"""`binomctl eval` on tasks that a run was not trained on."""

from __future__ import annotations

import csv
import json

import layouts
import numpy as np
import pytest
import torch
from command import binomctl
from PIL import Image

import binomctl as package
from binomctl.problem.datasets import build_dataset, evaluation_dataset
from binomctl.runs import RunDirectory

QUICK = ["--steps", 4, "--meta-batch", 2, "--K", 2, "--set", "training.validate_every=2", "--set",
         "training.validation_tasks=2", "--set", "model.filters=4", "--set",
         "dataset.image_size=16", "--set", "dtype=float64"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    binomctl("train", *QUICK, "--out", path)
    return path


def test_every_combination_in_one_call(run, tmp_path):
    out, _ = binomctl("eval", run, "--ways", "5,7", "--shots", "1,3", "--queries", 5, "--tasks", 6,
                      "--json", "--log-tasks", tmp_path / "tasks.csv")  # fmt: skip
    results = json.loads(out)["results"]
    assert [(r["ways"], r["shots"]) for r in results] == [(5, 1), (5, 3), (7, 1), (7, 3)]
    rows = list(csv.DictReader((tmp_path / "tasks.csv").read_text().splitlines()))
    assert len(rows) == 24
    for result in results:
        own = [r for r in rows if (r["ways"], r["shots"]) == (
            str(result["ways"]), str(result["shots"]))]  # fmt: skip
        assert np.mean([float(r["score"]) for r in own]) == pytest.approx(result["mean"])
    alone = json.loads(binomctl("eval", run, "--queries", 5, "--tasks", 6, "--json")[0])
    assert alone["mean"] == results[0]["mean"]
    table, _ = binomctl("eval", run, "--ways", "5,7", "--steps", "1,2", "--tasks", 6)
    for word in ("ways", "steps", "accuracy", "shots 1"):
        assert word in table
    again = json.loads(
        binomctl("eval", run, "--ways", 7, "--shots", 3, "--queries", 5, "--tasks", 6, "--json")[0]
    )
    assert again["mean"] == results[3]["mean"]


def test_other_ways_and_shots_are_what_adapting_by_hand_gives(run):
    asked = ("--ways", 7, "--shots", 2, "--queries", 5, "--steps", 3, "--tasks", 5)
    out, _ = binomctl("eval", run, *asked, "--json")
    learner = package.load(run)
    config = learner.config.model_copy(
        update={
            "dataset": type(learner.config.dataset).model_validate(
                {**learner.config.dataset.model_dump(), "ways": 7}
            ),
            "evaluation": learner.config.evaluation.model_copy(update={"shots": 2, "queries": 5}),
        }
    )
    data = evaluation_dataset(config, build_dataset(config), 0)
    scores = []
    for i in range(5):
        e = data.episode("test", i)
        answer = learner.adapt(e.x_trn, e.y_trn, steps=3).predict(e.x_val)
        scores.append(float((answer.argmax(-1) == e.y_val).double().mean()))
    assert json.loads(out)["mean"] == pytest.approx(np.mean(scores), abs=1e-12)


def test_another_data_set_at_the_network_s_size(run, tmp_path):
    layouts.split_noise(tmp_path / "data", 5, 4, (24, 20, 3))
    elsewhere = ("--dataset", "image-folder", "--root", tmp_path / "data", "--queries", 2)
    # Queries of meta-training are the run's own 11: those of the data set count, too.
    out, _ = binomctl("eval", run, *elsewhere, "--set", "dataset.queries=2", "--tasks", 3, "--json",
                      "--log-tasks", tmp_path / "tasks.csv")  # fmt: skip
    result = json.loads(out)
    rows = list(csv.DictReader((tmp_path / "tasks.csv").read_text().splitlines()))
    assert {name for r in rows for name in r["classes"].split(" | ")} <= {
        f"test{c}" for c in range(5)
    }
    assert all(len(set(r["classes"].split(" | "))) == 5 for r in rows)
    assert (result["dataset"], result["ways"], result["queries"]) == ("image-folder", 5, 2)
    colour = ("--set", "dataset.queries=2", "--set", "dataset.mode=RGB")
    _, err = binomctl("eval", run, *elsewhere, *colour, "--tasks", 3, code=2)
    assert "takes examples of [1, 16, 16], 'image-folder' has [3, 16, 16]" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ways", "five"], "--ways five is no number from 2 on"),
        (["--ways", "1"], "no number from 2 on"),
        (["--shots", "0,1"], "no number from 1 on"),
        (["--checkpoint", "best,newest"], "unknown checkpoint 'newest'"),
        (["--set", "dataset.ways=3"], "is for the options of --dataset"),
        (["--dataset", "glyfs"], "Did you mean 'glyphs'"),
        (["--ways", "5,100000"], "classes"),
    ],
)
def test_what_cannot_be_is_named(run, options, said):
    _, err = binomctl("eval", run, *options, "--tasks", 2, code=3 if "100000" in options[1] else 2)
    assert said in err


def by_hand(run, i, members, inductive):
    """The score of test task i: each query beside the support set alone, the mean of the
    checkpoints' probabilities."""
    probabilities = []
    for learner in members:
        config = learner.config.model_copy(
            update={"evaluation": learner.config.evaluation.model_copy(update={"queries": 5})}
        )
        e = evaluation_dataset(config, build_dataset(config), 0).episode("test", i)
        adapted = learner.adapt(e.x_trn, e.y_trn, steps=3)
        scale = e.x_trn.double() / 255, e.x_val.double() / 255
        with torch.no_grad():
            if inductive:
                rows = [adapted.module(torch.cat([scale[0], q[None]]))[-1] for q in scale[1]]
                probabilities.append(torch.stack(rows).softmax(-1))
            else:
                probabilities.append(adapted.module(scale[1]).softmax(-1))
    found = torch.stack(probabilities).mean(0)
    nll = -found[range(len(found)), e.y_val].log().mean()
    return float((found.argmax(-1) == e.y_val).double().mean()), float(nll)


def test_inductive_and_ensembles_are_what_torch_gives(run):
    both = ("--inference", "transductive,inductive", "--checkpoint", "best,ensemble")
    out, _ = binomctl("eval", run, "--queries", 5, "--steps", 3, "--tasks", 5, "--json", *both)
    results = json.loads(out)["results"]
    kept = RunDirectory.open(run).checkpoints.kept()
    assert len(kept) == 2
    every = [package.load(run, checkpoint=which) for which in ("last", "best")]
    best = [package.load(run, checkpoint="best")]
    for result in results:
        members = best if result["checkpoint"] == "best" else every
        inductive = result["inference"] == "inductive"
        wanted = np.mean([by_hand(run, i, members, inductive) for i in range(5)], 0)
        assert result["mean"] == pytest.approx(wanted[0], abs=1e-12), result
        assert result["nll"]["mean"] == pytest.approx(wanted[1], rel=1e-9)
        assert result["calibration"]["queries"] == 5 * 25
    assert len({r["mean"] for r in results}) > 1
    assert {r["members"] for r in results} == {1, 2}
    table, _ = binomctl("eval", run, "--tasks", 2, "--inference", "inductive", "--checkpoint",
                        "ensemble")  # fmt: skip
    assert "each query beside the support set alone" in table
    assert "ensemble of 2 checkpoints" in " ".join(table.split())
    table, _ = binomctl("eval", run, "--tasks", 3, "--reliability", "r.png")
    assert "calibration error" in table
    with Image.open("r.png") as picture:
        assert picture.width > 300
    _, err = binomctl("eval", run, "--tasks", 3, "--reliability", "s.png", "--steps", "1,2", code=2)
    assert "draws one evaluation" in err
    _, err = binomctl("eval", run, "--inference", "inductively", code=2)
    assert "Did you mean 'inductive'" in err
