"""A meta-batch in sum, over all tasks, whichever rank computed them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.episodes import EpisodeBatch
from binomctl.machine.ranks import Ranks
from binomctl.problem.record import Problem
from binomctl.training.step import Computed


@dataclass(frozen=True)
class Total:
    """Query losses [B], which tasks' numbers are all finite [B], and the estimates of theta's [d]
    and m's [n] gradients, their sum over the tasks or their mean; scores [B], None where nobody
    has scored yet."""

    loss: Tensor
    finite: Tensor
    gradients: list[Tensor]
    score: Tensor | None = None


def in_one(problem: Problem, at: Computed) -> Total:
    """The total where one process has computed all tasks."""
    mean = problem.config.training.reduction == "mean"
    gradients = [g.mean(0) if mean else g.sum(0) for g in at.per_task]
    return Total(at.loss, _finite(at), gradients)


def packed(problem: Problem, at: Computed, batch: EpisodeBatch, ranks: Ranks, size: int) -> Tensor:
    """This rank's part of a meta-batch of `size` tasks, flat: sums of gradients, then three places
    per task, of which it fills those of its own.

    Its tasks are summed in their order, r, r + W, ...
    """
    places = list(ranks.mine(range(size)))
    own = len(places)
    finite = _finite(at)[:own]
    # A metric is not asked about outputs that are no numbers: the step is refused for them.
    scored = bool(finite.all()) and own > 0
    score = scores(problem, at, batch)[:own] if scored else torch.zeros_like(at.loss[:own])
    parts = [g[:own].sum(0) for g in at.per_task]
    for values in (at.loss[:own], score, finite):
        slots = parts[0].new_zeros(size)
        slots[places] = values.to(slots)
        parts.append(slots)
    return torch.cat(parts)


def unpacked(problem: Problem, flat: Tensor, size: int) -> Total:
    """The total out of the sum of all ranks' parts; means are divided by the number of all tasks
    here, once."""
    d, n = problem.theta.numel(), problem.m.numel()
    theta, m = flat[:d], flat[d : d + n]
    loss, score, finite = flat[d + n :].view(3, size)
    count = size if problem.config.training.reduction == "mean" else 1
    return Total(loss, finite.bool(), [theta / count, m / count], score)


def scores(problem: Problem, at: Computed, batch: EpisodeBatch) -> Tensor:
    """The metric of every task [B]."""
    metric = problem.dataset.metric
    return torch.stack([metric(p, y) for p, y in zip(at.prediction, batch.y_val, strict=True)])


def _finite(at: Computed) -> Tensor:
    good = torch.isfinite(at.loss)
    for gradient in at.per_task:
        good = good & torch.isfinite(gradient).all(-1)
    return good
