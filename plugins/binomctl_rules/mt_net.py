"""MT-net: tasks adapt in a subspace that they draw (Lee and Choi 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.flat import Layout
from binomctl.options import option, plugin
from binomctl.ranges import check_positive


@plugin
@dataclass(frozen=True)
class MTNet:
    """Learned metric T and learned subspace M (Lee and Choi 2018, sections 3.1 and 3.2).

    Every unit of a layer, its row of the weights with its bias, adapts or not by a mask that the
    task draws once: sigmoid((zeta_j + g1 - g2) / temperature) with g1, g2 from Gumbel(0, 1), the
    relaxation of Bernoulli(sigmoid(zeta_j)). zeta is meta-learned. With model.t_layers=true the
    maps T are meta-learned and no task moves them; without them it is M alone.
    """

    fixed: tuple[str, ...] = option(
        ("t?.*", "*.t?.*"), "patterns of the maps T, where the network has them"
    )
    temperature: float = option(1.0, "of the relaxed mask: towards 0 it is nearly 0 or 1")
    initial_logit: float = option(0.0, "zeta before meta-training; 0: every other unit adapts")

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature, "rule.temperature")

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        """zeta, one for every unit."""
        return torch.full((_units(layout)[1],), self.initial_logit)

    def noise(self, layout: Layout, random: torch.Generator, training: bool) -> Tensor:
        """g1 - g2 of every unit: a difference of two Gumbel variables is logistic."""
        share = torch.rand(_units(layout)[1], generator=random, dtype=torch.float64)
        return torch.logit(share.clamp(1e-9, 1 - 1e-9))

    def with_noise(self, noise: Tensor) -> _Masked:
        return _Masked(self, noise)


@dataclass(frozen=True)
class _Masked:
    """The rule of one task."""

    of: MTNet
    noise: Tensor
    plain = False

    def initial(self, layout: Layout) -> Tensor:
        return self.of.initial(layout)

    def direction(self, k: int, m: Tensor, phi: Tensor, gamma: Tensor, layout: Layout) -> Tensor:
        """u = mask gamma, 0 at T."""
        mask = torch.sigmoid((m + self.noise) / self.of.temperature)
        fixed, units = set(layout.named_like(self.of.fixed)), _units(layout)[0]
        parts = []
        for name, part in zip(layout.names, torch.split(gamma, layout.sizes), strict=True):
            at, n = units[name]
            rows = mask[at : at + n].repeat_interleave(len(part) // n)
            parts.append(torch.zeros_like(part) if name in fixed else rows * part)
        return torch.cat(parts)


def _units(layout: Layout) -> tuple[dict[str, tuple[int, int]], int]:
    """Where the units of every parameter stand, (first, how many), and how many there are: the
    parameters of a module with an axis of one length first share them."""
    found: dict[tuple[str, int], int] = {}
    where, total = {}, 0
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        n = shape[0] if shape else 1
        key = (name.rpartition(".")[0], n)
        if key not in found:
            found[key], total = total, total + n
        where[name] = (found[key], n)
    return where, total
