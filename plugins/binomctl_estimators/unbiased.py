"""A randomised truncation whose expectation is the exact meta-gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError
from binomctl.expansion import deflated
from binomctl.expansion.deflation import check_rank
from binomctl.expansion.levels import level
from binomctl.flat import Layout
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class UnbiasedMAML:
    """Orders up to a random J, each divided by the chance that it is reached.

    S_0 + sum over l = 1..J of (S_l - S_{l-1}) / P(J >= l), P(J >= l) = survive^l up to K. Deflated
    by r directions, so that what is left to chance is small. J is drawn from (seed, meta-step),
    the same for all tasks of a batch.
    """

    survive: float = option(0.5, "chance that one more level is computed")
    r: int = option(2, "Lanczos steps of the deflation; 0 for none")
    seed: int = option(0, "of the draws")

    def __post_init__(self) -> None:
        if not 0 < self.survive <= 1:
            raise ConfigError(
                f"survive = {self.survive} is no chance above 0, up to 1",
                "1 is exact MAML.",
                key="estimator.survive",
            )
        check_rank(self.r)

    def steps(self, K: int) -> range:
        check_rank(self.r, K)
        return range(K)

    def init_state(self, layout: Layout) -> Mapping[str, Tensor]:
        return {"draws": torch.tensor(0)}

    def advance(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        draws = int(state["draws"])
        return self._adjoints(adapted, draws)[:, 0], {"draws": torch.tensor(draws + 1)}

    def advance_adjoints(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        draws = int(state["draws"])
        return self._adjoints(adapted, draws), {"draws": torch.tensor(draws + 1)}

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """[B, D] of the first draw: only draws together are unbiased."""
        return self._adjoints(adapted, 0)[:, 0]

    def adjoints(self, adapted: Adapted) -> Tensor:
        return self._adjoints(adapted, 0)

    def diagnose(self, adapted: Adapted, estimate: Tensor) -> Mapping[str, Tensor]:
        """spread [B], the standard deviation of a draw over the length of its mean, and products
        [B], how many are expected; by all K levels, at logged steps only.

        With t_l the term of order l and P_l = survive^l the covariance of two of them, drawn
        together, is <t_l, t_m> (1 / P_l - 1) for l <= m.
        """
        left = deflated(adapted, self.r)
        orders = torch.stack([w[:, 0] for w in self._orders(left, adapted.K)], 1)
        terms = orders.diff(dim=1)  # t_1 .. t_K
        tails = terms.flip(1).cumsum(1).flip(1)  # sum over m >= l
        chances = self.survive ** torch.arange(1, adapted.K + 1).to(terms)
        both = (terms * (2 * tails - terms)).sum(-1)  # <t_l, t_l + 2 sum over m > l>
        variance = (both * (1 / chances - 1)).sum(-1).clamp_min(0)
        size = orders[:, -1].norm(dim=-1).clamp_min(torch.finfo(terms.dtype).tiny)
        expected = self.r + float((chances * torch.arange(adapted.K, 0, -1).to(terms)).sum())
        return {"spread": variance.sqrt() / size, "products": torch.full_like(size, expected)}

    def levels(self, K: int, draw: int) -> int:
        """J of a draw."""
        coins = np.random.default_rng([self.seed, draw]).random(K)
        return int(np.cumprod(coins < self.survive).sum())

    def _adjoints(self, adapted: Adapted, draw: int) -> Tensor:
        left = deflated(adapted, self.r)
        orders = self._orders(left, self.levels(adapted.K, draw))
        before = w = next(orders)
        for order, after in enumerate(orders, 1):
            w = w + (after - before) / self.survive**order
            before = after
        return w

    def _orders(self, left: Adapted, most: int) -> Iterator[Tensor]:
        w = level(left, None)
        yield w
        for order in range(most):
            w = level(left, w, order)
            yield w
