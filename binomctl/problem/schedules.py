"""What changes from inner step to inner step, and from meta-step to meta-step."""

from __future__ import annotations

import math

from binomctl.settings.config import AdaptationSection


def step_sizes(how: AdaptationSection, K: int) -> tuple[float, ...] | None:
    """alpha_0 .. alpha_{K-1}; None where all are alpha. Both schedules start at alpha, and would
    reach 0 at step K, which is none."""
    if how.alpha_schedule == "constant":
        return None
    if how.alpha_schedule == "linear":
        return tuple(how.alpha * (1 - k / K) for k in range(K))
    return tuple(how.alpha * 0.5 * (1 + math.cos(math.pi * k / K)) for k in range(K))


def step_losses(how: AdaptationSection, K: int, step: int) -> tuple[float, ...] | None:
    """The weights c_0 .. c_K of the outer losses at a meta-step; None for the last alone.

    Annealed: 1 / K each at phi^1 .. phi^K at first; all but the last fall to 0 linearly over
    `annealing_steps`, and the last takes what they lose (Antoniou et al. 2019, section 3).
    Weights of the configuration's own are as they stand there: `check_weights` refuses other
    lengths than K + 1.
    """
    chosen = how.step_losses
    if chosen == "last":
        return None
    if not isinstance(chosen, str):
        return tuple(chosen)
    left = 1.0 if chosen == "all" else max(0.0, 1 - step / how.annealing_steps)
    if not left:
        return None
    early = left / K
    return (0.0, *[early] * (K - 1), 1 - early * (K - 1))
