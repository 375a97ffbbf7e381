"""The weights of the orders that are best over the spectrum of alpha H."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.expansion import (
    check_order,
    elementary_sums,
    kept_adjoints,
    kept_expansion,
    krylov,
    weighed,
    weighed_adjoints,
)
from binomctl.flat import Layout
from binomctl.options import option, plugin
from binomctl.ranges import check_count
from binomctl.theory.minimax import minimax_weights

_NOTES = logging.getLogger("binomctl.notes")


@plugin
@dataclass(frozen=True)
class MinimaxMAML:
    """Orders 0..L of the expansion with weights that minimise the largest error over a spectrum.

    sum over j of c_j (-alpha)^j e_j, c minimising max |(1-x)^K - sum c_j C(K,j) (-x)^j| over the
    interval of alpha H that r Lanczos steps find, anew every so many meta-steps. Where no weights
    are better than g alone it falls back to the first L factors, and says so.
    """

    L: int = option(2, "highest order")
    r: int = option(4, "Lanczos steps that measure the spectrum")
    every: int = option(50, "meta-steps between two measurements")

    linear_only: ClassVar[str] = (
        "its weights are for products of I - alpha H_k M^T, which no inner optimiser, schedule or"
        " clipping leaves"
    )

    def __post_init__(self) -> None:
        check_order(self.L)
        check_count("r", self.r, "estimator.r")
        check_count("every", self.every, "estimator.every")

    def steps(self, K: int) -> range:
        check_order(self.L, K)
        return range(K)

    def init_state(self, layout: Layout) -> Mapping[str, Tensor]:
        return {
            "calls": torch.tensor(0),
            "interval": torch.zeros(2, dtype=torch.float64),
        }

    def advance(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        after = self._after(adapted, state)
        told = int(state["calls"]) % self.every == 0
        intervals = after["interval"].expand(len(adapted.g), 2)
        return self._estimate(adapted, intervals, told=told), after

    def advance_adjoints(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        after = self._after(adapted, state)
        return self._adjoints(adapted, after["interval"].expand(len(adapted.g), 2)), after

    def _after(self, adapted: Adapted, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        calls, interval = int(state["calls"]), state["interval"]
        if calls % self.every == 0:
            found = self._measured(adapted)
            interval = torch.stack([found[:, 0].min(), found[:, 1].max()])
        return {"calls": torch.tensor(calls + 1), "interval": interval}

    def adjoints(self, adapted: Adapted) -> Tensor:
        return self._adjoints(adapted, self._measured(adapted))

    def _adjoints(self, adapted: Adapted, intervals: Tensor) -> Tensor:
        """w_0 .. w_K [B, K+1, D]: a tail of n steps by the weights of (1 - x)^n."""
        pairs = intervals.tolist()

        def weights(n: int) -> Tensor:
            c = [minimax_weights(n, min(self.L, n), lo, hi)[0] for lo, hi in pairs]
            return torch.tensor(np.stack(c))

        w = weighed_adjoints(adapted, self.L, weights)
        useless = self._useless(adapted, pairs)
        if any(useless):
            where = torch.tensor(useless, device=w.device).view(-1, 1, 1)
            w = torch.where(where, kept_adjoints(adapted, range(self.L), 0), w)
        return w

    def _useless(self, adapted: Adapted, pairs: list[list[float]]) -> list[bool]:
        """Whether nothing is right any more of an exact factor, at most max(1, (1 - lo)^K)."""
        worst = (minimax_weights(adapted.K, self.L, lo, hi)[1] for lo, hi in pairs)
        return [not w < (1 - lo) ** adapted.K for w, (lo, _) in zip(worst, pairs, strict=True)]

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """[B, D], each task by its own spectrum."""
        return self._estimate(adapted, self._measured(adapted))

    def _measured(self, adapted: Adapted) -> Tensor:
        """The interval of alpha H of every task, [B, 2] in float64; 0 belongs to it."""
        ritz = adapted.rate * torch.linalg.eigvalsh(krylov(adapted, adapted.K // 2, self.r).T)
        ends = torch.stack([ritz.amin(-1).clamp(max=0.0), ritz.amax(-1).clamp(min=0.0)], -1)
        return ends.to("cpu", torch.float64)

    def _estimate(self, adapted: Adapted, intervals: Tensor, *, told: bool = False) -> Tensor:
        """[B, D] by the weights of each task's interval."""
        pairs = intervals.tolist()
        made = {(lo, hi): minimax_weights(adapted.K, self.L, lo, hi)[0] for lo, hi in pairs}
        c = torch.tensor(np.stack([made[lo, hi] for lo, hi in pairs]))
        rows = weighed(elementary_sums(adapted, self.L), adapted.alpha, c)
        useless = self._useless(adapted, pairs)
        if not any(useless):
            return rows
        if told:
            _NOTES.info(
                "minimax: alpha H up to %.2g leaves no useful weights; the first %d factors are"
                " taken instead", float(intervals[:, 1].max()), self.L,
            )  # fmt: skip
        where = torch.tensor(useless, device=rows.device).unsqueeze(1)
        return torch.where(where, kept_expansion(adapted, range(self.L), 0), rows)
