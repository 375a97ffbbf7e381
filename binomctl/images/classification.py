"""What every few-shot classification data set shares."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from binomctl.episodes import ACCURACY, Metric


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
