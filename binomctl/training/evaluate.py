"""Evaluation: adapt to unseen tasks, first order only, and score their query sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from binomctl.adapt import adapt, support_curvature, support_of
from binomctl.contracts import Dataset, Engine
from binomctl.curvature.traits import threads_for
from binomctl.episodes import EpisodeBatch
from binomctl.machine.ranks import ALONE, Ranks
from binomctl.problem.batch_norm import Statistics
from binomctl.problem.engines import evaluation_engine
from binomctl.problem.record import Problem


@dataclass(frozen=True)
class Trained:
    """Meta-parameters theta [d], those of the rule, m [n], and batch norm's averages; None: the
    statistics of the batch at hand."""

    theta: Tensor
    m: Tensor
    statistics: Statistics | None = None


def evaluate(
    problem: Problem,
    ensemble: Sequence[Trained],
    dataset: Dataset,
    split: str,
    tasks: int,
    steps: int,
    ranks: Ranks = ALONE,
    *,
    inductive: bool = False,
    told: Callable[[Tensor, Tensor], None] | None = None,
) -> Iterator[float]:
    """The metric of each task, in order of episode index, NaN where a prediction is not finite; no
    second-order graph is built.

    Ranks share the tasks by whole batches, so that each is computed beside the same others, to the
    same bits, however many ranks there are.

    Args:
        problem: engine, rule and step size.
        ensemble: what is adapted; of several the probabilities are averaged, of a regression the
            predictions.
        dataset: the data set with the query count and seed to evaluate with.
        split: "validation" or "test", say.
        tasks: number of episodes, indices 0 .. tasks - 1.
        steps: adaptation steps.
        inductive: each query beside the support set alone, as Nichol et al. 2018 do; otherwise all
            queries of a task together, which see one another where batch norm takes the
            statistics of the batch at hand.
        told: hears the finite predictions [M, out_dim] and targets y of this rank's tasks.
    """
    engines = [evaluation_engine(problem, one.statistics) for one in ensemble]
    chunk = problem.config.training.meta_batch
    size, drawn = problem.config.evaluation.batch, problem.tasks(dataset)
    evaluated = replace(problem, dataset=dataset)  # whose shots a sum per shot is divided by

    def predicted(engine: Engine, one: Trained, batch: EpisodeBatch) -> Any:
        curvature = support_curvature(engine, batch)
        how, support = evaluated.adaptation(batch, one.m, steps), support_of(engine, batch)
        trajectory = adapt(curvature, one.theta, how, len(batch), support=support)
        phi = trajectory.phi[:, -1]
        return _alone(engine, phi, batch) if inductive else engine.predict(phi, batch.x_val)

    def scored(indices: range) -> Iterator[float]:
        batch = drawn.place(drawn.draw(split, indices, steps, size))
        with threads_for(engines[0], len(indices)):
            found = [predicted(*pair, batch) for pair in zip(engines, ensemble, strict=True)]
        prediction = found[0] if len(found) == 1 else _mean(found, dataset.kind)
        for output, y in zip(prediction, batch.y_val, strict=True):
            finite = _finite(output)
            if finite and told is not None:
                told(output, y)
            yield float(dataset.metric(output, y)) if finite else math.nan

    own = [range(a, min(a + chunk, tasks)) for a in ranks.mine(range(0, tasks, chunk))]
    if ranks.world == 1:
        for indices in own:
            yield from scored(indices)
        return
    with ranks.alike():
        flat = [score for indices in own for score in scored(indices)]
        values = torch.tensor(flat, dtype=torch.float64, device=problem.device)
        places = [i for indices in own for i in indices]
    yield from ranks.whole(values, places, tasks).tolist()


SIDE_BY_SIDE = 8  # queries that are predicted at once, each with parameters and a support set


def _alone(engine: Engine, phi: Tensor, batch: EpisodeBatch) -> Tensor:
    """Predictions [B, N_val, out_dim], each query's beside the support set and no other query."""
    tasks = []
    for own, x_trn, x_val in zip(phi, batch.x_trn, batch.x_val, strict=True):
        parts = []
        for queries in x_val.split(SIDE_BY_SIDE):
            n = len(queries)
            beside = torch.cat([x_trn.expand(n, *x_trn.shape), queries[:, None]], 1)
            parts.append(engine.predict(own.expand(n, -1), beside)[:, -1])
        tasks.append(torch.cat(parts))
    return torch.stack(tasks)


def _mean(found: Sequence[Any], kind: str) -> Any:
    """The members' mean: of their probabilities, or of their predictions of numbers."""
    if kind != "classification":
        return torch.stack(list(found)).mean(0)
    # Logarithms of probabilities are logits of the same probabilities; none of them underflows.
    logs = torch.stack([one.log_softmax(-1) for one in found])
    return logs.logsumexp(0) - math.log(len(found))


def _finite(output: Any) -> bool:
    """Whether predictions are numbers: the class of a NaN would be scored as an answer."""
    tensors = (t for t in tree_leaves(output) if isinstance(t, Tensor))
    return all(bool(torch.isfinite(t).all()) for t in tensors)
