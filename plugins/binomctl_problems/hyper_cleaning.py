"""Data hyper-cleaning: a weight for every training example, learned on clean ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.episodes import Episode, generator
from binomctl.errors import ConfigError
from binomctl.flat import OUTER
from binomctl.images.held_out import OUTER_ONLY, HeldOut, one_task
from binomctl.options import option, plugin

WEIGHT = f"{OUTER}weight"


@plugin
@dataclass(frozen=True)
class HyperCleaning(HeldOut):
    """Data hyper-cleaning: training labels are partly wrong, each example's weight is learned.

    Inner loss: the mean of sigmoid(weight_i) times the cross-entropy of example i. Outer loss: the
    cross-entropy of clean examples (Franceschi et al. 2017, Shaban et al. 2019).
    """

    data: Any = option("glyphs", "the data set of the examples, or {name: ..., option: ...}")
    ways: int = option(10, "classes")
    shots: int = option(6, "training examples per class")
    queries: int = option(6, "held-out examples per class, half of them for the outer loss")
    noise: float = option(0.5, "share of the training labels that are another class's")
    seed: int = option(0, "of the wrong labels")
    episode_index: int = option(0, "which episode of the data set")

    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        one_task({"name": "gd", "fixed": OUTER_ONLY}, OUTER_ONLY, K=30, alpha=1.0)
    )

    def __post_init__(self) -> None:
        self.take_data()
        if not 0 <= self.noise < 1:
            raise ConfigError(f"noise = {self.noise} is no share in [0, 1)", key="dataset.noise")

    def outer_variables(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """weight [N], zero: every example counts half."""
        return {"weight": torch.zeros(len(self.whole().y_trn))}

    def episode(self, split: str, index: int) -> Episode:
        """The noisy training set; a label is class + classes * number of the example."""
        found = super().episode(split, index)
        labels, _ = self._labels(found.y_trn)
        return replace(found, y_trn=labels + self.out_dim * torch.arange(len(labels)))

    def loss(  # type: ignore[override]  # it reads the outer variables
        self, prediction: Tensor, y: Tensor, parameters: Mapping[str, Tensor]
    ) -> Tensor:
        """The weighted mean over training examples."""
        each = F.cross_entropy(prediction, y % self.out_dim, reduction="none")
        weights = torch.sigmoid(parameters[WEIGHT][y // self.out_dim])
        return (weights * each).mean()

    def groups(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the examples whose labels are right, and of the others."""
        weights = torch.sigmoid(parameters[WEIGHT]).cpu()
        _, wrong = self._labels(self.whole().y_trn)
        return {"weight, right label": weights[~wrong], "weight, wrong label": weights[wrong]}

    def _labels(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Labels with noise, and which are wrong."""
        random = generator(self.seed, "wrong labels", self.episode_index)
        wrong = torch.zeros(len(y), dtype=torch.bool)
        wrong[torch.from_numpy(random.permutation(len(y))[: round(self.noise * len(y))])] = True
        shift = torch.from_numpy(random.integers(1, self.out_dim, len(y)))
        return torch.where(wrong, (y + shift) % self.out_dim, y), wrong
