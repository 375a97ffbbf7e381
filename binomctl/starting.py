"""phi^0 of tasks that start elsewhere than at theta, and the way back to theta."""

from __future__ import annotations

import torch
from torch import Tensor

from binomctl.contracts import Adaptation, Starts, Support, Trajectory
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
            phi = _start(how, m, theta, support, b)
            found.append(
                torch.autograd.grad(phi, (theta, m), row, allow_unused=True, materialize_grads=True)
            )
    thetas, ms = zip(*found, strict=True)
    return torch.stack(thetas), torch.stack(ms)


def _start(how: Adaptation, m: Tensor, theta: Tensor, support: Support, b: int) -> Tensor:
    assert isinstance(how.rule, Starts)
    x, y = rows(support.x, b), rows(support.y, b)
    phi = how.rule.start(m, theta, x, y, how.layout, support.network)
    if phi.shape != theta.shape:
        raise ConfigError(
            f"the rule {type(how.rule).__name__} starts tasks at shape {list(phi.shape)},"
            f" not {list(theta.shape)}",
            key="rule.name",
        )
    return phi
