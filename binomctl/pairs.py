"""Which estimator goes with which inner loop, and what an inner loop must be."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import vmap

from binomctl.contracts import (
    Adaptation,
    Directs,
    Draws,
    Estimator,
    Expands,
    FixedOnly,
    LearnsRule,
    Linear,
    LinearOnly,
    PlainOnly,
    Remembers,
    RemembersAdjoints,
    Starts,
    Stationary,
)
from binomctl.contracts.abilities import has
from binomctl.episodes import TaskNumbers
from binomctl.errors import ConfigError
from binomctl.noise import with_noise


def check_pair(estimator: Estimator, name: str, adaptation: Adaptation, rule_name: str) -> None:
    """Refuse an estimator under an inner loop it is not derived for.

    Raises:
        ConfigError: with the reason.
    """
    update = adaptation.update
    rule = adaptation.rule
    if isinstance(estimator, PlainOnly) and (not rule.plain or has(rule, Starts)):
        raise ConfigError(
            f"estimator '{name}' cannot be used under rule '{rule_name}': {estimator.plain_only}",
            "Use plain gradient descent without fixed parameters, or another estimator"
            " (binomctl plugins lists them).",
            key="rule.name",
        )
    learns = LearnsRule if not has(estimator, Remembers) else RemembersAdjoints
    if adaptation.m.numel() and not isinstance(estimator, learns):
        raise ConfigError(
            f"estimator '{name}' cannot be used under rule '{rule_name}': the rule's"
            f" {adaptation.m.numel():,} meta-parameters need the adjoints of every inner step,"
            " which it does not give",
            "Use an estimator that gives them, as every expansion does, or a rule without"
            " meta-parameters.",
            key="rule.name",
        )
    if isinstance(estimator, LinearOnly) and not adaptation.linear:
        raise ConfigError(
            f"estimator '{name}' cannot be used here: {estimator.linear_only}",
            "Use gradient descent with one step size and no clipping, or another estimator.",
            key="estimator.name",
        )
    if isinstance(estimator, FixedOnly) and _moves_all(adaptation):
        raise ConfigError(
            f"estimator '{name}' cannot be used under rule '{rule_name}', which adapts every"
            f" parameter: {estimator.fixed_only}",
            "Fix some of them (rule.fixed of gd, or a rule that adapts a part), or use another"
            " estimator.",
            key="rule.name",
        )
    if isinstance(estimator, Stationary) and update is not None and update.shifts:
        raise ConfigError(
            f"estimator '{name}' cannot be used with this inner optimiser: {estimator.stationary},"
            f" and {update.shifts}",
            "Set its weight decay to 0, or use another estimator.",
            key="adaptation.optimizer",
        )
    if isinstance(estimator, PlainOnly | Stationary) and adaptation.weights is not None:
        raise ConfigError(
            f"estimator '{name}' knows the outer loss at phi^K alone",
            "Leave adaptation.step_losses at last, or use another estimator.",
            key="adaptation.step_losses",
        )
    check_weights(adaptation)
    check_step(adaptation)


def exact_over(estimator: Estimator, K: int, alpha: float) -> int | None:
    """The last steps over which an estimator has every Hessian and before which it has none: K for
    the exact meta-gradient, 0 for first order; None where it is something else."""
    if not has(estimator, Expands) or has(estimator, Remembers):
        return None
    which = estimator.expansion(K, alpha)
    last = which.C if which.L else 0
    return last if which.alpha == alpha and which.L in (0, last) else None


def _moves_all(how: Adaptation) -> bool:
    if not has(how.rule, Linear):
        return False
    return bool(how.rule.apply_transpose(how.m, how.m.new_ones(how.layout.d), how.layout).all())


def check_weights(adaptation: Adaptation) -> None:
    """Refuse weights c_0 .. c_K of another length, not finite, or all zero."""
    weights, K = adaptation.weights, adaptation.K
    if weights is None:
        return
    if len(weights) != K + 1:
        raise ConfigError(
            f"{len(weights)} weights of outer losses for K = {K} inner steps",
            f"Give K + 1 = {K + 1}: c_0 at phi^0 to c_K at phi^K.",
            key="adaptation.step_losses",
        )
    if not all(-float("inf") < c < float("inf") for c in weights) or not any(weights):
        raise ConfigError(
            f"the weights of outer losses {list(weights)} must be finite, and one must not be 0",
            key="adaptation.step_losses",
        )


def check_step(adaptation: Adaptation) -> None:
    """Run the step once, on a task alone and among others: it must be pure and finite.

    Raises:
        ConfigError: it gives two answers for one input, other shapes, or no finite numbers.
    """
    how = adaptation
    if not isinstance(how.rule, Linear | Directs | Draws):
        raise ConfigError(
            f"the rule {type(how.rule).__name__} offers neither apply and apply_transpose nor"
            " direction",
            "See Linear and Directs in binomctl.contracts.",
            key="rule.name",
        )
    if not bool(torch.isfinite(how.m).all()):
        raise ConfigError("the rule's meta-parameters are not finite", key="rule.name")
    if how.linear:
        return
    like = how.m.new_empty(0) if how.m.is_floating_point() else torch.empty(0)
    random = torch.Generator().manual_seed(5)
    s = torch.zeros(2, how.slots + 1, how.layout.d)
    s[:, 0] = torch.randn(2, how.layout.d, generator=random)
    gamma = torch.randn(2, how.layout.d, generator=random)
    s, gamma = s.to(like), gamma.to(like)
    noise = with_noise(how, TaskNumbers(0, "check", range(2))).noise_of(2).to(like)

    def run() -> Tensor:
        out: Tensor = vmap(lambda s, gamma, e: how.step(0, how.m, s, gamma, e))(s, gamma, noise)
        return out

    what = "the inner step (rule and optimiser)"
    try:
        one, two = run(), run()
        alone = how.step(0, how.m, s[1], gamma[1], noise[1])
    except RuntimeError as error:
        raise ConfigError(
            f"{what} fails: {' '.join(str(error).split())[:200]}",
            "It must be torch operations on one task's tensors, without a decision on their"
            " values.",
            key="adaptation.optimizer",
        ) from error
    if one.shape != s.shape:
        raise ConfigError(f"{what} returns shape {list(one.shape[1:])}, not {list(s.shape[1:])}")
    if not torch.equal(one, two) or not torch.allclose(one[1], alone, rtol=1e-4, atol=1e-6):
        raise ConfigError(
            f"{what} gives two answers for one input: it must be pure, and see one task alone",
            key="adaptation.optimizer",
        )
    if not bool(torch.isfinite(one).all()):
        raise ConfigError(f"{what} makes a state that is not finite", key="adaptation.optimizer")
