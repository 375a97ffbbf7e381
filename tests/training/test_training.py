"""The outer loop: every estimator under every rule trains; what the options do, exactly."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from binomctl_datasets.glyphs import Glyphs
from tiny import GLYPHS
from torch.nn import functional as F

from binomctl.errors import ConfigError, NonFiniteError
from binomctl.problem.build import build_problem, resolved
from binomctl.problem.datasets import evaluation_dataset
from binomctl.problem.engines import evaluation_engine
from binomctl.problem.schedules import step_losses
from binomctl.reporting.intervals import mean_ci95, standard_error
from binomctl.runs import RunDirectory
from binomctl.runs.evaluations import Asked
from binomctl.settings import registry
from binomctl.settings.layers import load_config
from binomctl.training.evaluate import Trained, evaluate
from binomctl.training.loop import meta_train
from binomctl.training.optimiser import learning_rate
from binomctl.training.run import train
from binomctl.training.score import scores
from binomctl.training.state import MetaState, restore, snapshot

TINY = GLYPHS | {"adaptation.K": 2, "training.log_every": 1}


def problem(**overrides):
    keyed = {key.replace("__", "."): value for key, value in overrides.items()}
    return build_problem(load_config(overrides=TINY | keyed)[0])


def trained(p, steps=None):
    state = MetaState(p)
    records = list(meta_train(p, state))
    assert len(records) == p.config.training.steps
    return state, records


@pytest.mark.parametrize("rule", registry.names("rule"))
@pytest.mark.parametrize("estimator", registry.names("estimator"))
def test_every_pair_trains_or_is_refused_with_its_reason(estimator, rule):
    refused = {"imaml", "neumann", "reptile"} if rule != "gd" else set()
    parts = {"anil", "boil", "cavia", "linear-head", "protonet"}  # adapt a part, linearly
    refused |= {"warpgrad"} if rule not in parts else set()
    refused |= {"implicit"} if rule not in parts | {"ibaml"} else set()
    refused |= (
        {"minimax"} if rule in ("rates", "alfa", "maml++", "mt-net", "leo", "ibaml") else set()
    )
    needs = {"cavia": {"model__context": 2}, "ibaml": {"model__bayesian": 1},
             "leo": {"model__name": "latent", "model__body": "conv4"}}.get(rule, {})  # fmt: skip
    if estimator in refused:
        words = f"'{estimator}' cannot be used"
        with pytest.raises(ConfigError, match=words):
            problem(estimator__name=estimator, rule__name=rule, **needs)
        return
    p = problem(estimator__name=estimator, rule__name=rule, **needs)
    state, records = trained(p)
    assert (state.theta - p.theta).abs().max() > 0
    if p.m.numel():
        assert (state.m - p.m).abs().max() > 0
    assert math.isfinite(records[-1].loss)
    assert ("cg_residual" in records[-1].diagnostics) == (estimator == "imaml")
    scores = evaluate(p, [Trained(state.theta.detach(), state.m.detach())], p.dataset, "test", 2, 3)
    assert all(0 <= s <= 1 for s in scores)


@pytest.mark.parametrize(
    "name", ["binom2026", "finn2017", "learn2learn", "reptile2018", "imaml2019"]
)
def test_every_protocol_takes_a_step_and_is_tested(name):
    small = {"training.steps": 1, "training.meta_batch": 2, "model.filters": 2}
    path = Path(__file__).parents[2] / "configs" / f"{name}.yaml"
    p = build_problem(load_config(path, small | {"evaluation.tasks": 2})[0])
    state, _ = trained(p)
    tests = evaluation_dataset(p.config, p.dataset)
    m = state.m.detach()
    scores = list(
        evaluate(p, [Trained(state.theta.detach(), m)], tests, "test", 2, p.config.evaluation.steps)
    )
    assert all(0 <= s <= 1 for s in scores)


def test_a_run_without_any_finite_validation_says_so(tmp_path):
    p = problem(estimator__name="fomaml", training__steps=1, training__validation_tasks=2)
    run = RunDirectory.create(tmp_path / "run", p.config)
    p = dataclasses.replace(p, dataset=_NanMetric(**dataclasses.asdict(p.dataset)))
    with pytest.raises(NonFiniteError, match="no validation gave a finite accuracy"):
        train(p, run, _Silent())
    record = json.loads((run.path / "metrics.jsonl").read_text())
    assert record["validation_accuracy"] is None
    with pytest.raises(NonFiniteError, match="2 of 2 tasks is not finite"):
        scores(p, run.path, [run.checkpoints.load("last")], Asked("test", 2, 1, 0))


@dataclasses.dataclass(frozen=True)
class _NanMetric(Glyphs):
    def metric(self, prediction, y):
        return torch.tensor(float("nan"))


class _Silent:
    def on_step(self, step, seconds): ...
    def on_validation(self, step, value, best): ...


def first_gradient(**overrides):
    """The gradient of the first step, as an SGD step of size 1 reveals it."""
    p = problem(dtype="float64", training__optimizer="sgd", training__meta_lr=1.0,
                training__steps=1, **overrides)  # fmt: skip
    state, _ = trained(p)
    return (p.theta - state.theta).detach(), p


def test_reductions_scale_what_they_say():
    base, _ = first_gradient()
    total, _ = first_gradient(training__reduction="sum")
    torch.testing.assert_close(total, 2 * base)  # 2 tasks
    summed, _ = first_gradient(training__loss_reduction="sum")
    torch.testing.assert_close(summed, 6 * base)  # 3 ways x 2 queries
    per_shot, _ = first_gradient(training__loss_reduction="sum_per_shot")
    torch.testing.assert_close(per_shot, 6 * base)  # 1 shot
    # A summed support loss over 3 x 1 examples is a step size three times as large.
    one, _ = first_gradient(adaptation__loss_reduction="sum", adaptation__alpha=0.01)
    three, _ = first_gradient(adaptation__alpha=0.03)
    torch.testing.assert_close(one, three)


def test_a_summed_support_loss_keeps_lambda_where_it_was():
    """l summed = 3 l mean: alpha and lambda for the sum equal 3 alpha and lambda / 3."""
    options = {"estimator__name": "imaml", "estimator__L": 3}
    one, _ = first_gradient(
        adaptation__loss_reduction="sum", adaptation__alpha=0.01, estimator__lam=3.0, **options
    )
    other, _ = first_gradient(adaptation__alpha=0.03, estimator__lam=1.0, **options)
    torch.testing.assert_close(one, other)


def test_clipping():
    base, _ = first_gradient()
    limit = float(base.abs().median())
    clipped, _ = first_gradient(training__clip_value=limit)
    torch.testing.assert_close(clipped, base.clamp(-limit, limit))
    normed, _ = first_gradient(training__clip_norm=0.5 * float(base.norm()))
    torch.testing.assert_close(normed, 0.5 * base)
    untouched, _ = first_gradient(training__clip_norm=2 * float(base.norm()))
    torch.testing.assert_close(untouched, base)


def test_schedules():
    training = problem(training__steps=4, training__meta_lr=0.5).config.training

    def rates(schedule):
        changed = training.model_copy(update={"schedule": schedule})
        return [learning_rate(changed, s) for s in range(4)]

    assert rates("constant") == [0.5] * 4
    assert rates("linear") == [0.5, 0.375, 0.25, 0.125]
    assert rates("cosine") == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * s / 4)) for s in range(4)]
    )


def test_raw_pixels_are_255_times_as_large():
    unit = problem().training_batch(range(1))
    raw = problem(pixels="raw").training_batch(range(1))
    torch.testing.assert_close(raw.x_trn, 255 * unit.x_trn)
    with pytest.raises(ConfigError, match="no images"):
        build_problem(load_config(overrides={"dataset.name": "sinusoid", "pixels": "raw"})[0])


def test_training_and_evaluation_have_their_own_queries_and_shots():
    p = problem(training__queries=3, evaluation__queries=1, evaluation__shots=2)
    assert p.training_batch(range(1)).x_val.shape[1] == 9
    tests = evaluation_dataset(p.config, p.dataset)
    episode = tests.episode("test", 0)
    assert (len(episode.x_trn), len(episode.x_val)) == (6, 3)


@pytest.mark.parametrize("mode", ["per-step", "frozen"])
def test_with_constants_a_query_s_answer_depends_on_no_other(mode):
    p = problem(adaptation__statistics=mode)
    state, _ = trained(p)
    engine = evaluation_engine(p, state.statistics)
    batch = p.training_batch(range(2))
    phi = state.theta.detach().expand(2, -1)
    together = engine.predict(phi, batch.x_val)
    alone = engine.predict(phi, batch.x_val[:, :1])
    torch.testing.assert_close(together[:, :1], alone, rtol=1e-4, atol=1e-5)
    transductive = evaluation_engine(p, None) if mode == "per-step" else problem().engine
    changed = transductive.predict(phi, batch.x_val[:, :1])
    assert not torch.allclose(transductive.predict(phi, batch.x_val)[:, :1], changed, atol=1e-3)


def test_per_step_statistics_are_those_of_every_step():
    """Against torch's own running statistics, fed with the same batches at the same weights."""
    p = problem(adaptation__statistics="per-step", training__steps=1, dtype="float64")
    state, _ = trained(p)
    layers = state.statistics.mean
    assert len(next(iter(layers.values()))) == 2 + 1  # phi^0, phi^1, and phi^2 on the queries
    batch = p.training_batch(range(2))
    x = batch.x_trn.flatten(0, 1)[:3]
    with torch.no_grad():
        z = p.model.conv1(x)
    first = z.mean((0, 2, 3))
    z = p.model.conv1(batch.x_trn[1])
    both = (first + z.mean((0, 2, 3))) / 2
    torch.testing.assert_close(layers["norm1"][0], both.detach())
    momentum = torch.nn.BatchNorm2d(2, dtype=torch.float64)
    momentum(z)
    assert momentum.momentum == 0.1  # the same that blend uses
    blended = state.statistics.blend(state.statistics)
    torch.testing.assert_close(blended.mean["norm1"], layers["norm1"])


def test_a_frozen_network_is_affine_in_its_normalised_input():
    """H_k under frozen statistics against double backward through explicit F.batch_norm."""
    p = problem(adaptation__statistics="frozen", estimator__name="maml", dtype="float64")
    batch = p.training_batch(range(1))
    buffers = p.frozen.at(0)

    def loss(parameters, x, y):
        for i in range(1, 5):
            x = F.conv2d(x, parameters[f"conv{i}.weight"], parameters[f"conv{i}.bias"], padding=1)
            x = F.batch_norm(
                x, buffers[f"norm{i}.running_mean"], buffers[f"norm{i}.running_var"],
                parameters[f"norm{i}.weight"], parameters[f"norm{i}.bias"], training=False,
            )  # fmt: skip
            x = F.max_pool2d(F.relu(x), 2)
        return F.cross_entropy(
            F.linear(x.flatten(1), parameters["head.weight"], parameters["head.bias"]), y
        )

    layout = p.engine.layout
    theta = p.theta.clone().requires_grad_()
    phi = theta
    for _ in range(2):
        support = loss(layout.unflatten(phi), batch.x_trn[0], batch.y_trn[0])
        phi = phi - 0.1 * torch.autograd.grad(support, phi, create_graph=True)[0]
    query = loss(layout.unflatten(phi), batch.x_val[0], batch.y_val[0])
    (expected,) = torch.autograd.grad(query, theta)

    small = dataclasses.replace(
        p, config=p.config.model_copy(update={
            "training": p.config.training.model_copy(update={
                "optimizer": "sgd", "meta_lr": 1.0, "steps": 1, "meta_batch": 1})})
    )  # fmt: skip
    state, _ = trained(small)
    torch.testing.assert_close((p.theta - state.theta).detach(), expected, rtol=1e-8, atol=1e-12)


def test_statistics_need_batch_norm():
    with pytest.raises(ConfigError, match="no batch norm"):
        problem(model__norm="none", adaptation__statistics="per-step")


@pytest.mark.parametrize("mode", ["batch", "per-step", "frozen"])
def test_a_checkpoint_restores_all_that_evaluation_needs(tmp_path, mode):
    p = problem(adaptation__statistics=mode, rule__name="meta-sgd")
    state, _ = trained(p)
    run = RunDirectory.create(tmp_path / "run", p.config)
    run.checkpoints.save(snapshot(p, state, 0.5, {}), best=True)
    theta, m, statistics = restore(p, run.checkpoints.load("best"))
    as_it_is = Trained(state.theta.detach(), state.m.detach(), state.statistics)
    before = evaluate(p, [as_it_is], p.dataset, "test", 3, 2)
    assert list(before) == list(
        evaluate(p, [Trained(theta, m, statistics)], p.dataset, "test", 3, 2)
    )


@pytest.mark.parametrize("estimator", ["maml", "binom", "trunc", "fomaml", "reptile", "imaml"])
@pytest.mark.parametrize("optimizer", ["adam", {"name": "sgd", "momentum": 0.9}])
def test_inner_optimisers_go_with_every_estimator(estimator, optimizer):
    p = problem(
        estimator__name=estimator, adaptation__optimizer=optimizer, adaptation__clip_norm=1.0
    )
    trained(p)


def test_outer_losses_on_the_way_fade_out():
    how = problem(adaptation__step_losses="annealed", adaptation__annealing_steps=10)
    section, K = how.config.adaptation, how.config.adaptation.K
    first, half = step_losses(section, K, 0), step_losses(section, K, 5)
    assert first == pytest.approx((0.0, *[1 / K] * K))
    assert sum(half) == pytest.approx(1.0)
    assert half[1] == pytest.approx(0.5 / K)
    assert step_losses(section, K, 10) is None
    trained(how)


def test_weights_of_outer_losses_of_another_number_are_refused():
    with pytest.raises(ConfigError, match="2 weights of outer losses for K = 3") as caught:
        problem(adaptation__step_losses=[0.5, 0.5], adaptation__K=3)
    assert caught.value.key == "adaptation.step_losses"
    assert "K + 1 = 4" in caught.value.hint


def test_an_optimiser_s_options_are_written_out_and_its_mistakes_placed():
    config = problem(adaptation__optimizer={"name": "adam", "beta1": 0.5}).config
    assert resolved(config).adaptation.optimizer.options == {
        "beta1": 0.5, "beta2": 0.999, "epsilon": 1e-8, "epsilon_root": 0.0, "weight_decay": 0.0
    }  # fmt: skip
    with pytest.raises(ConfigError, match="unknown option 'beta3'") as caught:
        problem(adaptation__optimizer={"name": "adam", "beta3": 0.5})
    assert caught.value.key.startswith("adaptation.optimizer")


def test_reptile_recommends_its_own_outer_loop():
    training = problem(estimator__name="reptile").config.training
    assert (training.optimizer, training.schedule, training.meta_lr) == ("sgd", "linear", 1.0)
    assert problem(estimator__name="reptile", training__meta_lr=0.5).config.training.meta_lr == 0.5


def test_mini_batches_are_at_most_the_support():
    for size, seen in ((2, 2), (3, 3), (4, 3)):
        batch = problem(estimator__name="reptile", adaptation__batch=size).training_batch(range(1))
        assert batch.mini_batches.shape == (1, 2, seen)


def test_intervals_say_what_they_are():
    values = [0.1, 0.4, 0.35, 0.8]
    n, mean = 4, sum(values) / 4
    squares = sum((v - mean) ** 2 for v in values)
    assert standard_error(values) == pytest.approx(math.sqrt(squares / 3 / n))
    assert mean_ci95(values, "normal").ci95 == pytest.approx(1.96 * math.sqrt(squares / n / n))
    assert mean_ci95(values).ci95 == pytest.approx(3.182446 * math.sqrt(squares / 3 / n), rel=1e-6)
