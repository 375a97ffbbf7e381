"""Sinusoid regression: y = A sin(x + phase), each (A, phase) a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch.nn import functional as F

from binomctl.episodes import MSE, Episode, Metric, check_split, generator
from binomctl.options import at_least, option, plugin


@plugin
@dataclass(frozen=True)
class Sinusoid:
    """Few-shot regression of sinusoids, A in [0.1, 5], phase in [0, pi] (Finn et al. 2017)."""

    shots: int = option(10, "support points per task")
    queries: int = option(10, "query points per task")
    seed: int = option(0, "seed of the task stream")

    in_shape: ClassVar[tuple[int, ...]] = (1,)
    out_dim: ClassVar[int] = 1
    kind: ClassVar[Literal["regression"]] = "regression"
    scored_by: ClassVar[Metric] = MSE
    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "model": {"name": "mlp"},
            "adaptation": {"K": 5, "alpha": 0.01},
            "training": {"meta_batch": 25, "steps": 2000, "validate_every": 200},
            "evaluation": {"queries": 100},
        }
    )

    def __post_init__(self) -> None:
        at_least(self, shots=1, queries=1)

    def episode(self, split: str, index: int) -> Episode:
        """One sinusoid sampled at uniform x in [-5, 5]: shots points to adapt on, queries to test.

        The convention is that of the BinomGBML paper, A sin(x + phase).
        """
        check_split(split, self.splits)
        random = generator(self.seed, split, index)
        amplitude, phase = random.uniform(0.1, 5.0), random.uniform(0.0, math.pi)
        x = torch.from_numpy(random.uniform(-5.0, 5.0, (self.shots + self.queries, 1)))
        y = amplitude * torch.sin(x + phase)
        n = self.shots
        return Episode(x[:n].float(), y[:n].float(), x[n:].float(), y[n:].float())

    loss = staticmethod(F.mse_loss)
    metric = staticmethod(F.mse_loss)
