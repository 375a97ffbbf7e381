"""UNICORN-MAML: one head vector for all classes (Ye and Chao 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from binomctl.contracts import Forward
from binomctl.errors import ConfigError
from binomctl.flat import Layout
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class Unicorn:
    """MAML whose head starts at one and the same vector for every class (Ye and Chao 2022).

    Row c of the head starts at row 0 of theta's, or at zero, so that a task's answer does not
    depend on the order of its classes; the other rows of theta are never used. It wants more inner
    steps than MAML: the paper takes K of 15 to 20.
    """

    head: tuple[str, ...] | None = option(
        None, "the head's parameters, an axis of classes first; null: what the output comes from"
    )
    initial_head: Literal["shared", "zero"] = option(
        "shared", "shared: the meta-learned row 0; zero: every task begins at a head of zeros"
    )

    @property
    def plain(self) -> bool:
        return True

    def initial(self, layout: Layout) -> Tensor:
        names = layout.matching(self._head(layout))
        outputs = {layout.shape(n)[0] if layout.shape(n) else 0 for n in names}
        if len(outputs) != 1 or outputs == {0}:
            shapes = ", ".join(f"{n} {list(layout.shape(n))}" for n in names)
            raise ConfigError(
                f"unicorn needs a head whose parameters begin with the axis of classes: {shapes}",
                f"Name it by rule.head; the parameters are {', '.join(layout.names)}.",
                key="rule.head",
            )
        return torch.empty(0)

    def with_head(self, names: tuple[str, ...]) -> Unicorn:
        return replace(self, head=names)

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v

    def start(
        self, m: Tensor, theta: Tensor, x: Any, y: Any, layout: Layout, network: Forward
    ) -> Tensor:
        """phi^0 [d]: every row of the head is its first, or zero."""
        named = layout.unflatten(theta)
        for name in layout.matching(self._head(layout)):
            own = named[name]
            row = own[:1] if self.initial_head == "shared" else torch.zeros_like(own[:1])
            named[name] = row.expand(own.shape)
        return layout.flatten(named)

    def _head(self, layout: Layout) -> tuple[str, ...]:
        return layout.last_module() if self.head is None else self.head
