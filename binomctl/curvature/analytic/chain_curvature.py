"""Curvature of the support losses of a network that is a chain."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from binomctl.curvature.analytic.chain import Passes
from binomctl.curvature.autograd_curvature import Memory, Order


class ChainCurvature:
    """Gradients and Hessian-vector products of B support losses; it descends by itself, too.

    Args:
        order: what expansion estimators are told to use; a native call takes one point.
    """

    def __init__(self, passes: Passes, memory: Memory, order: Order) -> None:
        self.order: Order = order
        self._passes = passes
        self._stores = memory == "store"
        self._phi: dict[int, Tensor] = {}
        self._kept: dict[int, Tensor] = {}

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        """l_trn [B] and its gradient [B, d] at phi^k [B, d]."""
        self.place(k, phi)
        kept = self._passes.room(1)[0] if keep and self._stores else None
        loss, gradient, _ = self._passes.gradient(phi, kept)
        if kept is not None:
            self._kept[k] = kept
        return loss, gradient

    def descend(self, path: Tensor, alpha: float, keep: Collection[int]) -> Tensor:
        """Losses [K, B] of K steps of gradient descent along path [K+1, B, d], which is filled."""
        K = len(path) - 1
        asked = [k for k in range(K) if k in keep] if self._stores else []
        first = min(asked, default=K)
        kept = self._passes.room(K - first) if asked else None
        losses = self._passes.descend(path, alpha, kept, first)
        for k in range(K):
            self.place(k, path[k])
            if kept is not None and k >= first:
                self._kept[k] = kept[k - first]
        return losses

    def place(self, k: int, phi: Tensor) -> None:
        """H_k is that of phi [B, d] from now on."""
        self._phi[k] = phi
        self._kept.pop(k, None)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is H_{ks[p]} V[:, p]; V [B, P, d] -> the same."""
        if len(set(ks)) == 1:
            return self._passes.product(self._phi[ks[0]], self._at(ks[0]), V)
        columns = [self.hvp([k], V[:, p : p + 1]) for p, k in enumerate(ks)]
        return torch.cat(columns, 1) if columns else V

    def _at(self, k: int) -> Tensor:
        """What the gradient at phi^k left, kept by the inner loop or made now."""
        kept = self._kept.get(k)
        if kept is None:
            kept = self._passes.room(1)[0]
            self._passes.gradient(self._phi[k], kept)
            if self._stores:
                self._kept[k] = kept
        return kept


class StoredChainCurvature(ChainCurvature):
    """The same where what a gradient leaves is kept at every point: expansions are one call."""

    def pull_back(self, ks: range, g: Tensor, L: int, alpha: float) -> Tensor:
        """S_L [B, d] of g [B, d] over the points ks, 1 <= L <= their number."""
        points = [(self._phi[k], self._at(k)) for k in ks]
        return self._passes.expansion(points, g, L, alpha)
