"""What is alive at the peak, counted from the allocator's own record."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from binomctl.adapt import adapt_and_validate
from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.problem.build import build_problem
from binomctl.profiling import peak_allocated
from binomctl.settings.layers import load_config
from binomctl.training.evaluate import Trained, evaluate


def looped(memory="store", **overrides):
    """The glyphs problem on a small network, tasks one after the other in this thread."""
    small = {"model.filters": 4, "training.meta_batch": 1, "dataset.queries": 1}
    config, _ = load_config(overrides=small | overrides)
    problem = build_problem(config)
    chosen = problem.config.engine
    how = {"memory": memory, "threads": 1}
    if chosen.order != "auto":
        how["order"] = chosen.order
    if chosen.kind == "analytic":
        engine = AnalyticEngine(problem.model, problem.dataset.loss, **how)
    else:
        how["batching"] = chosen.batching
        engine = AutogradEngine(problem.model, problem.dataset.loss, **how)
    return dataclasses.replace(problem, engine=engine)


def step_peak(memory, estimator, K, **options):
    problem = looped(
        memory, **{"estimator.name": estimator, "adaptation.K": K, "dataset.shots": 4}, **options
    )
    batch = problem.training_batch(range(1))
    how = problem.adaptation(batch, problem.m)
    keep = problem.estimator.steps(K)

    def step():
        adapted, _, _ = adapt_and_validate(problem.engine, problem.theta, batch, how, keep)
        problem.estimator.meta_gradient(adapted)

    step()  # caches of the first call are not the step's
    return peak_allocated(step)


def test_the_count_is_exact():
    def three_megabytes():
        one = torch.empty(1_000_000, dtype=torch.uint8)
        two = torch.empty(2_000_000, dtype=torch.uint8)
        del one
        return two, torch.empty(500_000, dtype=torch.uint8)

    assert peak_allocated(three_megabytes) == 3_000_000


KINDS = ["autograd", "analytic"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ["maml", "binom"])
def test_recomputing_grows_with_the_trajectory_alone(estimator, kind):
    d_bytes = looped().theta.numel() * 4
    of = {"engine.kind": kind, "engine.order": "rows"}
    peaks = {K: step_peak("recompute", estimator, K, **of) for K in (4, 12)}
    growth = peaks[12] - peaks[4]
    # phi^0..phi^K stands in a list and, for a moment, in one tensor beside it.
    assert 0 < growth <= 2 * 8 * d_bytes + 1024
    stored = {K: step_peak("store", estimator, K, **of) for K in (4, 12)}
    assert stored[12] - stored[4] > 20 * growth
    assert stored[12] > 2 * peaks[12]


@pytest.mark.parametrize("kind", KINDS)
def test_points_in_parallel_take_less_as_L_grows(kind):
    K = 8
    together = {"engine.order": "columns", "engine.kind": kind}
    if kind == "autograd":
        together["engine.batching"] = "vmap"
    peaks = [
        step_peak("recompute", "binom", K, **{"estimator.L": L}, **together)
        for L in range(2, K + 1)
    ]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < peaks[0] / 2


def test_evaluation_keeps_no_graph_however_many_tasks():
    problem = looped()

    def run(tasks):
        arguments = (problem, [Trained(problem.theta, problem.m)], problem.dataset)
        return lambda: list(evaluate(*arguments, "test", tasks, 3))

    run(2)()
    assert peak_allocated(run(2)) == peak_allocated(run(12)) > 0
