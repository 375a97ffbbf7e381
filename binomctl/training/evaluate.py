"""Evaluation: adapt to unseen tasks, first order only, and score their query sets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from binomctl.adapt import adapt, support_curvature, support_of
from binomctl.contracts import Dataset
from binomctl.machine.ranks import ALONE, Ranks
from binomctl.problem.batch_norm import Statistics
from binomctl.problem.engines import evaluation_engine
from binomctl.problem.record import Problem


def evaluate(
    problem: Problem,
    theta: Tensor,
    m: Tensor,
    dataset: Dataset,
    split: str,
    tasks: int,
    steps: int,
    statistics: Statistics | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[float]:
    """The metric of each task, in order of episode index, NaN where a prediction is not finite; no
    second-order graph is built.

    Ranks share the tasks by whole batches, so that each is computed beside the same others, to the
    same bits, however many ranks there are.

    Args:
        problem: engine, rule and step size.
        theta: meta-parameters [d], and m [n] those of the rule.
        dataset: the data set with the query count and seed to evaluate with.
        split: "validation" or "test", say.
        tasks: number of episodes, indices 0 .. tasks - 1.
        steps: adaptation steps.
        statistics: what batch norm normalises with; None: the statistics of the batch at hand.
    """
    engine = evaluation_engine(problem, statistics)
    chunk = problem.config.training.meta_batch
    size, drawn = problem.config.evaluation.batch, problem.tasks(dataset)

    def scored(indices: range) -> Iterator[float]:
        batch = drawn.place(drawn.draw(split, indices, steps, size))
        curvature = support_curvature(engine, batch)
        how, support = problem.adaptation(batch, m, steps), support_of(engine, batch)
        trajectory = adapt(curvature, theta, how, len(batch), support=support)
        prediction = engine.predict(trajectory.phi[:, -1], batch.x_val)
        for output, y in zip(prediction, batch.y_val, strict=True):
            yield float(dataset.metric(output, y)) if _finite(output) else math.nan

    own = [range(a, min(a + chunk, tasks)) for a in ranks.mine(range(0, tasks, chunk))]
    if ranks.world == 1:
        for indices in own:
            yield from scored(indices)
        return
    with ranks.alike():
        found = [score for indices in own for score in scored(indices)]
        values = torch.tensor(found, dtype=torch.float64, device=problem.device)
        places = [i for indices in own for i in indices]
    yield from ranks.whole(values, places, tasks).tolist()


def _finite(output: Any) -> bool:
    """Whether predictions are numbers: the class of a NaN would be scored as an answer."""
    tensors = (t for t in tree_leaves(output) if isinstance(t, Tensor))
    return all(bool(torch.isfinite(t).all()) for t in tensors)
