"""Does a bilevel problem keep what its contract promises?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from binomctl.contracts import Bilevel, HasQueryLoss
from binomctl.curvature.criterion import Criterion
from binomctl.flat import OUTER
from binomctl.testing.datasets import check_dataset
from binomctl.testing.small import built, promise


def check_problem(cls: type, options: Mapping[str, Any] | None = None) -> None:
    """Check a bilevel problem: all that `check_dataset` does, and its outer variables.

    Real tensors, the same at every call, none of which both losses leave out; an inner loop that
    moves none of them and an outer loop that learns them.

    Args:
        cls: the plugin class.
        options: by name; None takes the defaults.

    Raises:
        AssertionError: a promise is broken.
    """
    problem: Any = built(cls, options)
    promise(isinstance(problem, Bilevel), "it has no outer_variables(parameters)")
    parameters = {"body.weight": torch.ones(3, 2), "body.bias": torch.ones(3)}
    outer = problem.outer_variables(parameters)
    promise(len(outer) > 0, "there are no outer variables")
    for name, tensor in problem.outer_variables(parameters).items():
        promise(tensor.is_floating_point(), f"outer variable '{name}' has dtype {tensor.dtype}")
        promise(torch.equal(tensor, outer[name]), f"outer variable '{name}' is another one twice")
    _check_used(problem, parameters, outer)
    fixed = problem.recommended.get("rule", {}).get("fixed", ())
    learned = problem.recommended.get("training", {}).get("learned", ())
    for key, patterns in (("rule.fixed", fixed), ("training.learned", learned)):
        promise(f"{OUTER}*" in patterns, f"it recommends no {key} that holds '{OUTER}*'")
    check_dataset(cls, options)


def _check_used(problem: Any, parameters: dict[str, Any], outer: Mapping[str, Any]) -> None:
    """Every outer variable reaches a loss."""
    variables = {f"{OUTER}{n}": t.clone().requires_grad_() for n, t in outer.items()}
    episode = problem.episode("train", 0)
    losses = [(problem.loss, episode.y_trn)]
    if isinstance(problem, HasQueryLoss):
        losses.append((problem.query_loss, episode.y_val))
    total = torch.zeros(())
    for loss, y in losses:
        prediction = torch.zeros(len(y), problem.out_dim, requires_grad=True)
        total = total + Criterion.of(loss)(prediction, y, parameters | variables)
    reached = torch.autograd.grad(total, list(variables.values()), allow_unused=True)
    for name, gradient in zip(outer, reached, strict=True):
        promise(gradient is not None, f"no loss depends on outer variable '{name}'")
