"""The zoo's one way into the product: its public function, watched."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import binomctl
from zoo.entry import Entry, Episodes
from zoo.oracle import ESTIMATORS
from zoo.purity import unchanged


def product(
    entry: Entry,
    label: str,
    model: nn.Module | None = None,
    episodes: Episodes | None = None,
    **how: Any,
) -> dict[str, Tensor]:
    """The meta-gradient by parameter name; the model must be left as it was."""
    name, options = ESTIMATORS[label]
    model = entry.build() if model is None else model
    if entry.allow_unused:
        how["allow_unused"] = True
    with unchanged(model):
        return binomctl.meta_gradient(
            model,
            entry.loss,
            entry.episodes() if episodes is None else episodes,
            estimator=name,
            K=entry.K,
            alpha=entry.alpha,
            **options,
            **how,
        )
