"""Does a data set keep what its contract promises?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.contracts import Bilevel, Dataset, HasQueryLoss
from binomctl.curvature.criterion import Criterion
from binomctl.episodes import Metric
from binomctl.errors import DataError
from binomctl.flat import OUTER
from binomctl.settings.config import Config
from binomctl.settings.layers import merge
from binomctl.testing.small import built, promise


def check_dataset(cls: type, options: Mapping[str, Any] | None = None) -> None:
    """Check a data set: its declarations, and the first episodes of every split.

    Episodes pure in (seed, split, index), shapes as declared, a scalar differentiable loss
    (and query_loss, where there is one), a scalar metric, an unknown split refused, a
    recommendation that is a valid configuration.

    Args:
        cls: the plugin class.
        options: by name; None takes the defaults.

    Raises:
        AssertionError: a promise is broken.
    """
    dataset: Dataset = built(cls, options)
    again: Dataset = built(cls, options)
    Config.model_validate(merge(Config().model_dump(), dataset.recommended))
    promise({"train", "validation", "test"} <= set(dataset.splits), f"splits: {dataset.splits}")
    for split in dataset.splits:
        first = dataset.episode(split, 0)
        dataset.episode(split, 1)
        for field in dataclasses.fields(first):
            one, two = getattr(first, field.name), getattr(again.episode(split, 0), field.name)
            promise(torch.equal(one, two), f"{field.name} of '{split}' 0 is not the same twice")
        other = dataset.episode(split, 1)
        one_task = dataset.recommended.get("evaluation", {}).get("tasks") == 1
        same = torch.equal(first.x_trn, other.x_trn) and torch.equal(first.y_trn, other.y_trn)
        promise(
            one_task or not same,
            f"episodes 0 and 1 of '{split}' agree",
        )
        for x, y in ((first.x_trn, first.y_trn), (first.x_val, first.y_val)):
            promise(tuple(x.shape[1:]) == dataset.in_shape, f"x has shape {list(x.shape)}")
            promise(len(x) == len(y) > 0, "x and y differ in length")
            if not (isinstance(dataset, Bilevel) and y is first.y_trn):  # its loss reads them
                _check_targets(dataset, y)
    _check_losses(dataset)
    try:
        dataset.episode("no such split", 0)
    except DataError:
        return
    raise AssertionError("an unknown split is not refused with a DataError")


def _check_targets(dataset: Dataset, y: Tensor) -> None:
    if dataset.kind == "classification":
        promise(y.dtype == torch.int64, f"class indices have dtype {y.dtype}")
        promise(int(y.min()) >= 0 and int(y.max()) < dataset.out_dim, "a class is out of range")
    else:
        promise(y.is_floating_point(), f"targets have dtype {y.dtype}")


def _check_losses(dataset: Dataset) -> None:
    episode = dataset.episode("train", 0)
    _check_loss(dataset, "loss", dataset.loss, episode.y_trn)
    if isinstance(dataset, HasQueryLoss):
        _check_loss(dataset, "query_loss", dataset.query_loss, episode.y_val)
    y = episode.y_trn
    metric = dataset.metric(torch.zeros(len(y), dataset.out_dim), y)
    promise(metric.dim() == 0, f"the metric has shape {list(metric.shape)}, expected a scalar")
    _check_metric(dataset, episode.y_val if isinstance(dataset, Bilevel) else y)


def _check_loss(dataset: Dataset, name: str, loss: Callable[..., Tensor], y: Tensor) -> None:
    prediction = torch.zeros(len(y), dataset.out_dim, requires_grad=True)
    parameters: dict[str, Tensor] = {"weight": torch.ones(3)}
    if isinstance(dataset, Bilevel):
        outer = dataset.outer_variables(parameters)
        parameters |= {f"{OUTER}{n}": t for n, t in outer.items()}
    value = Criterion.of(loss)(prediction, y, parameters)
    promise(isinstance(value, Tensor), f"{name} returns {type(value).__name__}, no tensor")
    promise(value.dim() == 0, f"{name} has shape {list(value.shape)}, expected a scalar")
    promise(value.requires_grad, f"{name} does not depend on the prediction")


def _check_metric(dataset: Dataset, y: Tensor) -> None:
    """The metric must say so when a prediction gets better, in the direction it declares."""
    declared = getattr(dataset, "scored_by", None)
    promise(isinstance(declared, Metric), "scored_by is no Metric(name, unit, higher_is_better)")
    assert isinstance(declared, Metric)
    if dataset.kind == "classification":
        right = 10.0 * F.one_hot(y, dataset.out_dim).float()
        wrong = right.roll(1, 1)
    else:
        right = y.float().reshape(len(y), dataset.out_dim)
        wrong = right + 1.0 + right.abs()
    best, worst = float(dataset.metric(right, y)), float(dataset.metric(wrong, y))
    direction = "higher" if declared.higher_is_better else "lower"
    better = best > worst if declared.higher_is_better else best < worst
    promise(
        better,
        f"the metric '{declared.name}' is declared better when {direction}, but the targets"
        f" themselves score {best:.3g} and other predictions {worst:.3g}",
    )
    if declared.unit == "share":
        promise(min(best, worst) >= 0 and max(best, worst) <= 1, "a share lies outside [0, 1]")
