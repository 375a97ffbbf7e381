"""A data set whose outer loss is another than its inner one, from plugin to meta-gradient."""

from __future__ import annotations

import json
import os
import sys

import command
import pytest
import torch
from torch.nn import functional as F

import binomctl
from binomctl.adapt import adapt_and_validate
from binomctl.analysis.errors import analyse
from binomctl.analysis.setup import measurable
from binomctl.contracts import HasQueryLoss
from binomctl.curvature.outer import OuterLossEngine
from binomctl.curvature.prepared import rung_of
from binomctl.curvature.traits import traits_of
from binomctl.problem.build import build_problem
from binomctl.problem.engines import at_full_precision, freeze, with_schedule
from binomctl.settings.layers import load_config
from binomctl.testing import check_dataset
from binomctl.training.loop import meta_train
from binomctl.training.state import MetaState
from binomctl.training.step import step_function

SOURCE = '''
"""Sinusoids that are judged by another loss than they are learned by."""
from dataclasses import dataclass

import torch
from binomctl_datasets.sinusoid import Sinusoid
from torch.nn import functional as F


@dataclass(frozen=True)
class Judged(Sinusoid):
    """Sinusoids, Huber's loss on the query set."""

    query_loss = staticmethod(F.smooth_l1_loss)


@dataclass(frozen=True)
class Closed(Sinusoid):
    """Sinusoids with one loss said twice."""

    query_loss = staticmethod(F.mse_loss)


@dataclass(frozen=True)
class Unreduced(Sinusoid):
    """No scalar."""

    def query_loss(self, prediction, y):
        return (prediction - y) ** 2


@dataclass(frozen=True)
class Detached(Sinusoid):
    """No gradient."""

    def query_loss(self, prediction, y):
        return torch.zeros(())
'''
SMALL = {
    "dataset.name": "judged", "dtype": "float64", "device": "cpu", "model.width": 6,
    "model.depth": 2, "training.meta_batch": 3, "adaptation.K": 3, "adaptation.alpha": 0.05,
    "training.steps": 2, "engine.compile": "off",
}  # fmt: skip


@pytest.fixture(autouse=True)
def judged(tmp_path, monkeypatch):
    """The module of the data sets, registered as an installed distribution's."""
    info = tmp_path / "judging-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: judging\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[binomctl.datasets]\njudged = judging_data:Judged\nclosed = judging_data:Closed\n"
    )
    (tmp_path / "judging_data.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    import judging_data  # type: ignore[import-not-found]

    return judging_data


def problem_of(**overrides):
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    return build_problem(load_config(overrides=SMALL | named)[0])


def expected(problem, batch, **how):
    """The library's gradients under (mse, Huber), as one vector."""
    sets = (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)
    adaptation = problem.config.adaptation
    found = binomctl.meta_gradient(
        problem.model, F.mse_loss, sets, K=adaptation.K, alpha=adaptation.alpha,
        outer_loss=F.smooth_l1_loss, **how,
    )  # fmt: skip
    return torch.cat([t.reshape(-1) for t in found.values()])


@pytest.mark.parametrize("kind", ["analytic", "autograd"])
@pytest.mark.parametrize(("name", "options"), [("maml", {}), ("binom", {"L": 1})])
def test_the_meta_gradient_is_that_of_the_query_loss(name, options, kind):
    chosen = {f"estimator__{key}": value for key, value in options.items()}
    problem = problem_of(estimator__name=name, engine__kind=kind, **chosen)
    assert isinstance(problem.dataset, HasQueryLoss)
    batch = problem.training_batch(range(3))
    wanted = expected(problem, batch, estimator=name, **options)
    alike = (problem, at_full_precision(problem), with_schedule(problem, memory="recompute"))
    for one in alike:
        found = step_function(one)(one.theta, one.m, batch)
        torch.testing.assert_close(found.per_task[0].mean(0), wanted, rtol=1e-10, atol=1e-10)
        how = one.adaptation(batch, one.m)
        adapted, _, _ = adapt_and_validate(one.engine, one.theta, batch, how, ())
        phi = adapted.trajectory.phi[:, -1]
        each = [F.smooth_l1_loss(o, y) for o, y in zip(found.prediction, batch.y_val, strict=True)]
        torch.testing.assert_close(found.loss, torch.stack(each), rtol=1e-12, atol=1e-12)
        there = one.engine.predict(phi, batch.x_val)
        torch.testing.assert_close(there, found.prediction, rtol=1e-12, atol=1e-12)


def test_losses_on_the_way_are_query_losses_too():
    problem = problem_of(estimator__name="maml", adaptation__step_losses="all")
    batch = problem.training_batch(range(3))
    weights = problem.inner_loop(problem.m, step=0).weights
    wanted = expected(problem, batch, estimator="maml", weights=weights)
    found = step_function(problem)(problem.theta, problem.m, batch).per_task[0].mean(0)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_training_reports_the_query_loss():
    problem = problem_of(estimator__name="binom", estimator__L=1)
    first = next(iter(meta_train(problem, MetaState(problem))))
    batch = problem.training_batch(range(3))
    loss = step_function(problem)(problem.theta, problem.m, batch).loss
    assert first.loss == pytest.approx(float(loss.mean()), rel=1e-12)


def test_an_error_analysis_measures_against_the_query_loss():
    problem = problem_of(analysis__estimators=["binom"], analysis__L="1")
    *_, (errors, _) = analyse(problem, problem.theta, problem.m, measurable(problem), 1)
    batch = problem.training_batch(range(3))
    exact = expected(problem, batch, estimator="maml")
    binom = expected(problem, batch, estimator="binom", L=1)
    wanted = float((binom - exact).norm() / exact.norm())
    assert errors[0].relative == pytest.approx([wanted], rel=1e-9)


def test_frozen_statistics_keep_the_query_loss():
    problem = problem_of(engine__kind="autograd")
    frozen = freeze(problem)
    assert isinstance(frozen.engine, OuterLossEngine)
    phi, batch = problem.theta.expand(3, -1), problem.training_batch(range(3))
    found = frozen.engine.query(phi, batch.x_val, batch.y_val)[1]
    assert torch.equal(found, problem.engine.query(phi, batch.x_val, batch.y_val)[1])


def test_it_is_recorded_or_compiled_only_where_both_losses_can_be():
    mixed, closed = problem_of(), problem_of(dataset__name="closed")
    assert rung_of(mixed.engine) == rung_of(closed.engine) == "algebra"
    assert traits_of(mixed.engine).steps_alone
    assert not traits_of(mixed.engine).closed_form
    assert traits_of(closed.engine).closed_form
    plain = problem_of(dataset__name="sinusoid")
    assert not isinstance(plain.engine, OuterLossEngine)
    assert traits_of(closed.engine) == traits_of(plain.engine)


def test_the_contract_of_data_sets_covers_it(judged):
    check_dataset(judged.Judged)
    with pytest.raises(AssertionError, match=r"query_loss has shape .* expected a scalar"):
        check_dataset(judged.Unreduced)
    with pytest.raises(AssertionError, match="query_loss does not depend on the prediction"):
        check_dataset(judged.Detached)


def test_a_profile_measures_it_end_to_end(tmp_path, monkeypatch):
    """Memory is measured in a process of its own, which finds the plugin as well."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    out, _ = command.binomctl(
        "profile", "--dataset", "judged", "--estimators", "maml,fomaml", "--seconds", "0.2",
        "--meta-batch", "2", "--set", "model.width=6", "--json",
    )  # fmt: skip
    cells = json.loads(out)["cells"]
    assert [c["estimator"] for c in cells] == ["maml", "fomaml"]
    assert all(c["step_ms"]["median"] > 0 and c["peak_memory_bytes"] > 0 for c in cells), cells
