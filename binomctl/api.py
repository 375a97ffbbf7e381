"""The library's door: meta-gradients of any nn.Module under any loss."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor, nn

from binomctl import registry
from binomctl.adapt import adapt_and_validate, check_pair, estimate
from binomctl.contracts import Adaptation, Proximal, Rule
from binomctl.curvature.autograd import Loss, Memory
from binomctl.curvature.choose import Kind, choose_engine
from binomctl.curvature.supported import check_inputs, check_model, check_repeats
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError, NonFiniteError, unknown
from binomctl.flat import initial_parameters


def meta_gradient(
    model: nn.Module,
    loss: Loss,
    episodes: tuple[Tensor, Tensor, Tensor, Tensor],
    *,
    estimator: str = "binom",
    K: int = 5,
    alpha: float = 0.01,
    rule: str | Rule = "gd",
    rule_parameters: Tensor | None = None,
    per_task: bool = False,
    memory: Memory = "store",
    engine: Kind = "auto",
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
        rule: a registered adaptation rule, or one constructed with options of its own.
        rule_parameters: the rule's meta-parameters m [n] (Meta-SGD, Meta-Curvature); None: those
            it starts with.
        per_task: return one gradient per task, with a leading axis B, instead of their mean.
        memory: "store" the linearisations of the inner loop, or "recompute" them.
        engine: "analytic", the layer algebra; "autograd", any module; "auto", the first where it
            knows the network.

    Returns:
        Gradients by name, as `model.named_parameters()` names them; "rule.m" [n] besides, when the
        rule has meta-parameters.

    Raises:
        ConfigError: an unknown name or option, L > K, K < 1, alpha <= 0, an unfit model or loss,
            an estimator that is not derived for the rule.
        NonFiniteError: the result is not finite.
    """
    if not isinstance(K, int) or isinstance(K, bool) or K < 1:
        raise ConfigError(f"K = {K!r} must be a whole number, at least 1")
    if not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
        raise ConfigError(f"alpha = {alpha!r} must be positive and finite")
    if memory not in get_args(Memory):
        raise ConfigError(unknown("memory", str(memory), get_args(Memory)))
    if engine not in get_args(Kind):
        raise ConfigError(unknown("engine", str(engine), get_args(Kind)))
    if len(episodes) != 4 or not all(isinstance(part, Tensor) for part in episodes):
        raise ConfigError("episodes must be four tensors: (x_trn, y_trn, x_val, y_val)")
    batch = EpisodeBatch(*episodes)
    sizes = {len(part) for part in episodes}
    if sizes == {0}:
        raise ConfigError("episodes hold no task: their leading axis is 0")
    if len(sizes) != 1:
        raise ConfigError(f"the four parts of episodes differ in their number of tasks: {sizes}")
    check_inputs(model, x_trn=batch.x_trn, x_val=batch.x_val)
    chosen = registry.create("estimator", estimator, estimator_options)
    adapts: Rule = registry.create("rule", rule, {}) if isinstance(rule, str) else rule
    check_model(model)
    check_repeats(model, batch.x_trn[0])
    chosen_engine = choose_engine(model, loss, batch.x_trn[0], kind=engine, memory=memory)
    theta = initial_parameters(model)
    m = adapts.initial(chosen_engine.layout).to(theta)
    if rule_parameters is not None:
        if rule_parameters.shape != m.shape:
            raise ConfigError(
                f"rule_parameters has shape {list(rule_parameters.shape)}, the rule has {len(m)}"
                " meta-parameters for this model"
            )
        m = rule_parameters.detach().to(theta)
    proximal = chosen.proximal if isinstance(chosen, Proximal) else 0.0
    how = Adaptation(K, alpha, adapts, m, chosen_engine.layout, proximal=proximal)
    check_pair(chosen, estimator, how, rule if isinstance(rule, str) else type(rule).__name__)
    adapted, _, _ = adapt_and_validate(chosen_engine, theta, batch, how, chosen.steps(K))
    rows, m_rows = estimate(chosen, adapted)
    if not (torch.isfinite(rows).all() and torch.isfinite(m_rows).all()):
        raise NonFiniteError("the meta-gradient is not finite", "Lower alpha or K.")
    result = chosen_engine.layout.unflatten(rows if per_task else rows.mean(0))
    if m.numel():
        result["rule.m"] = m_rows if per_task else m_rows.mean(0)
    return result
