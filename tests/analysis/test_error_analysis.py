"""Measured errors against dense matrices; the spectrum against eigvalsh; the bounds above both."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from dense_oracle import flat_loss, inner_loop, product, subset_sum

from binomctl.adapt import adapt_and_validate
from binomctl.analysis.errors import analyse, matching_bounds, unbounded
from binomctl.analysis.measured import Errors
from binomctl.analysis.setup import initial, measurable
from binomctl.analysis.spectrum import spectrum
from binomctl.contracts import Expansion
from binomctl.errors import ConfigError, NonFiniteError
from binomctl.expansion import binomial_expansion, combine, elementary_rows
from binomctl.problem.build import build_problem
from binomctl.problem.cases import Case
from binomctl.problem.schedules import step_losses
from binomctl.settings import registry
from binomctl.settings.measured import settings_of
from binomctl.settings.orders import orders

SMALL = {"model.width": 5, "model.depth": 1, "training.meta_batch": 3, "adaptation.K": 4}


def problem(**overrides):
    keyed = {k.replace("__", "."): v for k, v in overrides.items()}
    return build_problem(settings_of("analysis", None, SMALL | keyed)[0])


def adapted(p, i=0):
    B, K = p.config.training.meta_batch, p.config.adaptation.K
    batch = p.training_batch(range(i * B, (i + 1) * B))
    how = p.adaptation(batch, p.m)
    return adapt_and_validate(p.engine, p.theta, batch, how, range(K))[0], batch


def dense(p, i=0):
    """Per task: the dense Hessians along the inner loop, and g."""
    _, batch = adapted(p, i)
    how = p.config.adaptation
    out = []
    for b in range(len(batch)):
        trn = flat_loss(p.model, p.dataset.loss, batch.x_trn[b], batch.y_trn[b])
        val = flat_loss(p.model, p.dataset.loss, batch.x_val[b], batch.y_val[b])
        out.append(inner_loop(trn, val, p.theta, how.K, how.alpha))
    return out


def last(generator):
    return list(generator)[-1]


@pytest.mark.parametrize("rule", ["gd", "anil", "meta-sgd", "meta-curvature"])
def test_one_pass_by_rows_gives_every_expansion(rule):
    p = problem(rule__name=rule)
    a, _ = adapted(p)
    rows = elementary_rows(a)
    K, alpha = a.K, a.alpha
    assert [r.shape[1] for r in rows] == [K - k + 1 for k in range(K + 1)]
    for C in range(K + 1):
        for L in range(C + 1):
            for scale in (1.0, L / K):
                which = Expansion(L, C, scale * alpha)
                torch.testing.assert_close(
                    combine(rows, which), binomial_expansion(a, which), rtol=1e-10, atol=1e-12
                )


def test_a_pass_takes_K_times_K_plus_1_over_2_products():
    a, _ = adapted(problem())
    counted = []

    class Counting:
        order = "rows"

        def hvp(self, ks, V):
            counted.append(len(ks))
            return a.curvature.hvp(ks, V)

    elementary_rows(type(a)(a.trajectory, a.g, Counting()))
    assert sum(counted) == a.K * (a.K + 1) // 2


def test_every_error_figure_equals_the_dense_oracle():
    p = problem(analysis__estimators=["fomaml", "trunc", "binom", "hybrid"], analysis__C=3,
                analysis__alpha_scaling="both")  # fmt: skip
    cases = measurable(p)
    errors, _ = last(analyse(p, p.theta, p.m, cases, 2))
    K, alpha = p.config.adaptation.K, p.config.adaptation.alpha
    assert len(cases) == 1 + 5 + 2 * 5 + 2 * 4
    for record in errors:
        case = record.case
        L = 0 if case.L is None else case.L
        C = {"fomaml": K, "trunc": L, "binom": K, "hybrid": 3}[case.name]
        own = L * alpha / K if case.alpha_scaling == "paper" else alpha
        for i in range(2):
            tasks = dense(p, i)
            exact = torch.stack([product(H, g, K, alpha) for H, g in tasks])
            estimate = torch.stack([subset_sum(H, g, L, C, own) for H, g in tasks])
            e, x = estimate.mean(0), exact.mean(0)
            assert record.absolute[i] == pytest.approx(float((e - x).norm()), rel=1e-7, abs=1e-12)
            relative = float((e - x).norm() / x.norm())
            assert record.relative[i] == pytest.approx(relative, rel=1e-7, abs=1e-12)
            assert record.cosine[i] == pytest.approx(float(e @ x / (e.norm() * x.norm())))
            per_task = ((estimate - exact).norm(dim=1) / exact.norm(dim=1)).tolist()
            assert record.task_relative[3 * i : 3 * i + 3] == pytest.approx(
                per_task, rel=1e-7, abs=1e-12
            )
            g = torch.stack([g for _, g in tasks])
            over = ((estimate - exact).norm(dim=1) / g.norm(dim=1)).tolist()
            assert record.over_g[3 * i : 3 * i + 3] == pytest.approx(over, rel=1e-7, abs=1e-12)


def test_estimators_that_are_no_expansions_run_their_own_inner_loop():
    p = problem(analysis__estimators=["imaml", "neumann"], analysis__L="0-2")
    cases = measurable(p)
    assert [(c.name, c.L) for c in cases] == [
        ("imaml", 1), ("imaml", 2), ("neumann", 0), ("neumann", 1), ("neumann", 2),
    ]  # fmt: skip
    errors, _ = last(analyse(p, p.theta, p.m, cases, 1))
    a, batch = adapted(p)
    exact = combine(elementary_rows(a), Expansion(a.K, a.K, a.alpha))
    estimator = registry.create("estimator", "neumann", {"L": 2})
    how = p.adaptation(batch, p.m)
    own = type(how)(how.K, how.alpha, how.rule, how.m, how.layout, proximal=2.0)
    there, _, _ = adapt_and_validate(p.engine, p.theta, batch, own, range(a.K, a.K + 1))
    difference = estimator.meta_gradient(there).mean(0) - exact.mean(0)
    assert errors[-1].absolute[0] == pytest.approx(float(difference.norm()))


WEIGHTS = [0.0, 0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("losses", [WEIGHTS, "annealed"])
def test_outer_losses_at_several_steps_are_measured_with_their_weights(losses, step):
    """Against backpropagation of the weighted sum; the annealed weights are those of the step."""
    p = problem(adaptation__step_losses=losses, adaptation__annealing_steps=10,
                analysis__estimators=["fomaml", "binom"], analysis__L="0-4")  # fmt: skip
    K = p.config.adaptation.K
    weights = step_losses(p.config.adaptation, K, step)
    errors, _ = last(analyse(p, p.theta, p.m, measurable(p), 1, step=step))
    _, batch = adapted(p)
    exact, first = (torch.stack([weighted(p, batch, b, weights, create_graph) for b in range(3)])
                    for create_graph in (True, False))  # fmt: skip
    gap = float((first.mean(0) - exact.mean(0)).norm())
    by_order = {e.case.L: e for e in errors if e.case.name == "binom"}
    assert by_order[0].absolute[0] == pytest.approx(gap, rel=1e-9)
    assert errors[0].absolute[0] == pytest.approx(gap, rel=1e-9)  # fomaml
    assert errors[0].relative[0] == pytest.approx(gap / float(exact.mean(0).norm()), rel=1e-9)
    assert by_order[K].relative[0] < 1e-12


def weighted(p, batch, b, weights, create_graph):
    """d / d theta of the sum of c_k l_val(phi^k) of a task, with the Hessians or without."""
    trn = flat_loss(p.model, p.dataset.loss, batch.x_trn[b], batch.y_trn[b])
    val = flat_loss(p.model, p.dataset.loss, batch.x_val[b], batch.y_val[b])
    theta = p.theta.clone().requires_grad_()
    phi, total = theta, weights[0] * val(theta)
    for c in weights[1:]:
        (gamma,) = torch.autograd.grad(trn(phi), phi, create_graph=create_graph)
        phi = phi - p.config.adaptation.alpha * gamma
        total = total + c * val(phi)
    return torch.autograd.grad(total, theta)[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adaptation__step_losses": "all"}, "outer losses at several steps"),
        ({"adaptation__optimizer": "adam"}, "plain gradient descent"),
        ({"adaptation__alpha_schedule": "cosine"}, "plain gradient descent"),
        ({"rule__name": "anil"}, "plain gradient descent"),
        ({}, ""),
    ],
)
def test_bounds_are_drawn_where_the_theorems_speak_of_the_inner_loop(changes, words):
    p = problem(**changes)
    assert words in unbounded(p.inner_loop(p.m, step=0))


def test_the_spectrum_is_that_of_the_dense_hessians():
    p = problem()
    found = spectrum(adapted(p)[0])
    for b, (hessians, _) in enumerate(dense(p)):
        for k, H in enumerate(hessians):
            values = torch.linalg.eigvalsh(H)
            assert float(found.highest[b, k]) == pytest.approx(float(values[-1]), rel=1e-6)
            assert float(found.lowest[b, k]) == pytest.approx(float(values[0]), rel=1e-6, abs=1e-7)
    assert (found.negative >= 0).all()
    assert (found.negative <= 1).all()


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("depth", [1, 2])
def test_measured_errors_never_exceed_the_matching_bounds(alpha, depth):
    """Corrected where corrected; with one hidden layer and with two, convex or not."""
    p = problem(adaptation__alpha=alpha, model__depth=depth, analysis__L="0-4")
    check_under_bounds(p, expected={"3.6"})


def check_under_bounds(p, expected):
    errors, spectra = last(analyse(p, p.theta, p.m, measurable(p), 4, with_spectrum=True))
    summary, bounds = matching_bounds(p, spectra)
    assert expected <= set(summary["theorems"])
    for curve in bounds:
        if curve.source == "paper" and curve.theorem != "3.6":
            continue
        methods = {"fomaml": curve.fomaml, "trunc": curve.truncmaml, "binom": curve.binommaml}
        for record in errors:
            L = record.case.L
            for i, at in enumerate(curve.L):
                if record.case.name == "fomaml" or at == L:
                    bound = float(methods[record.case.name][i])
                    assert max(record.over_g) <= bound * (1 + 1e-9) + 1e-12


class Linear(torch.nn.Linear):
    """Convex, and strongly so with more points than weights."""

    def __init__(self, out_dim):
        super().__init__(1, out_dim)


def test_a_convex_problem_has_all_three_theorems_and_obeys_them(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "Linear", Linear)
    config, _ = settings_of(
        "analysis",
        None,
        {"training.meta_batch": 3, "adaptation.alpha": 0.02, "analysis.L": "0-5"},
        [f"model.import={__name__}:Linear"],
    )
    check_under_bounds(build_problem(config), expected={"3.6", "3.8", "3.10"})


def test_the_spectrum_knows_the_reduction_of_the_loss():
    """A summed loss at alpha / 10 is the mean loss at alpha: the same inner loop, the same H."""
    found = []
    for alpha, reduction in ((0.01, "mean"), (0.001, "sum")):
        p = problem(adaptation__alpha=alpha, adaptation__loss_reduction=reduction, analysis__L="1")
        _, spectra = last(analyse(p, p.theta, p.m, measurable(p), 1, with_spectrum=True))
        found.append(matching_bounds(p, spectra)[0]["alpha_H"])
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_an_estimator_that_gives_up_leaves_the_others_alone():
    p = problem(analysis__estimators=["imaml", "binom"], analysis__L="1")
    record, other = last(analyse(p, p.theta, p.m, measurable(p), 1))[0]
    assert record.undefined == 0
    record.add_failure(3)
    assert (record.undefined, record.task_undefined) == (1, 3)
    assert other.relative


def test_a_zero_exact_gradient_is_undefined_and_not_nan():
    record = Errors(Case("maml", None))
    zero, one = torch.zeros(2, 3), torch.ones(2, 3)
    record.add(one, zero, one)
    report = record.report()
    assert report["relative"] == {
        "mean": None, "ci95": None, "median": None, "n": 0, "max": None, "values": [],
        "undefined": 1,
    }  # fmt: skip
    assert report["per_task"]["relative"]["undefined"] == 2
    assert report["absolute"]["mean"] == pytest.approx(3**0.5)
    json.dumps(report, allow_nan=False)


def test_a_zero_estimate_has_no_direction_but_an_error():
    record = Errors(Case("maml", None))
    zero, one = torch.zeros(2, 3), torch.ones(2, 3)
    record.add(zero, one, one)
    report = record.report()
    assert report["relative"]["mean"] == pytest.approx(1.0)
    json.dumps(report, allow_nan=False)


def test_an_estimate_that_is_not_finite_is_counted_and_json_stays_json():
    record = Errors(Case("maml", None))
    one = torch.ones(2, 3)
    record.add(torch.stack([one[0], one[0] * float("inf")]), one, one)
    report = record.report()
    assert report["relative"]["undefined"] == 1
    assert report["per_task"]["relative"]["undefined"] == 1
    assert report["per_task"]["relative"]["n"] == 1
    json.dumps(report, allow_nan=False)


def test_an_inner_loop_that_diverges_is_named():
    p = problem(adaptation__alpha=1e30, analysis__L="0")
    with pytest.raises(NonFiniteError, match="batch 0 is not finite"):
        last(analyse(p, p.theta, p.m, measurable(p), 1))


@pytest.mark.parametrize(
    ("text", "expected"), [("0-5", [0, 1, 2, 3, 4]), ("2", [2]), ("1,3", [1, 3]), ("3-9", [3, 4])]
)
def test_orders(text, expected):
    assert orders(text, 4, "analysis.L") == expected


@pytest.mark.parametrize("text", ["", "a", "7", "3-1", "-1"])
def test_wrong_orders_are_refused(text):
    with pytest.raises(ConfigError, match="L = "):
        orders(text, 4, "analysis.L")


def test_initial_weights_by_standard_deviation():
    p = problem()
    theta = initial(p, "0.01")
    assert float(theta.std()) == pytest.approx(0.01, rel=0.5)
    assert torch.equal(theta, initial(p, "0.01"))
    assert torch.equal(initial(p, "model"), p.theta)
    for wrong in ("0", "-1", "nan", "xavier"):
        with pytest.raises(ConfigError, match="neither 'model' nor"):
            initial(p, wrong)
