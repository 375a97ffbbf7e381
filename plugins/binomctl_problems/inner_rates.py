"""Step sizes learned for one training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from binomctl.images.held_out import HeldOut, one_task
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class InnerRates(HeldOut):
    """Step sizes of one training run, learned on held-out examples: one per step and tensor.

    The outer variables are those of the rule, rates unless another is chosen; the network begins
    at its own initial weights, which nothing learns (Maclaurin et al. 2015).
    """

    data: Any = option("glyphs", "the data set of the examples, or {name: ..., option: ...}")
    ways: int = option(10, "classes")
    shots: int = option(6, "training examples per class")
    queries: int = option(6, "held-out examples per class, half of them for the outer loss")
    episode_index: int = option(0, "which episode of the data set")

    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        one_task({"name": "rates", "steps": 10}, [], K=10, alpha=0.3)
    )

    def __post_init__(self) -> None:
        self.take_data()
