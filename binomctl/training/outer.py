"""What a bilevel problem's outer variables have become."""

from __future__ import annotations

from torch import Tensor

from binomctl.contracts import Grouped
from binomctl.problem.record import Problem


def groups(problem: Problem, theta: Tensor) -> dict[str, Tensor]:
    """The values [n] of theta's outer variables by kind; {} where a problem has no kinds."""
    if not isinstance(problem.dataset, Grouped):
        return {}
    named = problem.engine.layout.unflatten(theta.detach())
    return dict(problem.dataset.groups(named))


def means(problem: Problem, theta: Tensor) -> dict[str, float]:
    """The mean of each."""
    return {label: float(values.mean()) for label, values in groups(problem, theta).items()}
