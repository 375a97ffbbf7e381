"""The door of bilevel problems: hypergradients of any pair of losses.

    min over lam of l_out(phi^K(lam), lam),    phi^{k+1} = U_k(phi^k, gamma_k),
    gamma_k = grad_phi l_in(phi^k, lam, batch_k)

With w_{k+1} the estimator's adjoint of the state after step k, q_k = (dU_k / dgamma_k)^T w_{k+1},

    d l_out / d lam = d l_out / d lam at phi^K held fixed
                      + sum over k of (d / d lam) <grad_phi l_in(phi^k, lam, batch_k), q_k>.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from binomctl.adapt import adapt, with_outer_losses
from binomctl.asked import Asked
from binomctl.contracts import Estimator, LearnsRule, Rule, Update
from binomctl.curvature.two_losses import InnerLosses, OuterLoss, TwoLoss
from binomctl.errors import ConfigError, NonFiniteError
from binomctl.flat import Layout

Named = Mapping[str, Tensor]


@dataclass(frozen=True)
class Hypergradient:
    """gradients: d l_out / d lam by name, and "rule.m" [n] where the rule has meta-parameters;
    loss: l_out(phi^K, lam), a scalar; phi: the adapted phi^K by name."""

    gradients: dict[str, Tensor]
    loss: Tensor
    phi: dict[str, Tensor]


def hypergradient(
    inner_loss: TwoLoss,
    outer_loss: TwoLoss,
    lam: Named,
    phi: Named,
    batches: tuple[Sequence[Any], Any],
    *,
    estimator: str | Estimator = "maml",
    K: int | None = None,
    alpha: float = 0.01,
    alphas: Sequence[float] | None = None,
    rule: str | Rule = "gd",
    rule_parameters: Tensor | None = None,
    optimizer: str | Update = "sgd",
    optimizer_options: Mapping[str, Any] | None = None,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    weights: Sequence[float] | None = None,
    memory: Literal["store", "recompute"] = "store",
    order: Literal["rows", "columns"] = "rows",
    allow_unused: bool = False,
    with_loss: bool = False,
    **estimator_options: Any,
) -> Any:
    """The gradient of an outer loss with respect to the variables of an inner problem.

    Args:
        inner_loss, outer_loss: (phi, lam, batch) -> a scalar; phi and lam are dicts of tensors.
        lam: the outer variables, real tensors by name.
        phi: the inner variables where the inner loop starts, by name; constants of the problem.
        batches: (inner_batches, outer_batch): K batches, one for each inner step, of any kind, and
            that of the outer loss.
        K: None takes the number of inner batches.
        estimator: one that gives adjoints: maml (reverse mode), binom, trunc, hybrid, fomaml.
        memory: "store" the graphs of the inner loop, or "recompute" them.
        order: of evaluation, as expansions have it.
        allow_unused: outer variables that no loss depends on get zeros instead of an error.
        with_loss: return a Hypergradient instead of the gradients alone.
        others: as `binomctl.asked.Asked` has them; the estimator's options follow by keyword.

    Returns:
        Gradients by the names of lam; "rule.m" [n] besides where the rule has meta-parameters.

    Raises:
        ConfigError: what does not fit, an outer variable that no loss depends on.
        NonFiniteError: the result is not finite.
    """
    inner, outer_batch = _two(batches)
    lam, phi = _checked("lam", lam), _checked("phi", phi)
    K = len(inner) if K is None else K
    if len(inner) != K:
        raise ConfigError(
            f"{len(inner)} inner batches for K = {K} inner steps",
            "Give one batch for each step, the same one K times for a fixed set.",
        )
    asked = Asked(
        estimator=estimator, K=K, alpha=alpha, alphas=alphas, rule=rule,
        rule_parameters=rule_parameters, optimizer=optimizer, optimizer_options=optimizer_options,
        clip_value=clip_value, clip_norm=clip_norm, weights=weights,
        estimator_options=estimator_options,
    )  # fmt: skip
    made = asked.made
    if not isinstance(made, LearnsRule):
        raise ConfigError(
            f"{type(made).__name__} gives no adjoints of the inner steps, which outer variables"
            " need",
            "Use an expansion: they give them under every inner loop.",
        )
    layout = Layout.of_tensors(phi)
    start = layout.flatten(phi).detach()
    how = asked.adaptation(layout, start)
    curvature = InnerLosses(inner_loss, lam, layout, inner, order, memory)
    trajectory = adapt(curvature, start, how, 1, asked.steps)
    direct = OuterLoss(outer_loss, lam, layout, outer_batch)
    g = direct.at(trajectory.phi[:, K], 1.0 if how.weights is None else how.weights[K])
    loss = direct.loss
    adapted = with_outer_losses(
        trajectory, curvature, g, lambda k, c: direct.at(trajectory.phi[:, k], c)
    )
    w = made.adjoints(adapted)
    for k in range(K):
        if w[:, k + 1].any():
            q = adapted.onto_gradients([k], w[:, k + 1 : k + 2])[:, 0]
            curvature.mixed(k, q)
    unused = [n for n in lam if n not in direct.reached | curvature.reached]
    if unused and not allow_unused:
        raise ConfigError(
            f"no loss depends on the outer variable(s) {', '.join(unused[:5])}",
            "Leave them out of lam, or ask for zeros with allow_unused=True.",
        )
    found = {n: direct.total[n] + curvature.total[n] for n in lam}
    if how.m.numel():
        found["rule.m"] = adapted.rule_gradient(w[:, 1:])[0]
    if not all(bool(torch.isfinite(t).all()) for t in found.values()):
        raise NonFiniteError("the hypergradient is not finite", "Lower alpha or K.")
    if not with_loss:
        return found
    return Hypergradient(found, loss, layout.unflatten(trajectory.phi[0, K]))


def _two(batches: Any) -> tuple[Sequence[Any], Any]:
    if not isinstance(batches, tuple | list) or len(batches) != 2:
        raise ConfigError("batches must be two things: (inner_batches, outer_batch)")
    if not isinstance(batches[0], tuple | list) or not len(batches[0]):
        raise ConfigError(
            "inner_batches must be a list with one batch for each inner step",
            "[batch] * K for a fixed set.",
        )
    return batches[0], batches[1]


def _checked(what: str, named: Named) -> dict[str, Tensor]:
    if not isinstance(named, Mapping) or not named:
        raise ConfigError(f"{what} must be a dict of tensors by name")
    for name, t in named.items():
        if not isinstance(t, Tensor) or not t.is_floating_point():
            kind = t.dtype if isinstance(t, Tensor) else type(t).__name__
            raise ConfigError(f"{what}['{name}'] is {kind}, not a tensor of real numbers")
        if not bool(torch.isfinite(t).all()):
            raise ConfigError(f"{what}['{name}'] is not finite")
    return {name: t.detach() for name, t in named.items()}
