"""Evaluation: adapt to unseen tasks, first order only, and score their query sets."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from binomctl.adapt import adapt
from binomctl.contracts import Dataset
from binomctl.problem import Problem


def evaluate(
    problem: Problem, theta: Tensor, dataset: Dataset, split: str, tasks: int, steps: int
) -> Iterator[float]:
    """The metric of each task, in order of episode index; no second-order graph is built.

    Args:
        problem: engine, rule and step size.
        theta: meta-parameters [d].
        dataset: the data set with the query count and seed to evaluate with.
        split: "validation" or "test", say.
        tasks: number of episodes, indices 0 .. tasks - 1.
        steps: adaptation steps.
    """
    adaptation = problem.adaptation(steps)
    chunk = problem.config.training.meta_batch
    for start in range(0, tasks, chunk):
        batch = problem.batch(dataset, split, range(start, min(start + chunk, tasks)))
        curvature = problem.engine.curvature(batch.x_trn, batch.y_trn)
        trajectory = adapt(curvature, theta, adaptation, len(batch))
        prediction = problem.engine.predict(trajectory.phi[:, -1], batch.x_val)
        for output, y in zip(prediction, batch.y_val, strict=True):
            yield float(dataset.metric(output, y))
