"""The weights of the orders that are best over the spectrum of alpha H."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.errors import ConfigError
from binomctl.expansion import (
    check_order,
    elementary_sums,
    kept_expansion,
    krylov,
    weighed,
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
        calls, interval = int(state["calls"]), state["interval"]
        if calls % self.every == 0:
            found = self._measured(adapted)
            interval = torch.stack([found[:, 0].min(), found[:, 1].max()])
        told = calls % self.every == 0
        rows = self._estimate(adapted, interval.expand(len(adapted.g), 2), told=told)
        return rows, {"calls": torch.tensor(calls + 1), "interval": interval}

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """[B, D], each task by its own spectrum."""
        return self._estimate(adapted, self._measured(adapted))

    def _measured(self, adapted: Adapted) -> Tensor:
        """The interval of alpha H of every task, [B, 2] in float64; 0 belongs to it."""
        if not adapted.still:
            raise ConfigError(
                "minimax is about steps phi - alpha M gamma, whose exact product is (1 - x)^K",
                "Use calibrated, which fits its weights under any inner optimiser.",
                key="adaptation.optimizer",
            )
        ritz = adapted.rate * torch.linalg.eigvalsh(krylov(adapted, adapted.K // 2, self.r).T)
        ends = torch.stack([ritz.amin(-1).clamp(max=0.0), ritz.amax(-1).clamp(min=0.0)], -1)
        return ends.to("cpu", torch.float64)

    def _estimate(self, adapted: Adapted, intervals: Tensor, *, told: bool = False) -> Tensor:
        """[B, D] by the weights of each task's interval."""
        made = {ends: minimax_weights(adapted.K, self.L, *ends)
                for ends in {tuple(pair) for pair in intervals.tolist()}}  # fmt: skip
        # Of an exact factor whose largest value is max(1, (1 - lo)^K) nothing is right any more.
        useless = [not made[lo, hi][1] < (1 - lo) ** adapted.K for lo, hi in intervals.tolist()]
        c = torch.tensor(np.stack([made[tuple(pair)][0] for pair in intervals.tolist()]))
        rows = weighed(elementary_sums(adapted, self.L), adapted.alpha, c)
        if not any(useless):
            return rows
        if told:
            _NOTES.info(
                "minimax: alpha H up to %.2g leaves no useful weights; the first %d factors are"
                " taken instead", float(intervals[:, 1].max()), self.L,
            )  # fmt: skip
        first = kept_expansion(adapted, range(self.L), 0)
        where = torch.tensor(useless, device=rows.device).unsqueeze(1)
        return torch.where(where, first, rows)
