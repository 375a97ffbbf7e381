"""`binomctl error-analysis`: reports, pictures, runs and mistakes."""

from __future__ import annotations

import json
from functools import partial

import pytest
from command import here, in_a_process

binomctl = partial(in_a_process, OMP_NUM_THREADS="1")
FAST = ["--batches", 2, "--meta-batch", 2, "--set", "model.width=4", "--set", "model.depth=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    args = ["--dataset", "sinusoid", "--steps", 4, "--meta-batch", 2, "--rule", "meta-sgd"]
    settings = {"validate_every": 2, "validation_tasks": 2, "keep_every": 1}
    for key, value in settings.items():
        args += ["--set", f"training.{key}={value}"]
    done = binomctl("train", *args, "--set", "model.width=4", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_json_picture_and_csv(tmp_path):
    done = binomctl(
        "error-analysis", *FAST, "--spectrum", "--json", "--output", "e.svg", "--csv", "e.csv",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) == {"schema", "step", "config", "spectrum", "precision", "errors"}
    assert report["config"]["dtype"] == "float64"
    assert {"estimator", "L", "C", "alpha_scaling", "relative", "cosine"} <= set(
        report["errors"][0]
    )
    assert set(report["errors"][0]["relative"]) >= {"mean", "ci95", "n", "values"}
    assert report["errors"][0]["relative"]["n"] == 2
    assert report["spectrum"]["alpha_H"] > 0
    assert (tmp_path / "e.svg").read_bytes().startswith(b"<?xml")
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 1 + 7 * len(report["errors"])


def test_a_checkpoint_and_along_a_run(run, tmp_path):
    at = binomctl("error-analysis", "--run", run, *FAST[:4], "--json", cwd=tmp_path)
    assert at.returncode == 0, at.stderr
    report = json.loads(at.stdout)
    assert report["step"] in (2, 4)
    assert report["config"]["rule"]["name"] == "meta-sgd"
    along = binomctl(
        "error-analysis", "--along", run, *FAST[:4], "--json", "--output", "a.png", cwd=tmp_path
    )
    assert [r["step"] for r in json.loads(along.stdout)["along"]] == [2, 4]
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--dataset", "glyphs"], 4, "dataset.name = sinusoid, not glyphs"),
        (["--model", "conv4"], 4, "model.name = mlp, not conv4"),
        (["--set", "rule.name=anil"], 4, "was trained with rule {'name': 'meta-sgd'"),
        (["--set", "model.width=20"], 4, "'width': 4"),
        (["--along", "nowhere"], 2, "exclude each other"),
    ],
)
def test_a_run_of_something_else_is_refused_with_the_difference(run, args, code, words):
    done = binomctl("error-analysis", "--run", run, *args)
    assert done.returncode == code
    assert words in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--estimators", "reptile"], 2, "takes no query loss into account"),
        (["--estimators", "binon"], 2, "Did you mean 'binom'"),
        (["--L", "9"], 2, "no order between 0 and K = 5"),
        (["--estimators", "hybrid", "--C", "1", "--L", "3"], 2, "C = 1 is less than L = 3"),
        (["--estimators", "imaml", "--L", "0"], 2, "L = 0 must be a whole number, at least 1"),
        (["--init", "x"], 2, "neither 'model' nor"),
        (["--output", "e.gif"], 2, "unknown picture format"),
        (["--run", "nowhere"], 4, "no run at nowhere"),
        (["--rule", "anil", "--estimators", "imaml"], 2, "gradient of the proximal loss vanishes"),
    ],
)
def test_mistakes_are_worded(args, code, words):
    done = binomctl("error-analysis", *args)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_narrow_terminals(tmp_path):
    for width in (40, 80):
        done = binomctl("error-analysis", *FAST, cwd=tmp_path, COLUMNS=str(width))
        assert max(map(len, done.stdout.splitlines())) <= width
        assert "95% CI" in done.stdout
        assert "\u2026" not in done.stdout  # nothing is cut


@pytest.mark.parametrize(("width", "column"), [(120, "its estimate"), (80, "own"), (60, "own")])
def test_estimates_are_printed_on_every_terminal(width, column):
    done = here("error-analysis", *FAST, "--estimators", "trunc", "--L", "1", "--estimates",
                COLUMNS=str(width))  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    (head,) = [line for line in lines if "estimator  " in line]
    assert column in head
    (row,) = [line.split() for line in lines if line.startswith("  trunc")]
    assert "e" in row[-1]
