"""phi^0 of tasks that start elsewhere than at theta, and the way back to theta."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from binomctl.contracts import Adaptation, Regularises, Rule, Starts, Support, Trajectory
from binomctl.contracts.abilities import has
from binomctl.curvature.outputs import rows
from binomctl.errors import ConfigError


def started(how: Adaptation, theta: Tensor, support: Support, B: int) -> Tensor:
    """phi^0 [B, d] of a rule that makes it of theta [d] and the support sets.

    Task by task and by plain autograd: the rule may call the network, which may be any.
    """
    with torch.no_grad():
        phi = torch.stack([_start(how, how.m, theta, support, b) for b in range(B)])
    if not bool(torch.isfinite(phi).all()):
        raise ConfigError(
            f"the rule {type(how.rule).__name__} starts tasks at parameters that are not finite",
            key="rule.name",
        )
    return phi


def to_theta(trajectory: Trajectory, w: Tensor) -> tuple[Tensor, Tensor | None]:
    """Cotangents w [B, d] of phi^0 pulled back to theta [B, d] and m [B, n]; they are theta's own,
    and m has none, where every task starts at theta."""
    support, how = trajectory.support, trajectory.adaptation
    if support is None:
        return w, None
    found = []
    for b, row in enumerate(w):
        theta, m = (t.detach().clone().requires_grad_() for t in (trajectory.theta, how.m))
        with torch.enable_grad(), support.network.holding(theta):
            value = (_start(how, m, theta, support, b) * row).sum()
            if isinstance(how.rule, Regularises):
                value = value + _penalty(trajectory, m, theta, support, b)
            both = (theta, m)
            found.append(
                torch.autograd.grad(value, both, allow_unused=True, materialize_grads=True)
            )
    thetas, ms = zip(*found, strict=True)
    return torch.stack(thetas), torch.stack(ms)


def _penalty(trajectory: Trajectory, m: Tensor, theta: Tensor, support: Support, b: int) -> Tensor:
    how = trajectory.adaptation
    rule, phi = _rule(how, support, b), trajectory.phi[b, -1].detach()
    assert isinstance(rule, Regularises)
    x, y = rows(support.x, b), rows(support.y, b)
    return rule.penalty(m, theta, phi, x, y, how.layout, support.network)


def _rule(how: Adaptation, support: Support, b: int) -> Rule:
    """That of a task."""
    return how.rule_of(how.noise_of(len(tree_leaves(support.y)[0]))[b])


def _start(how: Adaptation, m: Tensor, theta: Tensor, support: Support, b: int) -> Tensor:
    rule = _rule(how, support, b)
    assert has(rule, Starts)
    x, y = rows(support.x, b), rows(support.y, b)
    phi = rule.start(m, theta, x, y, how.layout, support.network)
    if phi.shape != theta.shape:
        raise ConfigError(
            f"the rule {type(how.rule).__name__} starts tasks at shape {list(phi.shape)},"
            f" not {list(theta.shape)}",
            key="rule.name",
        )
    return phi
