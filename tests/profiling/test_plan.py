"""`binomctl profile --plan`: what is predicted, measured and chosen."""

from __future__ import annotations

import json
import math

import pytest
from command import binomctl, in_a_process
from test_profile import QUICK, problem

from binomctl.problem.cases import cases_of
from binomctl.profiling.costs import Model
from binomctl.profiling.plan import best, choices, fit, size_of, time_of


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


def test_nothing_fits():
    out, _ = binomctl("profile", *QUICK, "--plan", "--time-budget", "1us")
    assert "nothing fits the budget" in out
    assert "least memory" in out


def test_the_best_is_the_highest_order_that_fits():
    base = problem()
    model = Model(*[fitted(10.0)] * 3, 0.0, 0.0, 1e6, 1e6, 1.0)
    found = choices(base, cases_of(base, "profile"), model)
    everything = best(found, math.inf, math.inf)
    assert everything[0].exact
    labels = [c.cell.label for c in everything]
    assert labels.index("binom L=2") < labels.index("trunc L=2") < labels.index("binom L=1")
    assert len(set(labels)) == len(labels)
    # K = 3 gradients, the query's and n products, 10 s each: 40 s + 10 n.
    limited = best(found, math.inf, 65.0)
    assert max(c.products for c in limited) == 2
    poor = best(found, 1.5e6, math.inf)
    assert {c.memory for c in poor if c.products} <= {"recompute"}


def fitted(value):
    from binomctl.profiling.costs import Linear

    return Linear(value, 0.0)


def test_a_fit_is_of_three_measurements():
    model = fit(problem(training__meta_batch=1))
    assert model.gradient.whole > 0
    assert model.query.extra == 0.0


def test_quantities():
    assert size_of("8GiB") == 8 * 2**30
    assert size_of("500 MB") == 5e8
    assert time_of("50ms") == pytest.approx(0.05)
    assert time_of(None) == math.inf
