"""`binomctl profile --plan`: what is predicted, measured and chosen."""

from __future__ import annotations

import json
import math
import shlex

import pytest
from command import binomctl, in_a_process
from test_profile import QUICK, problem

from binomctl.cli.plan import train_command
from binomctl.errors import ConfigError
from binomctl.problem.build import resolved
from binomctl.problem.cases import cases_of
from binomctl.profiling.budgets import size_of, time_of
from binomctl.profiling.costs import Model
from binomctl.profiling.plan import best, choices, fit
from binomctl.runs import RunDirectory
from binomctl.settings.layers import load_config


@pytest.mark.long
def test_a_plan_is_measured_and_near_what_was_predicted():
    """The figure of the documentation is a benchmark's; here the order of magnitude."""
    done = in_a_process(
        "profile", "--plan", "--memory-budget", "2GiB", "--json",
        "--set", "training.meta_batch=4", "--estimators", "maml,fomaml,trunc,binom,imaml",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == "binomctl/plan/1"
    chosen = report["chosen"]
    assert chosen["exact"]
    assert all(row["predicted_bytes"] <= 2 * 2**30 for row in report["fitting"])
    assert 0.5 < chosen["predicted_over_measured"]["seconds"] < 2
    assert 0.5 < chosen["predicted_over_measured"]["bytes"] < 2


@pytest.mark.usefixtures("memory_known")
def test_nothing_fits():
    out, err = binomctl("profile", *QUICK, "--plan", "--time-budget", "1us", "--json", code=6)
    assert json.loads(out)["chosen"] is None
    assert "nothing fits the budget" in err
    assert "least memory" in err


def test_the_best_is_the_least_expected_error_that_fits():
    base = problem(profile__L="0-3")
    model = Model(*[fitted(10.0)] * 3, 0.0, 0.0, 1e6, 1e6, 1.0)
    errors = {"maml": 2e-8, "binom L=3": 1e-8, "trunc L=3": 3e-8, "trunc L=2": 0.3,
              "binom L=2": 0.4, "binom L=1": 2.0, "trunc L=1": 0.6, "fomaml": 0.8,
              "binom L=0": 0.8, "trunc L=0": 0.8}  # fmt: skip
    found = choices(base, cases_of(base, "profile"), model, errors)
    everything = best(found, math.inf, math.inf)
    rows = [(c.cell.label, *c.same) for c in everything if c.error is not None]
    assert rows == [
        ("maml", "trunc L=3", "binom L=3"),
        ("trunc L=2",),
        ("binom L=2",),
        ("trunc L=1",),
        ("fomaml", "trunc L=0", "binom L=0"),
        ("binom L=1",),
    ]
    # K = 3 gradients, the query's and n products, 10 s each: 40 s + 10 n.
    limited = best(found, math.inf, 65.0)
    assert max(c.products for c in limited) == 2
    poor = best(found, 1.5e6, math.inf)
    assert {c.memory for c in poor if c.products} <= {"recompute"}


def fitted(value):
    from binomctl.profiling.costs import Linear

    return Linear(value, 0.0)


@pytest.mark.long
def test_a_fit_is_of_three_measurements():
    model = fit(problem(training__meta_batch=1))
    assert model.gradient.whole > 0
    assert model.query.extra == 0.0


def test_quantities():
    assert size_of("8GiB") == 8 * 2**30
    assert size_of("500 MB") == 5e8
    assert time_of("50ms") == pytest.approx(0.05)
    assert time_of(None) == math.inf
    with pytest.raises(ConfigError, match="--memory-budget 8 has no unit"):
        size_of("8")


def test_the_command_trains_what_was_planned(tmp_path):
    (tmp_path / "own.yaml").write_text("adaptation: {alpha: 0.2}\n")
    files = [tmp_path / "own.yaml"]
    given = {
        "dataset.name": "sinusoid",
        "training.meta_batch": 3,
        "adaptation.K": 3,
        "dtype": "float64",
        "trackers": [{"name": "wandb"}],
    }
    settings, _ = load_config(files, given, ["model.width=8"])
    base = problem()
    model = Model(*[fitted(10.0)] * 3, 0.0, 0.0, 1e6, 1e6, 1.0)
    choice = next(c for c in choices(base, cases_of(base, "profile"), model)
                  if c.cell.label == "binom L=2" and c.memory == "recompute")  # fmt: skip
    words = shlex.split(train_command(settings, choice, files))
    assert words[:4] == ["binomctl", "train", "--config", str(files[0])]
    binomctl(*words[1:], "--steps", 1, "--out", tmp_path / "run", "--json")
    trained = RunDirectory.open(tmp_path / "run").config()
    assert trained.engine.memory == "recompute"
    assert trained.engine.task_chunk == choice.chunk
    assert trained.estimator.options["L"] == 2
    wanted = settings.model_copy(update={k: getattr(trained, k) for k in (
        "engine", "estimator", "training")})  # fmt: skip
    assert trained.model_dump(mode="json") == resolved(wanted).model_dump(mode="json")
    assert trained.training.meta_batch == 3
