"""ALFA: step sizes and decays that a small network makes of the task (Baik et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from binomctl.flat import Layout
from binomctl.options import plugin


@plugin
@dataclass(frozen=True)
class ALFA:
    """Step size and decay of every layer and step from its gradient and weights (Baik et al. 2020).

    A perceptron takes the means of every parameter tensor and of its gradient and gives an a and a
    b for each: phi^{k+1} = phi^k - alpha (a gamma_k + b phi^k). It starts at a = 1, b = 0, so that
    training begins at MAML; the paper's alpha and beta are alpha a and 1 - alpha b.
    """

    @property
    def plain(self) -> bool:
        return False

    def initial(self, layout: Layout) -> Tensor:
        """The perceptron's weights: random into its hidden units, zero out of them."""
        n = 2 * len(layout.names)
        random = torch.Generator().manual_seed(0)
        into = torch.randn(n * n, generator=random) / math.sqrt(n)
        return torch.cat([into, torch.zeros(n + n * n + n)])

    def direction(self, k: int, m: Tensor, phi: Tensor, gamma: Tensor, layout: Layout) -> Tensor:
        """u = a gamma + b phi, a and b one number per parameter tensor."""
        sizes, n = layout.sizes, 2 * len(layout.names)
        means = [part.mean() for v in (gamma, phi) for part in torch.split(v, sizes)]
        W1, b1, W2, b2 = torch.split(m, [n * n, n, n * n, n])
        hidden = torch.relu(W1.view(n, n) @ torch.stack(means) + b1)
        rates, decays = (W2.view(n, n) @ hidden + b2).chunk(2)
        a, b = (torch.cat([v.expand(s) for v, s in zip(numbers, sizes, strict=True)])
                for numbers in (1 + rates, decays))  # fmt: skip
        return a * gamma + b * phi
