"""Proto-MAML: the head starts from the support set's class means (Triantafillou et al. 2020).
ProtoNet: it stays there (Snell et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from binomctl.contracts import Forward
from binomctl.errors import ConfigError, DataError
from binomctl.flat import Layout
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class ProtoMAML:
    """MAML whose head starts as a nearest-mean classifier (Triantafillou et al. 2020).

    With mu_c the mean of class c's support features the head starts at W_c = 2 mu_c and
    b_c = -|mu_c|^2, so that its logits are -|f - mu_c|^2 but for a constant. The meta-gradient
    passes through the means to the body; the head's own theta is never used.
    """

    head: str | None = option(
        None, "the head, a Linear layer by its name; null: the layer that the output comes from"
    )

    @property
    def plain(self) -> bool:
        return True

    def initial(self, layout: Layout) -> Tensor:
        self._head(layout)
        return torch.empty(0)

    def with_head(self, names: tuple[str, ...]) -> ProtoMAML:
        return replace(self, head=names[0].rpartition(".")[0])

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v

    def start(
        self, m: Tensor, theta: Tensor, x: Tensor, y: Tensor, layout: Layout, network: Forward
    ) -> Tensor:
        """phi^0 [d] of one task with class indices y [N]."""
        head = self._head(layout)
        classes = layout.shape(f"{head}.weight")[0]
        if y.dim() != 1 or y.is_floating_point():
            raise DataError(
                f"this rule starts from class means, and the targets {list(y.shape)} of type"
                f" {y.dtype} are no class indices [N]",
                "Use a rule that needs no classes (binomctl plugins lists them).",
            )
        features = network.entering(head, theta, x).flatten(1)
        members = F.one_hot(y, classes).to(features.dtype)  # [N, classes]
        means = members.T @ features / members.sum(0).clamp(min=1).unsqueeze(1)
        named: Mapping[str, Tensor] = layout.unflatten(theta)
        begun = {f"{head}.weight": 2 * means, f"{head}.bias": -(means * means).sum(1)}
        return layout.flatten({**named, **begun})

    def _head(self, layout: Layout) -> str:
        head = layout.names[-1].rpartition(".")[0] if self.head is None else self.head
        shapes = {name: layout.shape(f"{head}.{name}") for name in ("weight", "bias")
                  if f"{head}.{name}" in layout.names}  # fmt: skip
        if len(shapes) < 2 or len(shapes["weight"]) != 2:
            raise ConfigError(
                f"proto-maml needs a Linear head with a bias, and '{head}' has"
                f" {', '.join(f'{n} {list(s)}' for n, s in shapes.items()) or 'no parameters'}",
                f"Name it by rule.head; the parameters are {', '.join(layout.names)}.",
                key="rule.head",
            )
        return head


@plugin
@dataclass(frozen=True)
class ProtoNet(ProtoMAML):
    """Prototypical networks: the nearest class mean, and nothing adapts (Snell et al. 2017).

    The reference without an inner loop: its steps move nothing, so that K = 1 and first order are
    enough and exact.
    """

    @property
    def plain(self) -> bool:
        return False

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return torch.zeros_like(v)

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return torch.zeros_like(v)
