"""Weight decay learned for every parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.flat import OUTER, undotted
from binomctl.images.held_out import OUTER_ONLY, HeldOut, one_task
from binomctl.options import option, plugin
from binomctl.ranges import check_positive


@plugin
@dataclass(frozen=True)
class WeightDecay(HeldOut):
    """Weight decay learned on held-out examples, one number a parameter (Maclaurin et al. 2015).

    Inner loss: cross-entropy + 1/2 sum_i exp(decay_i) phi_i^2. Outer loss: the cross-entropy of
    held-out examples.
    """

    data: Any = option("glyphs", "the data set of the examples, or {name: ..., option: ...}")
    ways: int = option(10, "classes")
    shots: int = option(3, "training examples per class")
    queries: int = option(8, "held-out examples per class, half of them for the outer loss")
    per: Literal["parameter", "tensor"] = option("parameter", "a decay for each of them")
    initial: float = option(1e-3, "every decay before training")
    episode_index: int = option(0, "which episode of the data set")

    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        one_task({"name": "gd", "fixed": OUTER_ONLY}, OUTER_ONLY, K=30, alpha=0.3)
    )

    def __post_init__(self) -> None:
        self.take_data()
        check_positive("initial", self.initial, "dataset.initial")

    def outer_variables(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The logarithm of a decay for each parameter, or each tensor of them."""
        start = math.log(self.initial)
        shapes = {n: p.shape if self.per == "parameter" else () for n, p in parameters.items()}
        return {_named(n): torch.full(shape, start) for n, shape in shapes.items()}

    def loss(  # type: ignore[override]  # it reads the outer variables
        self, prediction: Tensor, y: Tensor, parameters: Mapping[str, Tensor]
    ) -> Tensor:
        """Cross-entropy and what the decays weigh."""
        inner = {n: f"{OUTER}{_named(n)}" for n in parameters if not n.startswith(OUTER)}
        weighed = [(parameters[d].exp() * parameters[n].square()).sum() for n, d in inner.items()]
        return F.cross_entropy(prediction, y) + 0.5 * sum(weighed)

    def groups(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """log10 of the decays of every tensor of parameters."""
        return {
            f"log10 decay, {n}": parameters[f"{OUTER}{_named(n)}"].flatten().cpu() / math.log(10)
            for n in parameters
            if not n.startswith(OUTER)
        }


def _named(parameter: str) -> str:
    """The name of a parameter's decay."""
    return f"decay_{undotted(parameter)}"
