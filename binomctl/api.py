"""The library's door: meta-gradients of any nn.Module under any loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from binomctl import registry
from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation
from binomctl.curvature.autograd import AutogradEngine, Loss, Memory
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError, NonFiniteError
from binomctl.flat import initial_parameters


def meta_gradient(
    model: nn.Module,
    loss: Loss,
    episodes: tuple[Tensor, Tensor, Tensor, Tensor],
    *,
    estimator: str = "binom",
    K: int = 5,
    alpha: float = 0.01,
    rule: str = "gd",
    per_task: bool = False,
    memory: Memory = "store",
    **estimator_options: Any,
) -> dict[str, Tensor]:
    """The meta-gradient of mean l_val(phi^K(theta)) at the model's current parameters theta.

    Args:
        model: any module without running statistics or active dropout; it is not changed.
        loss: maps one task's outputs [N, ...] and targets [N, ...] to a scalar.
        episodes: (x_trn [B, N, ...], y_trn [B, N, ...], x_val [B, M, ...], y_val [B, M, ...]).
        estimator: a registered estimator; its options follow by keyword (L=2, say).
        K: inner gradient steps, at least 1.
        alpha: inner step size, positive.
        rule: a registered adaptation rule.
        per_task: return one gradient per task, with a leading axis B, instead of their mean.
        memory: "store" the linearisations of the inner loop, or "recompute" them.

    Returns:
        Gradients by name, as `model.named_parameters()` names them.

    Raises:
        ConfigError: an unknown name or option, L > K, K < 1, alpha <= 0, an unfit model or loss.
        NonFiniteError: the result is not finite.
    """
    if K < 1:
        raise ConfigError(f"K = {K} must be at least 1")
    if not 0 < alpha < float("inf"):
        raise ConfigError(f"alpha = {alpha} must be positive and finite")
    batch = EpisodeBatch(*episodes)
    sizes = {len(part) for part in episodes}
    if len(sizes) != 1:
        raise ConfigError(f"the four parts of episodes differ in their number of tasks: {sizes}")
    chosen = registry.create("estimator", estimator, estimator_options)
    adapts = registry.create("rule", rule, {})
    engine = AutogradEngine(model, loss, memory=memory)
    theta = initial_parameters(model)
    m = adapts.initial(engine.layout).to(theta)
    how = Adaptation(K, alpha, adapts, m, engine.layout)
    adapted, _, _ = adapt_and_validate(engine, theta, batch, how, chosen.steps(K))
    rows = chosen.meta_gradient(adapted)
    if not torch.isfinite(rows).all():
        raise NonFiniteError("the meta-gradient is not finite", "Lower alpha or K.")
    return engine.layout.unflatten(rows if per_task else rows.mean(0))
