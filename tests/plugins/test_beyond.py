"""Head, chosen steps, deflation, weights, random truncation: against dense matrices in float64.

The oracle builds every factor A_k = P_k - B_k of a step as a matrix, with gradient descent or with
a velocity written out, and multiplies.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from dense_oracle import flat_loss
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError, NonFiniteError
from binomctl.expansion import error_estimate, until
from binomctl.expansion.deflation import deflated, middles
from binomctl.expansion.quadrature import nodes
from binomctl.flat import Layout, initial_parameters
from binomctl.settings import registry
from binomctl.theory.minimax import minimax_weights

D = torch.float64
B, K, ALPHA, MOMENTUM = 3, 5, 0.08, 0.6


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).to(D)
    x, y = torch.randn(2, B, 7, 2, dtype=D), torch.randn(2, B, 7, 1, dtype=D)
    return model, (x[0], y[0], x[1], y[1])


def factors(case, b, velocity):
    """(P_k, B_k, H_k, into) of every step as matrices on the state, and g of the state."""
    model, (xs, ys, xq, yq) = case
    trn, val = (
        flat_loss(model, F.mse_loss, xs[b], ys[b]),
        flat_loss(model, F.mse_loss, xq[b], yq[b]),
    )
    phi = initial_parameters(model)
    d = len(phi)
    v, eye = torch.zeros_like(phi), torch.eye(d, dtype=D)
    steps = []
    for _ in range(K):
        H = torch.autograd.functional.hessian(trn, phi)
        gamma = torch.autograd.functional.jacobian(trn, phi)
        if velocity:
            # (phi, v) -> (phi - a v', v') with v' = mu v + gamma; the adjoint transposes.
            P = torch.zeros(2 * d, 2 * d, dtype=D)
            P[:d, :d], P[d:, :d] = eye, -ALPHA * MOMENTUM * eye
            P[d:, d:] = MOMENTUM * eye
            into = torch.cat([ALPHA * eye, -eye], 1)  # -(d step / d gamma)^T
        else:
            P, into = eye, ALPHA * eye
        embed = torch.cat([eye, torch.zeros(len(P) - d, d, dtype=D)])
        steps.append((P, embed @ H @ into, H, embed, into))
        v = MOMENTUM * v + gamma if velocity else gamma
        phi = phi - ALPHA * v
    g = torch.autograd.functional.jacobian(val, phi)
    return steps, torch.cat([g, torch.zeros(len(steps[0][0]) - d, dtype=D)])


def expanded(steps, g, L, kept=(), low=None):
    """S_L(0): all products with at most L of the B_k of steps that are not kept."""
    S = [g] * (L + 1)
    for k in reversed(range(K)):
        P, through, _, embed, into = steps[k]
        if low is not None:
            P, through = P - embed @ low @ into, through - embed @ low @ into
        if k in kept:
            S = [(P - through) @ s for s in S]
        else:
            S = [P @ S[0]] + [P @ S[j] - through @ S[j - 1] for j in range(1, L + 1)]
    return S[L]


def ours(case, name, options, velocity=False, order="auto", **more):
    model, episodes = case
    given = {"optimizer_options": {"momentum": MOMENTUM}} if velocity else {}
    found = binomctl.meta_gradient(
        model, F.mse_loss, episodes, estimator=registry.create("estimator", name, options), K=K,
        alpha=ALPHA, per_task=True, order=order, **given, **more,
    )  # fmt: skip
    return torch.cat([found[n].reshape(B, -1) for n, _ in model.named_parameters()], 1)


def wanted(case, velocity, make):
    rows = []
    for b in range(B):
        steps, g = factors(case, b, velocity)
        rows.append(make(steps, g)[: len(steps[0][2])])
    return torch.stack(rows)


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "kept", "L"),
    [
        *[("head", {"m": m, "L": L}, range(m), L) for m in range(K + 1) for L in range(K - m + 1)],
        ("steps", {"kept": (0, 3), "L": 0}, (0, 3), 0),
        ("steps", {"kept": (1, 4), "L": 1}, (1, 4), 1),
        ("steps", {"kept": (2,), "L": 2}, (2,), 2),
        ("steps", {"kept": (3, 4), "L": 0}, (3, 4), 0),
        ("steps", {"kept": (), "L": 3}, (), 3),
        ("steps", {"kept": (4, 0, 2), "L": 2}, (0, 2, 4), 2),
    ],
)
def test_kept_steps_are_exact_in_their_places(case, name, options, kept, L, velocity, order):
    found = ours(case, name, options, velocity, order)
    right = wanted(case, velocity, lambda steps, g: expanded(steps, g, L, kept))
    assert float((found - right).norm() / right.norm()) < 1e-12


def krylov_matrix(steps, g, k, r, two_sided):
    """low(H_k) by an explicit Krylov basis of what H_k meets of g."""
    _, _, H, _, into = steps[k]
    start = into @ g
    basis = torch.stack([torch.linalg.matrix_power(H, i) @ start for i in range(r)], 1)
    Q = torch.linalg.qr(basis / basis.norm(dim=0))[0]
    T = Q @ Q.T @ H @ Q @ Q.T
    return H @ Q @ Q.T + Q @ Q.T @ H - T if two_sided else T


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize("form", ["two-sided", "projected"])
@pytest.mark.parametrize(("r", "L"), [(1, 0), (2, 0), (2, 1), (3, 2), (2, 5)])
def test_deflation_takes_a_krylov_part_out_of_the_expansion(case, r, L, form, velocity, order):
    found = ours(case, "deflated", {"r": r, "L": L, "form": form}, velocity, order)

    def right(steps, g):
        low = krylov_matrix(steps, g, (K - 1) // 2, r, form == "two-sided")
        return expanded(steps, g, L, low=low)

    error = found - wanted(case, velocity, right)
    assert float(error.norm() / found.norm()) < (
        1e-9 if r < 3 else 1e-7
    )  # the explicit basis is ill


@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deflated", {"r": 2, "L": K}),
        ("deflated", {"r": 2, "L": K, "segments": 3}),
        ("deflated", {"r": 2, "L": K, "q": K}),
        ("deflated", {"r": 0, "L": K, "tolerance": 1e-12}),
        ("unbiased", {"survive": 1.0}),
        ("unbiased", {"survive": 1.0, "r": 0}),
        ("auto", {"tolerance": 1e-9}),
        ("calibrated", {"L": K, "ridge": 0.0}),
        ("krylov", {"segments": K, "s": 1}),
    ],
)
def test_at_its_end_every_one_is_exact(case, name, options, velocity):
    found = ours(case, name, options, velocity)
    right = wanted(case, velocity, lambda steps, g: expanded(steps, g, K))
    assert float((found - right).norm() / right.norm()) < 1e-8


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("head", {"m": 2}), ("head", {"m": 1, "L": 2}), ("steps", {"kept": (0, 2), "L": 1}),
        ("deflated", {"r": 2, "L": 1}), ("deflated", {"r": 1, "L": 2, "q": 2}),
        ("unbiased", {}), ("auto", {"tolerance": 0.2}), ("krylov", {"segments": 4, "s": 2}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("rule", ["anil", "meta-sgd", "meta-curvature"])
def test_under_every_rule_the_first_adjoint_is_the_meta_gradient(
    case, name, options, rule, optimizer
):
    model, episodes = case
    how = {"K": K, "alpha": 0.02, "rule": rule, "optimizer": optimizer, "per_task": True}
    if optimizer == "adam":
        how["optimizer_options"] = {"epsilon_root": 1e-4}
    one = registry.create("estimator", name, options)
    found = binomctl.meta_gradient(model, F.mse_loss, episodes, estimator=one, **how)
    exact = binomctl.meta_gradient(model, F.mse_loss, episodes, estimator="maml", **how)
    first = binomctl.meta_gradient(model, F.mse_loss, episodes, estimator="fomaml", **how)
    assert set(found) == set(exact)
    assert all(bool(torch.isfinite(v).all()) for v in found.values())
    if (name, optimizer) == ("krylov", "adam"):
        return  # Adam's first steps are unlike one another: docs/beyond.md says so
    flat = [torch.cat([v.reshape(B, -1) for v in g.values()], 1) for g in (found, exact, first)]
    assert float((flat[0] - flat[1]).norm()) < 1.05 * float((flat[2] - flat[1]).norm())


def trajectory(case, velocity=False):
    model, (xs, ys, xq, yq) = case
    engine = AutogradEngine(model, F.mse_loss)
    update = registry.create_update("sgd", {"momentum": MOMENTUM}) if velocity else None
    rule = registry.create("rule", "gd", {})
    how = Adaptation(K, ALPHA, rule, torch.empty(0), Layout.of(model), update=update)
    batch = EpisodeBatch(xs, ys, xq, yq)
    return adapt_and_validate(engine, initial_parameters(model), batch, how, range(K))[0]


@pytest.mark.parametrize("r", [0, 2])
def test_the_random_truncation_is_unbiased(case, r):
    """10,000 draws: the mean is exact within four standard errors, and the spread is the one that
    the probabilities say."""
    at, one = trajectory(case), registry.create("estimator", "unbiased", {"r": r, "survive": 0.4})
    levels = [one.levels(K, draw) for draw in range(10_000)]
    said = {}
    for draw, J in enumerate(levels):
        if J not in said:
            rows, state = one.advance(at, {"draws": torch.tensor(draw)})
            said[J] = rows
            assert int(state["draws"]) == draw + 1
    counts = np.bincount(levels, minlength=K + 1)
    chances = [0.4**j * (0.6 if j < K else 1) for j in range(K + 1)]
    assert set(said) == set(range(K + 1))
    exact = ours(case, "maml", {})
    mean = sum(chances[j] * said[j] for j in said)
    assert float((mean - exact).norm() / exact.norm()) < 1e-12  # its expectation, exactly
    drawn = sum(int(counts[j]) * said[j] for j in said) / len(levels)
    spread = sum(chances[j] * (said[j] - exact) ** 2 for j in said).sum().sqrt()
    assert float((drawn - exact).norm()) < 4 * float(spread) / math.sqrt(len(levels))
    by_task = sum(chances[j] * (said[j] - exact).square().sum(1) for j in said).sqrt()
    told = one.diagnose(at, drawn)
    torch.testing.assert_close(told["spread"], by_task / exact.norm(dim=1))
    costs = r + np.array([sum(K - l + 1 for l in range(1, j + 1)) for j in range(K + 1)])
    assert float(told["products"][0]) == pytest.approx(float(np.dot(chances, costs)))


def test_the_defects_are_the_next_order_and_telescope(case):
    at = trajectory(case)
    for L in range(K):
        this, following = (ours(case, "binom", {"L": n}) for n in (L, L + 1))
        w = registry.create("estimator", "binom", {"L": L}).adjoints(at)
        wanted = (following - this).norm(dim=1) / this.norm(dim=1)
        torch.testing.assert_close(error_estimate(at, w), wanted, rtol=1e-9, atol=1e-14)
    exact = registry.create("estimator", "maml", {})
    assert float(error_estimate(at, exact.adjoints(at)).max()) < 1e-14


@pytest.mark.parametrize("velocity", [False, True])
def test_levels_until_a_tolerance(case, velocity):
    at = trajectory(case, velocity)
    for left, tolerance in ((at, 0.3), (deflated(at, 2), 0.02)):
        w, order, change = until(left, tolerance, K)
        assert 0 < order < K
        assert float(change.max()) <= tolerance
        changes = [until(left, 0.0, n)[2] for n in range(1, order)]
        assert all(float(c.max()) > tolerance for c in changes)
    alone = registry.create("estimator", "deflated", {"r": 2, "L": K, "tolerance": 0.02})
    assert torch.equal(alone.adjoints(at), w)


@pytest.mark.parametrize(
    ("steps", "L", "lo", "hi"),
    [(5, 2, 0.0, 1.0), (20, 3, -0.05, 0.4), (5, 4, -0.3, 1.8), (50, 1, 0.0, 0.01)],
)
def test_minimax_weights_alternate(steps, L, lo, hi):
    """Chebyshev's criterion: L + 2 extrema of alternating sign and one size."""
    c, worst = minimax_weights(steps, L, lo, hi)
    x = np.linspace(lo, hi, 20_001)
    error = (1 - x) ** steps - sum(
        float(c[j]) * math.comb(steps, j) * (-x) ** j for j in range(L + 1)
    )
    assert np.abs(error).max() == pytest.approx(worst, rel=2e-3)
    signs = np.sign(error[np.abs(error) > 0.98 * worst])
    assert (np.diff(signs) != 0).sum() >= L + 1
    taylor = (1 - x) ** steps - sum(math.comb(steps, j) * (-x) ** j for j in range(L + 1))
    assert worst < np.abs(taylor).max()


def test_weights_are_kept_from_fit_to_fit(case):
    at = trajectory(case)
    one = registry.create("estimator", "calibrated", {"L": 2, "every": 3})
    state = one.init_state(at.trajectory.adaptation.layout)
    weights = []
    for _ in range(4):
        _, state = one.advance(at, state)
        weights.append(state["weights"])
    assert all(torch.equal(w, weights[0]) for w in weights)
    assert not torch.equal(weights[0], torch.ones(1, 3, dtype=D))
    assert int(state["calls"]) == 4
    per_layer = registry.create("estimator", "calibrated", {"L": 2, "groups": "layers"})
    _, state = per_layer.advance(at, per_layer.init_state(at.trajectory.adaptation.layout))
    assert state["weights"].shape == (4, 3)
    exact = ours(case, "maml", {})
    errors = [
        float((e.advance(at, e.init_state(at.trajectory.adaptation.layout))[0] - exact).norm())
        for e in (one, per_layer)
    ]
    assert errors[1] < errors[0] < float((ours(case, "binom", {"L": 2}) - exact).norm())


def test_auto_keeps_its_choice_and_tells_it(case, caplog):
    at = trajectory(case)
    one = registry.create("estimator", "auto", {"tolerance": 0.1, "every": 2})
    state = one.init_state(at.trajectory.adaptation.layout)
    with caplog.at_level("INFO", logger="binomctl.notes"):
        _, state = one.advance(at, state)
        estimate, after = one.advance(at, state)
    assert torch.equal(after["way"], state["way"])
    assert sum("auto:" in r.message for r in caplog.records) == 1
    exact = ours(case, "maml", {})
    errors = (estimate - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(errors.median()) <= 0.1


@pytest.mark.parametrize("products", range(K + 1))
def test_auto_is_never_worse_than_truncation_at_its_products(case, products):
    at, exact = trajectory(case), ours(case, "maml", {})
    one = registry.create("estimator", "auto", {"products": products})
    rows, state = one.advance(at, one.init_state(at.trajectory.adaptation.layout))
    torch.testing.assert_close(rows, exact)  # where it chooses it has the exact one
    way, _ = one.advance(at, state)
    error, cut = ((e - exact).norm(dim=1) / exact.norm(dim=1)
                  for e in (way, ours(case, "trunc", {"L": products})))  # fmt: skip
    assert float(error.median()) <= float(cut.median()) + 1e-12


@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize(
    ("segments", "s"), [(1, 2), (1, 3), (2, 1), (2, 2), (3, 1), (3, 2), (1, 5)]
)
def test_segments_are_powers_in_a_krylov_space(case, segments, s, velocity):
    """With an explicit basis of w, A w, ..., A^{s-1} w; (1, 5) is the power itself."""
    edges = [-(-i * K // segments) for i in range(segments + 1)]

    def right(steps, g):
        w = g
        for lo, hi in reversed(list(itertools.pairwise(edges))):
            P, through = steps[(lo + hi - 1) // 2][:2]
            A, n = P - through, hi - lo
            if n <= s:
                w = torch.linalg.matrix_power(A, n) @ w
                continue
            basis = torch.stack([torch.linalg.matrix_power(A, i) @ w for i in range(s)], 1)
            Q = torch.linalg.qr(basis)[0]
            w = Q @ torch.linalg.matrix_power(Q.T @ A @ Q, n) @ (Q.T @ w)
        return w

    found = ours(case, "krylov", {"segments": segments, "s": s}, velocity)
    error = found - wanted(case, velocity, right)
    assert float(error.norm() / found.norm()) < 1e-9


def test_segments_know_the_last_outer_loss_alone(case):
    weights = [0.0, 0.0, 0.0, 0.5, 0.0, 0.5]
    with pytest.raises(ConfigError, match="phi\\^K alone"):
        ours(case, "krylov", {}, weights=weights)
    for name in ("auto", "head", "deflated"):  # the others know them all
        ours(case, name, {}, weights=weights)


def test_nodes_and_segments():
    assert nodes(5, 5) == [0, 1, 2, 3, 4]
    assert nodes(100, 3) == [7, 50, 92] or len(nodes(100, 3)) == 3
    assert middles(10, 1) == [4]
    assert middles(10, 2) == [2, 7]
    assert middles(5, 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("head", {"m": 6}, "m = 6 is greater than K = 5"),
        ("head", {"m": 3, "L": 3}, "L = 3 is greater than the 2 steps"),
        ("head", {"m": -1}, "m = -1 is negative"),
        ("steps", {"kept": (0, 7)}, r"steps \[0, 7\] cannot be kept of K = 5"),
        ("steps", {"kept": (1, 1)}, r"steps \[1, 1\] cannot"),
        ("deflated", {"r": 6}, "r = 6 is greater than K = 5"),
        ("deflated", {"q": 6}, "q = 6 is greater than K = 5"),
        ("deflated", {"tolerance": 1.5}, "no share between 0 and 1"),
        ("deflated", {"tolerance": 0.1, "q": 2}, "levels until a tolerance"),
        ("deflated", {"segments": 0}, "segments = 0"),
        ("minimax", {"every": 0}, "every = 0"),
        ("krylov", {"segments": 6}, "segments = 6 is greater than K = 5"),
        ("krylov", {"s": 0}, "s = 0"),
        ("calibrated", {"every": 0}, "every = 0"),
        ("unbiased", {"survive": 0.0}, "no chance"),
        ("auto", {"tolerance": 0.0}, "no share"),
    ],
)
def test_options_that_do_not_fit_are_named(case, name, options, words):
    with pytest.raises(ConfigError, match=words):
        ours(case, name, options)


def test_minimax_is_about_gradient_descent(case):
    with pytest.raises(ConfigError, match="no inner optimiser"):
        ours(case, "minimax", {}, velocity=True)


def test_a_gradient_of_zero_is_its_own_estimate(case):
    model, (xs, ys, xq, _) = case
    found = binomctl.meta_gradient(
        model, lambda p, y: (p * y).sum(), (xs, ys, xq, torch.zeros(B, 7, 1, dtype=D)),
        estimator="deflated", r=2, L=1, K=K, alpha=ALPHA,
    )  # fmt: skip
    assert not any(bool(v.any()) for v in found.values())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("head", {"m": 2, "L": 3}), ("steps", {"kept": (0, 1, 2, 3, 4)}), ("deflated", {"L": 5}),
        ("krylov", {"segments": 5}), ("unbiased", {"survive": 1.0}), ("calibrated", {"L": 5}),
        ("auto", {"tolerance": 1e-9}),
    ],
)  # fmt: skip
def test_bilevel_problems_take_them(name, options):
    """Ridge weights as outer variables: at its end each says what exact MAML says."""
    torch.manual_seed(3)
    X, y = torch.randn(2, 8, 3, dtype=D), torch.randn(2, 8, dtype=D)
    lam, phi = {"log": torch.zeros(3, dtype=D)}, {"w": torch.zeros(3, dtype=D)}

    def inner(phi, lam, batch):
        X, y = batch
        return ((X @ phi["w"] - y) ** 2).mean() + (lam["log"].exp() * phi["w"] ** 2).sum()

    def outer(phi, lam, batch):
        X, y = batch
        return ((X @ phi["w"] - y) ** 2).mean()

    def asked(estimator):
        return binomctl.hypergradient(
            inner, outer, lam, phi, ([(X[0], y[0])] * K, (X[1], y[1])), estimator=estimator, K=K,
            alpha=0.05,
        )["log"]  # fmt: skip

    found, exact = asked(registry.create("estimator", name, options)), asked("maml")
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-12)
    assert exact.any()


def test_a_spectrum_that_is_not_finite_is_named(case):
    at = trajectory(case)
    broken = type(at)(at.trajectory, at.g * float("inf"), at.curvature)
    with pytest.raises(NonFiniteError, match="spectrum of H_2 cannot be measured"):
        registry.create("estimator", "deflated", {"L": 0}).meta_gradient(broken)
