"""Bilevel problems as runs: their gradients against unrolled differentiation, what they learn, and
every command on them."""

from __future__ import annotations

import json
import math

import pytest
import torch
from command import binomctl as command
from torch.nn import functional as F

import binomctl
from binomctl.errors import ConfigError
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.training.loop import meta_train
from binomctl.training.outer import groups
from binomctl.training.state import MetaState
from binomctl.training.step import step_function

SMALL = {
    "dtype": "float64", "dataset.ways": 3, "dataset.shots": 4, "dataset.queries": 4,
    "dataset.data": {"name": "glyphs", "image_size": 8}, "model.width": 4,
    "adaptation.K": 4, "adaptation.alpha": 0.5, "estimator.name": "maml",
}  # fmt: skip


def problem_of(name, **more):
    return build_problem(load_config(overrides={"dataset.name": name} | SMALL | more)[0])


def network(x, p):
    hidden = torch.relu(F.linear(x.flatten(1), p["1.weight"], p["1.bias"]))
    return F.linear(hidden, p["3.weight"], p["3.bias"])


def weighted(out, y, p):
    each = -torch.log_softmax(out, 1).gather(1, (y % 3)[:, None])[:, 0]
    return (each / (1 + torch.exp(-p["outer_weight"][y // 3]))).sum() / len(y)


def decayed(out, y, p):
    total = -torch.log_softmax(out, 1).gather(1, y[:, None]).mean()
    for n in ("1.weight", "1.bias", "3.weight", "3.bias"):
        total = total + (p[f"outer_decay_{n.replace('.', '__')}"].exp() * p[n] ** 2).sum() / 2
    return total


def unrolled(p, inner, K=4, alpha=0.5):
    """The gradient of the outer loss through all inner steps, by name."""
    batch = p.training_batch(range(1))
    start = {n: v.detach().requires_grad_() for n, v in p.engine.layout.unflatten(p.theta).items()}
    names, now = [n for n in start if not n.startswith("outer_")], dict(start)
    for _ in range(K):
        loss = inner(network(batch.x_trn[0], now), batch.y_trn[0], now)
        slopes = torch.autograd.grad(loss, [now[n] for n in names], create_graph=True)
        moved = {n: now[n] - alpha * s for n, s in zip(names, slopes, strict=True)}
        now = now | moved
    loss = F.cross_entropy(network(batch.x_val[0], now), batch.y_val[0])
    found = torch.autograd.grad(loss, list(start.values()))
    return dict(zip(start, found, strict=True)), batch


@pytest.mark.parametrize(
    ("name", "inner"), [("hyper-cleaning", weighted), ("weight-decay", decayed)]
)
def test_gradients_are_those_of_the_unrolled_loop_and_of_hypergradient(name, inner):
    p = problem_of(name, **({"dataset.initial": 0.05} if name == "weight-decay" else {}))
    at = step_function(p)(p.theta, p.m, p.training_batch(range(1)))
    found = p.engine.layout.unflatten(at.per_task[0][0])
    wanted, batch = unrolled(p, inner)
    for n, w in wanted.items():
        assert torch.allclose(found[n], w, rtol=1e-9, atol=1e-13), n
    outer = {n: v for n, v in wanted.items() if n.startswith("outer_")}
    assert all(v.abs().max() > 0 for v in outer.values())

    # The door of bilevel problems gives the same, through code of its own.
    theta = p.engine.layout.unflatten(p.theta)
    lam = {n: v for n, v in theta.items() if n in outer}
    phi = {n: v for n, v in theta.items() if n not in outer}
    x, y = batch.x_trn[0], batch.y_trn[0]
    door = binomctl.hypergradient(
        lambda phi, lam, b: inner(network(x, phi), y, phi | lam),
        lambda phi, lam, b: F.cross_entropy(network(batch.x_val[0], phi), batch.y_val[0]),
        lam, phi, ([None] * 4, None), estimator="maml", alpha=0.5,
    )  # fmt: skip
    for n, w in outer.items():
        assert torch.allclose(door[n], w, rtol=1e-9, atol=1e-13), n


def test_only_the_outer_variables_are_learned_and_wrong_labels_lose_weight():
    more = {"dtype": "float32", "dataset.shots": 8, "dataset.noise": 0.25}
    p = problem_of("hyper-cleaning", **more, **{"training.steps": 40, "adaptation.K": 10})
    state = MetaState(p)
    records = list(meta_train(p, state))
    before, after = (p.engine.layout.unflatten(t.detach()) for t in (p.theta, state.theta))
    for name, value in after.items():
        assert torch.equal(value, before[name]) == (not name.startswith("outer_")), name
    seen = groups(p, state.theta)
    right, wrong = seen["weight, right label"], seen["weight, wrong label"]
    assert len(right) == 18
    assert len(wrong) == 6
    assert right.mean() > wrong.mean() + 0.2
    assert records[-1].loss < records[0].loss


def test_rates_are_learned_and_the_start_is_not():
    p = problem_of("inner-rates", **{"training.steps": 5, "rule.steps": 4})
    state = MetaState(p)
    records = list(meta_train(p, state))
    assert torch.equal(state.theta.detach(), p.theta)
    assert (state.m.detach() - p.m).abs().max() > 0
    assert records[-1].loss < records[0].loss


def test_a_picture_is_fitted_better_from_a_learned_start():
    config = load_config(overrides={
        "dataset.name": "siren", "dataset.data": {"name": "glyphs", "image_size": 12},
        "model.width": 16, "model.depth": 2, "estimator.name": "maml", "training.steps": 60,
        "training.meta_lr": 1e-3,
    })[0]  # fmt: skip
    p = build_problem(config)
    records = list(meta_train(p, MetaState(p)))
    batch = p.training_batch(range(1))
    prediction = torch.rand(144, 1)
    error = (prediction - batch.y_val[0]).square().mean()
    assert float(p.dataset.metric(prediction, batch.y_val[0])) == pytest.approx(
        10 * math.log10(1 / float(error)), rel=1e-5
    )
    first, last = (sum(r.metric for r in part) / 10 for part in (records[:10], records[-10:]))
    assert last > first + 1  # dB


@pytest.mark.long
def test_every_command_takes_a_problem(tmp_path):
    run, sets = tmp_path / "run", []
    for key, value in SMALL.items():
        if key not in ("dtype", "estimator.name", "dataset.data"):
            sets += ["--set", f"{key}={value}"]
    sets += ["--set", "dataset.data={name: glyphs, image_size: 8}"]
    train = ["train", "--problem", "hyper-cleaning", "--estimator", "binom", "--L", "2", "--steps"]

    def said(*words):
        return "".join(command(*words))

    assert "best validation" in said(*train, "12", "--out", str(run), *sets)
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    validated = [x for x in lines if "validation_accuracy" in x]
    assert all(0 < x["weight, wrong label"] < 1 for x in validated)
    assert "n = 1, no interval" in said("eval", str(run))
    assert "wrote" in said("plot", str(run), "--outer", "-o", str(tmp_path / "outer.svg"))
    picture = (tmp_path / "outer.svg").read_text()
    assert "<svg" in picture
    errors, _ = command("error-analysis", "--problem", "hyper-cleaning", "--json", "--batches", 1,
                        "--estimators", "binom,implicit,fomaml", "--L", "1,4", *sets)  # fmt: skip
    measured = json.loads(errors)["errors"]
    exact = [e for e in measured if e["estimator"] == "binom" and e["L"] == 4]
    assert exact[0]["relative"]["mean"] < 1e-5
    said("profile", "--problem", "hyper-cleaning", "--estimators", "maml,fomaml",
         "--seconds", "0.1", *sets)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset.data": "sinusoid"}, "is no few-shot classification"),
        ({"dataset.data": "glyfs"}, "Did you mean 'glyphs'"),
        ({"dataset.noise": 1.5}, "is no share in"),
        ({"training.learned": ["inner_*"]}, "matches no parameter"),
        ({"training.learned": []}, "leaves nothing to learn"),
        ({"estimator.name": "implicit", "rule.fixed": []}, "adapts every parameter"),
    ],
)
def test_what_does_not_fit_is_named(changes, said):
    with pytest.raises(ConfigError) as caught:
        problem_of("hyper-cleaning", **changes)
    assert said in f"{caught.value} {caught.value.hint}"
