"""The inner loop (2b): theta -> the trajectories of B tasks."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor

from binomctl.contracts import Adaptation, Adapted, Curvature, Engine, Trajectory
from binomctl.episodes import EpisodeBatch


def adapt(
    curvature: Curvature, theta: Tensor, adaptation: Adaptation, B: int, keep: Container[int] = ()
) -> Trajectory:
    """Run K steps phi^{k+1} = phi^k - alpha M grad l_trn(phi^k) from phi^0 = theta.

    Args:
        curvature: an engine at work on the support sets.
        theta: the meta-parameters [d].
        adaptation: K, alpha and the rule M.
        B: number of tasks.
        keep: the k whose Hessians will be asked for later.
    """
    phi = theta.detach().expand(B, -1)
    path, losses = [phi], []
    for k in range(adaptation.K):
        loss, gradient = curvature.gradient(phi, k, keep=k in keep)
        direction = adaptation.rule.apply(adaptation.m, gradient, adaptation.layout)
        phi = phi - adaptation.alpha * direction
        path.append(phi)
        losses.append(loss)
    return Trajectory(theta, torch.stack(path, 1), torch.stack(losses, 1), adaptation)


def adapt_and_validate(
    engine: Engine,
    theta: Tensor,
    batch: EpisodeBatch,
    adaptation: Adaptation,
    keep: Container[int],
) -> tuple[Adapted, Tensor, Tensor]:
    """Adapt to every support set, then take g on the query sets.

    Returns:
        What an estimator needs, the query losses l_val(phi^K) [B] and the query outputs
        [B, N_val, out_dim].
    """
    curvature = engine.curvature(batch.x_trn, batch.y_trn)
    trajectory = adapt(curvature, theta, adaptation, len(batch), keep)
    loss, g, prediction = engine.query(trajectory.phi[:, -1], batch.x_val, batch.y_val)
    return Adapted(trajectory, g, curvature), loss, prediction
