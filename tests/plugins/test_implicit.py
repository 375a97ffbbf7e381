"""iMAML, Neumann and Reptile against dense solves and explicit loops, in float64."""

from __future__ import annotations

import pytest
import torch
from dense_oracle import flat_loss
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.episodes import EpisodeBatch, mini_batches
from binomctl.errors import ConfigError, NonFiniteError
from binomctl.flat import initial_parameters
from binomctl.settings import registry

B, K, ALPHA = 2, 6, 0.1


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(2, B, 7, 3, dtype=torch.float64)
    y = torch.randn(2, B, 7, 2, dtype=torch.float64)
    return model, EpisodeBatch(x[0], y[0], x[1], y[1])


def proximal_end(case, b, lam, steps=None):
    """phi^K of the proximal inner loop, H there and g, densely."""
    model, batch = case
    trn = flat_loss(model, F.mse_loss, batch.x_trn[b], batch.y_trn[b])
    val = flat_loss(model, F.mse_loss, batch.x_val[b], batch.y_val[b])
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    phi = theta
    for _ in range(K if steps is None else steps):
        gradient = torch.autograd.functional.jacobian(trn, phi) + lam * (phi - theta)
        phi = phi - ALPHA * gradient
    H = torch.autograd.functional.hessian(trn, phi)
    return phi, H, torch.autograd.functional.jacobian(val, phi)


def adapted_by(case, estimator, memory="store", steps=K):
    model, batch = case
    engine = AutogradEngine(model, F.mse_loss, memory=memory)
    rule = registry.create("rule", "gd", {})
    m, layout = rule.initial(engine.layout), engine.layout
    how = Adaptation(steps, ALPHA, rule, m, layout, proximal=estimator.proximal)
    theta = initial_parameters(model)
    return adapt_and_validate(engine, theta, batch, how, estimator.steps(steps))[0]


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("memory", ["store", "recompute"])
def test_imaml_converges_to_the_dense_solve_as_L_grows(case, memory):
    errors = []
    for L in (1, 2, 4, 8, 16, 26):
        estimator = registry.create("estimator", "imaml", {"L": L, "lam": 2.0})
        adapted = adapted_by(case, estimator, memory)
        found = estimator.meta_gradient(adapted)
        rows = []
        for b in range(B):
            phi, H, g = proximal_end(case, b, 2.0)
            torch.testing.assert_close(adapted.trajectory.phi[b, -1], phi, rtol=1e-11, atol=1e-13)
            solved = torch.linalg.solve(torch.eye(len(g), dtype=g.dtype) + H / 2.0, g)
            rows.append(solved)
            residual = estimator.diagnose(adapted, found)["cg_residual"][b]
            dense = (g - found[b] - H @ found[b] / 2.0).norm() / g.norm()
            assert abs(float(residual - dense)) < 1e-10
        errors.append(relative(found, torch.stack(rows)))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-10 < errors[2]


@pytest.mark.parametrize("steps", range(1, 7))
def test_for_every_K_both_solve_at_the_end_of_their_own_inner_loop(case, steps):
    imaml = registry.create("estimator", "imaml", {"L": 26, "lam": 2.0})
    neumann = registry.create("estimator", "neumann", {"L": 60, "lam": 8.0})
    solved = imaml.meta_gradient(adapted_by(case, imaml, steps=steps))
    summed = neumann.meta_gradient(adapted_by(case, neumann, steps=steps))
    for b in range(B):
        for found, lam in ((solved[b], 2.0), (summed[b], 8.0)):
            _, H, g = proximal_end(case, b, lam, steps)
            eye = torch.eye(len(g), dtype=g.dtype)
            assert relative(found, torch.linalg.solve(eye + H / lam, g)) < 1e-9


def test_the_authors_variant_has_no_proximal_term_and_starts_at_g(case):
    estimator = registry.create("estimator", "imaml", {"L": 1, "variant": "authors"})
    assert estimator.lam == 100.0
    assert estimator.proximal == 0
    found = estimator.meta_gradient(adapted_by(case, estimator))
    for b in range(B):
        _, H, g = proximal_end(case, b, 0.0)
        A = torch.eye(len(g), dtype=g.dtype) + H / 100.0
        r = g - A @ g
        expected = g + (r @ r) / (r @ A @ r) * r
        assert relative(found[b], expected) < 1e-12


@pytest.mark.parametrize("L", range(7))
def test_neumann_is_the_partial_sum(case, L):
    estimator = registry.create("estimator", "neumann", {"L": L, "lam": 3.0})
    found = estimator.meta_gradient(adapted_by(case, estimator))
    for b in range(B):
        _, H, g = proximal_end(case, b, 3.0)
        expected = sum(torch.linalg.matrix_power(-H / 3.0, j) @ g for j in range(L + 1))
        assert relative(found[b], expected) < 1e-10


def test_at_the_proximal_minimum_imaml_is_the_gradient_of_the_solution_map(case):
    """Finite differences of theta -> l_val(argmin l_trn + lam/2 |phi - theta|^2)."""
    model, batch = case
    lam, steps = 2.0, 400
    gradients = binomctl.meta_gradient(
        model, F.mse_loss, (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val),
        estimator="imaml", L=26, lam=lam, K=steps, alpha=ALPHA, per_task=True,
    )  # fmt: skip
    found = torch.cat([gradients[n][0].reshape(-1) for n, _ in model.named_parameters()])
    trn = flat_loss(model, F.mse_loss, batch.x_trn[0], batch.y_trn[0])
    val = flat_loss(model, F.mse_loss, batch.x_val[0], batch.y_val[0])
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def solution_loss(start):
        phi = start
        for _ in range(steps):
            leaf = phi.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(trn(leaf), leaf)
            phi = phi - ALPHA * (gradient + lam * (phi - start))
        return val(phi)

    direction = torch.randn(
        len(theta), dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    h = 1e-5
    slope = (solution_loss(theta + h * direction) - solution_loss(theta - h * direction)) / (2 * h)
    assert abs(float(slope - found @ direction)) < 1e-7 * float(found.norm() * direction.norm())


def test_reptile_is_the_way_back_to_theta_on_its_mini_batches(case):
    model, batch = case
    order = mini_batches(3, "train", range(B), 7, 3, K)
    estimator = registry.create("estimator", "reptile", {})
    engine = AutogradEngine(model, F.mse_loss)
    rule = registry.create("rule", "gd", {})
    how = Adaptation(K, ALPHA, rule, rule.initial(engine.layout), engine.layout)
    mini = EpisodeBatch(batch.x_trn, batch.y_trn, batch.x_val, batch.y_val, order)
    theta = initial_parameters(model)
    adapted, _, _ = adapt_and_validate(engine, theta, mini, how, estimator.steps(K))
    for b in range(B):
        phi = theta
        for k in range(K):
            rows = order[b, k]
            trn = flat_loss(model, F.mse_loss, batch.x_trn[b, rows], batch.y_trn[b, rows])
            phi = phi - ALPHA * torch.autograd.functional.jacobian(trn, phi)
        assert relative(estimator.meta_gradient(adapted)[b], theta - phi) < 1e-12


def test_hessians_of_mini_batch_steps_are_those_of_their_own_batch(case):
    """Exact MAML through mini-batches against plain backpropagation through the same loop."""
    model, batch = case
    order = mini_batches(4, "train", range(B), 7, 4, 3)
    engine = AutogradEngine(model, F.mse_loss)
    rule, theta = registry.create("rule", "gd", {}), initial_parameters(model)
    how = Adaptation(3, ALPHA, rule, rule.initial(engine.layout), engine.layout)
    mini = EpisodeBatch(batch.x_trn, batch.y_trn, batch.x_val, batch.y_val, order)
    maml = registry.create("estimator", "maml", {})
    adapted, _, _ = adapt_and_validate(engine, theta, mini, how, range(3))
    for b in range(B):
        start = theta.clone().requires_grad_()
        phi = start
        for k in range(3):
            rows = order[b, k]
            trn = flat_loss(model, F.mse_loss, batch.x_trn[b, rows], batch.y_trn[b, rows])
            (gradient,) = torch.autograd.grad(trn(phi), phi, create_graph=True)
            phi = phi - ALPHA * gradient
        val = flat_loss(model, F.mse_loss, batch.x_val[b], batch.y_val[b])
        (expected,) = torch.autograd.grad(val(phi), start)
        assert relative(maml.meta_gradient(adapted)[b], expected) < 1e-10


def test_every_example_is_seen_equally_often():
    order = mini_batches(0, "train", range(2), 6, 4, 3)
    for task in order:
        assert sorted(task.flatten().tolist()) == sorted([*range(6)] * 2)
    assert torch.equal(order, mini_batches(0, "train", range(2), 6, 4, 3))
    assert torch.equal(order[1:], mini_batches(0, "train", range(1, 2), 6, 4, 3))


def test_the_inner_adam_is_torch_s(case):
    model, batch = case
    rule, theta = registry.create("rule", "gd", {}), initial_parameters(model)
    engine = AutogradEngine(model, F.mse_loss)
    update = registry.create_update("adam", {"beta1": 0.3, "beta2": 0.99})
    how = Adaptation(K, 1e-2, rule, rule.initial(engine.layout), engine.layout, update=update)
    adapted, _, _ = adapt_and_validate(engine, theta, batch, how, range(0))
    for b in range(B):
        phi = theta.clone().requires_grad_()
        reference = torch.optim.Adam([phi], lr=1e-2, betas=(0.3, 0.99), eps=1e-8)
        trn = flat_loss(model, F.mse_loss, batch.x_trn[b], batch.y_trn[b])
        for _ in range(K):
            reference.zero_grad()
            trn(phi).backward()
            reference.step()
        torch.testing.assert_close(
            adapted.trajectory.phi[b, -1], phi.detach(), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("name", ["imaml", "neumann"])
@pytest.mark.parametrize("lam", [0.0, -1.0])
def test_lambda_must_be_positive(name, lam):
    with pytest.raises(ConfigError, match="must be positive"):
        registry.create("estimator", name, {"lam": lam})


def test_conjugate_gradients_that_leave_the_finite_numbers_name_the_culprit(case):
    estimator = registry.create("estimator", "imaml", {"L": 3, "lam": 2.0})
    adapted = adapted_by(case, estimator)
    broken = torch.full_like(adapted.g, float("inf"))
    with pytest.raises(NonFiniteError, match=r"step 1 of 3 in task\(s\) \[0, 1\].*lambda = 2"):
        estimator.meta_gradient(type(adapted)(adapted.trajectory, broken, adapted.curvature))


def test_a_solved_task_stays_solved(case):
    """With g = 0 in one task the residual is 0 at once: no 0/0 in later steps."""
    estimator = registry.create("estimator", "imaml", {"L": 40, "lam": 2.0})
    adapted = adapted_by(case, estimator)
    g = adapted.g.clone()
    g[0] = 0
    found = estimator.meta_gradient(type(adapted)(adapted.trajectory, g, adapted.curvature))
    assert found[0].norm() == 0
    assert torch.isfinite(found).all()
