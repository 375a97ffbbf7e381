"""Inner optimisers, clipping, schedules and outer losses on the way, under every expansion
estimator, against backpropagation through the whole loop and dense Hessians in float64.

The oracle writes every optimiser out once more, on single tasks with explicit slots.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from dense_oracle import flat_loss
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.settings import registry

B, ALPHA = 2, 0.1
D = torch.float64


def zero(n):
    return torch.zeros(n, dtype=D)


def heavy_ball(k, s, u, a):
    v = 0.9 * s[1] + u
    return [s[0] - a * v, v]


def nesterov(k, s, u, a):
    v = 0.8 * s[1] + u
    return [s[0] - a * (u + 0.8 * v), v]


def decayed(k, s, u, a):
    return [s[0] - a * (u + 0.05 * s[0])]


def adam(k, s, u, a, wd=0.0):
    m = 0.9 * s[1] + 0.1 * u
    v = 0.99 * s[2] + 0.01 * u * u
    move = (m / (1 - 0.9 ** (k + 1))) / ((v / (1 - 0.99 ** (k + 1)) + 1e-6).sqrt() + 1e-3)
    return [s[0] - a * wd * s[0] - a * move, m, v]


def adamw(k, s, u, a):
    return adam(k, s, u, a, wd=0.1)


def rmsprop(k, s, u, a):
    v = 0.9 * s[1] + 0.1 * u * u
    w = 0.5 * s[2] + u / ((v + 1e-6).sqrt() + 1e-3)
    return [s[0] - a * w, v, w]


def plain(k, s, u, a):
    return [s[0] - a * u]


SMALL = {"beta2": 0.99, "epsilon": 1e-3, "epsilon_root": 1e-6}
UPDATES = {
    "sgd": ({}, plain, 0),
    "momentum": ({"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}}, heavy_ball, 1),
    "nesterov": (
        {"optimizer": "sgd", "optimizer_options": {"momentum": 0.8, "nesterov": True}}, nesterov, 1
    ),
    "decay": ({"optimizer": "sgd", "optimizer_options": {"weight_decay": 0.05}}, decayed, 0),
    "adam": ({"optimizer": "adam", "optimizer_options": SMALL}, adam, 2),
    "adamw": ({"optimizer": "adamw", "optimizer_options": SMALL | {"weight_decay": 0.1}}, adamw, 2),
    "rmsprop": (
        {
            "optimizer": "rmsprop",
            "optimizer_options": {
                "decay": 0.9, "epsilon": 1e-3, "epsilon_root": 1e-6, "momentum": 0.5
            },
        },
        rmsprop,
        2,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x, y = torch.randn(2, B, 5, 2, dtype=D), torch.randn(2, B, 5, 2, dtype=D)
    losses = [
        tuple(flat_loss(model, F.mse_loss, x[i, b], y[i, b]) for i in (0, 1)) for b in range(B)
    ]
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return model, (x[0], y[0], x[1], y[1]), theta, losses


def unrolled(step, S, trn, val, theta, K, weights, m=None, direction=lambda k, m, phi, g: g):
    """d (sum c_k l_val(phi^k)) / d theta and / d m, by backpropagation through everything."""
    start = theta.clone().requires_grad_()
    m = zero(0) if m is None else m
    m = m.clone().requires_grad_()
    s, total = [start, *(zero(len(theta)) for _ in range(S))], weights[0] * val(start)
    for k in range(K):
        (g,) = torch.autograd.grad(trn(s[0]), s[0], create_graph=True)
        s = step(k, s, direction(k, m, s[0], g), ALPHA)
        total = total + weights[k + 1] * val(s[0])
    return torch.autograd.grad(total, (start, m), allow_unused=True, materialize_grads=True)


def dense(step, S, trn, val, theta, K, weights):
    """Per step the Jacobian's two parts, past the Hessian and through it, and the sources."""
    d, jac = len(theta), torch.autograd.functional.jacobian
    flat = torch.cat([theta, *(zero(d) for _ in range(S))])

    def whole(k):
        def function(flat, g):
            return torch.cat(step(k, list(flat.split(d)), g, ALPHA))

        return function

    past, through, sources = [], [], [weights[0] * jac(val, theta)]
    for k in range(K):
        phi = flat[:d]
        g, H = jac(trn, phi), torch.autograd.functional.hessian(trn, phi)
        by_state, by_gradient = jac(whole(k), (flat, g))
        past.append(by_state.T)
        full = torch.zeros(len(flat), len(flat), dtype=D)
        full[:d] = H @ by_gradient.T
        through.append(full)
        flat = whole(k)(flat, g)
        sources.append(weights[k + 1] * jac(val, flat[:d]))
    return past, through, [torch.cat([v, zero(S * d)]) for v in sources]


def subsets(past, through, sources, L, C, c):
    """All products with at most L Hessians among the last C steps, term by term."""
    K, total = len(past), torch.zeros_like(sources[0])
    for end, source in enumerate(sources):
        reach = range(max(0, K - C), end)
        for j in range(L + 1):
            for chosen in itertools.combinations(reach, j):
                w = source
                for k in reversed(range(end)):
                    w = c * (through[k] @ w) if k in chosen else past[k] @ w
                total = total + w
    return total


def ours(case, estimator, K, **options):
    model, episodes, _, _ = case
    found = binomctl.meta_gradient(
        model, F.mse_loss, episodes, estimator=estimator, K=K, alpha=ALPHA, per_task=True, **options
    )
    return torch.cat([found[n].reshape(B, -1) for n, _ in model.named_parameters()], 1), found


def off(found, expected):
    return float((found - expected).norm() / expected.norm())


def weighted(kind, K):
    if kind == "last":
        return None, [0.0] * K + [1.0]
    weights = [0.1 * (k + 1) for k in range(K + 1)]
    return weights, weights


@pytest.mark.parametrize("losses", ["last", "many"])
@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("K", range(1, 7))
def test_maml_is_backpropagation_through_the_whole_loop(case, name, K, losses):
    options, step, S = UPDATES[name]
    given, weights = weighted(losses, K)
    for engine in ("analytic", "autograd"):
        rows, _ = ours(case, "maml", K, engine=engine, weights=given, **options)
        for b, task in enumerate(case[3]):
            exact, _ = unrolled(step, S, *task, case[2], K, weights)
            assert off(rows[b], exact) < 1e-9


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("losses", ["last", "many"])
@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("K", [1, 3, 4])
def test_every_expansion_for_all_L_and_C(case, name, K, losses, order):
    options, step, S = UPDATES[name]
    given, weights = weighted(losses, K)
    parts = [dense(step, S, *task, case[2], K, weights) for task in case[3]]
    d, cases = len(case[2]), [("fomaml", {}, 0, K, 1.0)]
    for L in range(K + 1):
        cases.append(("binom", {"L": L}, L, K, 1.0))
        cases.append(("binom", {"L": L, "alpha_scaling": "paper"}, L, K, L / K))
        cases.append(("trunc", {"L": L}, L, L, 1.0))
        cases += [("hybrid", {"L": L, "C": C}, L, C, 1.0) for C in range(L, K + 1)]
    for estimator, more, L, C, c in cases:
        rows, _ = ours(case, estimator, K, order=order, weights=given, **options, **more)
        for b in range(B):
            assert off(rows[b], subsets(*parts[b], L, C, c)[:d]) < 1e-9, (estimator, more)


@pytest.mark.parametrize("rule", ["anil", "meta-sgd", "meta-curvature"])
@pytest.mark.parametrize("name", UPDATES)
def test_rules_compose_with_every_optimiser(case, name, rule):
    options, step, S = UPDATES[name]
    K, made = 3, registry.create("rule", rule, {})
    from binomctl.flat import Layout

    layout = Layout.of(case[0])
    torch.manual_seed(3)
    m = made.initial(layout).double()
    m = m + 0.2 * torch.randn(len(m), dtype=D)
    given = {"rule_parameters": m} if len(m) else {}
    rows, found = ours(case, "maml", K, rule=rule, **options, **given)
    for b, task in enumerate(case[3]):
        exact, exact_m = unrolled(
            step, S, *task, case[2], K, [0.0] * K + [1.0], m,
            lambda k, m, phi, g: made.apply(m, g, layout),
        )  # fmt: skip
        assert off(rows[b], exact) < 1e-9
        if len(m):
            assert off(found["rule.m"][b], exact_m) < 1e-9


@pytest.mark.parametrize(
    ("options", "clipped"),
    [
        ({"clip_value": 0.2}, lambda g: g.clamp(-0.2, 0.2)),
        ({"clip_norm": 0.3}, lambda g: g * (0.3 / g.norm()).clamp(max=1.0)),
        ({"clip_norm": 1e6}, lambda g: g),
    ],
)
def test_clipping_is_part_of_the_derivative(case, options, clipped):
    for name in ("sgd", "momentum", "adam"):
        more, step, S = UPDATES[name]
        rows, _ = ours(case, "maml", 4, **options, **more)
        for b, task in enumerate(case[3]):
            exact, _ = unrolled(
                step, S, *task, case[2], 4, [0.0] * 4 + [1.0],
                direction=lambda k, m, phi, g: clipped(g),
            )  # fmt: skip
            assert off(rows[b], exact) < 1e-9


def test_a_rate_per_step(case):
    alphas = [0.2, 0.1, 0.02]
    rows, _ = ours(case, "maml", 3, alphas=alphas)
    for b, task in enumerate(case[3]):
        exact, _ = unrolled(
            lambda k, s, u, a: [s[0] - alphas[k] * u], 0, *task, case[2], 3, [0.0] * 3 + [1.0]
        )
        assert off(rows[b], exact) < 1e-9


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("sgd", {"momentum": 0.9}, lambda p: torch.optim.SGD([p], ALPHA, momentum=0.9)),
        (
            "sgd",
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
            lambda p: torch.optim.SGD([p], ALPHA, 0.9, weight_decay=0.1, nesterov=True),
        ),
        ("adam", {"weight_decay": 0.1}, lambda p: torch.optim.Adam([p], ALPHA, weight_decay=0.1)),
        ("adamw", {"weight_decay": 0.1}, lambda p: torch.optim.AdamW([p], ALPHA, weight_decay=0.1)),
        (
            "rmsprop",
            {"momentum": 0.5},
            lambda p: torch.optim.RMSprop([p], ALPHA, alpha=0.99, momentum=0.5),
        ),
    ],
)
def test_the_path_is_that_of_torch_s_optimisers(case, name, options, reference):
    """Reptile returns theta - phi^K, and so shows where the path ends."""
    rows, _ = ours(case, "reptile", 5, optimizer=name, optimizer_options=options)
    for b, (trn, _) in enumerate(case[3]):
        phi = case[2].clone().requires_grad_()
        optimiser = reference(phi)
        for _ in range(5):
            optimiser.zero_grad()
            trn(phi).backward()
            optimiser.step()
        torch.testing.assert_close(case[2] - rows[b], phi.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop"])
def test_a_gradient_that_is_exactly_zero_leaves_finite_numbers(name):
    """A dead ReLU: its entries have moments 0, where the root has no derivative. Backpropagation
    through the formula gives NaN; ours is that of the network without the dead unit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0.0, -1.0
    x, y = torch.randn(2, B, 5, 2, dtype=D), torch.randn(2, B, 5, 1, dtype=D)
    small = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        small[0].weight.copy_(model[0].weight[[0, 2]])
        small[0].bias.copy_(model[0].bias[[0, 2]])
        small[2].weight.copy_(model[2].weight[:, [0, 2]])
        small[2].bias.copy_(model[2].bias)
    how = {"estimator": "maml", "K": 3, "alpha": 0.01, "optimizer": name}
    how["optimizer_options"] = {"weight_decay": 0.0}
    episodes = (x[0], y[0], x[1], y[1])
    found = binomctl.meta_gradient(model, F.mse_loss, episodes, **how)
    wanted = binomctl.meta_gradient(small, F.mse_loss, episodes, **how)
    assert all(torch.isfinite(g).all() for g in found.values())
    torch.testing.assert_close(found["0.weight"][[0, 2]], wanted["0.weight"], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found["2.bias"], wanted["2.bias"], rtol=1e-8, atol=1e-10)


def test_an_outer_loss_of_its_own(case):
    model, episodes, theta, _ = case

    def absolute(prediction, y):
        return (prediction - y).abs().pow(1.5).mean()

    rows, _ = ours(case, "maml", 3, outer_loss=absolute)
    for b in range(B):
        trn = flat_loss(model, F.mse_loss, episodes[0][b], episodes[1][b])
        val = flat_loss(model, absolute, episodes[2][b], episodes[3][b])
        exact, _ = unrolled(plain, 0, trn, val, theta, 3, [0.0] * 3 + [1.0])
        assert off(rows[b], exact) < 1e-9
