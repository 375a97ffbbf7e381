"""One engine of two: the inner loop under one loss, the query sets under another."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from binomctl.contracts import Curvature, Engine, Forward
from binomctl.curvature.traits import Traits, traits_of


class OuterLossEngine:
    """An engine whose outer loss is not its inner one.

    Args:
        inner: whose layout, curvature, predictions and traits it has.
        outer: whose `query` it has; of the same model.
    """

    def __init__(self, inner: Engine, outer: Engine) -> None:
        self.inner, self.outer = inner, outer
        self.layout = inner.layout

    @property
    def traits(self) -> Traits:
        one, two = traits_of(self.inner), traits_of(self.outer)
        return dataclasses.replace(
            one,
            steps_alone=one.steps_alone and two.steps_alone,
            closed_form=one.closed_form and two.closed_form,
        )

    @property
    def forward(self) -> Forward:
        return self.inner.forward

    def curvature(self, x: Any, y: Any) -> Curvature:
        return self.inner.curvature(x, y)

    def query(self, phi: Tensor, x: Any, y: Any) -> tuple[Tensor, Tensor, Any]:
        return self.outer.query(phi, x, y)

    def predict(self, phi: Tensor, x: Any) -> Any:
        return self.inner.predict(phi, x)
