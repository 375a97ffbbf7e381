"""ANIL: only the head adapts (Raghu et al. 2020). BOIL: only the body (Oh et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from binomctl.contracts import Forward
from binomctl.flat import Layout
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class ANIL:
    """Almost no inner loop: only the head adapts; the body is meta-learned (Raghu et al. 2020).

    M is the projection onto the head's parameters. The body does not move in the inner loop and
    still receives its mixed second derivatives, through H_k M.
    """

    head: tuple[str, ...] | None = option(
        None, "patterns of the head's parameters; null: the layer that the output comes from"
    )

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        layout.matching(self._head(layout))  # refuse a pattern that matches nothing
        return torch.empty(0)

    def with_head(self, names: tuple[str, ...]) -> ANIL:
        return replace(self, head=names)

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v * layout.mask(self._head(layout), v)

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return self.apply(m, v, layout)

    def _head(self, layout: Layout) -> tuple[str, ...]:
        return layout.last_module() if self.head is None else self.head


@plugin
@dataclass(frozen=True)
class BOIL(ANIL):
    """Body only update in the inner loop: the head is meta-learned and stays (Oh et al. 2021).

    M is the projection onto all parameters but the head's, the counterpart of ANIL.
    """

    def initial(self, layout: Layout) -> Tensor:
        layout.others(self._head(layout))  # refuse a network that is its head
        return super().initial(layout)

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v * (1 - layout.mask(self._head(layout), v))


@plugin
@dataclass(frozen=True)
class LinearHead(ANIL):
    """A linear head fitted from zero on features that stay: the reference without a learned start.

    ANIL but for the head's start, which nothing learns (Chen et al. 2019, "Baseline", fit it so on
    features that were pretrained).
    """

    def start(
        self, m: Tensor, theta: Tensor, x: Any, y: Any, layout: Layout, network: Forward
    ) -> Tensor:
        """phi^0 [d]: theta with a head of zeros."""
        return theta * (1 - layout.mask(self._head(layout), theta))
