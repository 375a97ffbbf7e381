"""What every few-shot classification data set shares."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from binomctl.episodes import ACCURACY, Metric
from binomctl.errors import ConfigError


class Classification:
    """`ways` classes, cross-entropy, accuracy."""

    ways: int
    kind: ClassVar[Literal["classification"]] = "classification"
    scored_by: ClassVar[Metric] = ACCURACY

    @property
    def out_dim(self) -> int:
        return self.ways

    loss = staticmethod(F.cross_entropy)  # by itself: engines know its Hessian in closed form

    def metric(self, prediction: Tensor, y: Tensor) -> Tensor:
        return (prediction.argmax(-1) == y).to(prediction.dtype).mean()


def at_least(options: Any, **minima: int) -> None:
    """Refuse options below their minimum; None stands for "not given"."""
    for name, minimum in minima.items():
        value = getattr(options, name)
        if value is not None and value < minimum:
            raise ConfigError(f"{name} = {value} must be at least {minimum}")
