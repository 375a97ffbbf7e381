"""WarpGrad: warp layers learn from every step of a path that is not differentiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from binomctl.contracts import Adapted
from binomctl.options import option, plugin


@plugin
@dataclass(frozen=True)
class WarpGrad:
    """Warped gradient descent: each step's own effect, one product a step, all at one level.

    The parameters that tasks leave alone (the warp layers) get the gradient of
    sum_k c_{k+1} l_val(phi^k - alpha M grad l_trn(phi^k)) with every phi^k a constant, equation (8)
    of Flennerhag et al. 2020; c are the weights of adaptation.step_losses, which the paper has
    alike (step_losses=all). The initial values of the others get first-order gradients, or none:
    the paper leaves them to another method.
    """

    lookahead: bool = option(
        True, "differentiate through the one step that leads to each loss; false: none at all"
    )
    initial: bool = option(True, "the start of what adapts learns, by first-order gradients")

    fixed_only: ClassVar[str] = "it trains warp layers, which are meta-learned and never adapted"
    linear_only: ClassVar[str] = "it is derived for steps phi - alpha M gamma"
    no_estimate: ClassVar[str] = (
        "it is the gradient of every step's own effect, not of the loss after all of them"
    )

    def steps(self, K: int) -> range:
        return range(K if self.lookahead else 0)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """[B, d]: sum_k c_k grad l_val(phi^k) - alpha sum_k c_{k+1} H_k M^T grad l_val(phi^{k+1})
        at the warp layers, c_K g at the others."""
        g, K = adapted.g_phi, adapted.K
        total = g.clone()
        for source in adapted.sources.values():
            total = total + source
        if self.lookahead:
            after = [adapted.sources.get(k) for k in range(1, K)] + [g]
            ks = [k for k, source in enumerate(after) if source is not None]
            columns = torch.stack([s for s in after if s is not None], 1)
            total = total - adapted.alpha * adapted.hvp(ks, columns).sum(1)
        moved = adapted.moved
        return torch.where(moved, g if self.initial else 0.0, total)
