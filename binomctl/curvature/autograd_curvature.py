"""Gradients and Hessian-vector products of B support losses, from graphs of their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from binomctl.curvature.linearisation import Linearisation
from binomctl.curvature.network import Inputs

Memory = Literal["store", "recompute"]
Order = Literal["rows", "columns"]


class Linearises(Protocol):
    """What it needs of an engine."""

    memory: Memory
    order: Order

    @property
    def points_together(self) -> bool: ...

    def linearise(
        self, phi: Tensor, x: Inputs, y: Any, k: int | None, *, graph: bool
    ) -> Linearisation: ...


class AutogradCurvature:
    """Gradients and Hessian-vector products of B support losses."""

    def __init__(self, engine: Linearises, x: Inputs, y: Any) -> None:
        self._engine = engine
        self._x, self._y = x, y
        self._phi: dict[int, Tensor] = {}
        self._kept: dict[int, Linearisation] = {}
        self.order: Order = engine.order

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        """l_trn [B] and its gradient [B, d] at phi^k [B, d]."""
        store = keep and self._engine.memory == "store"
        self.place(k, phi)
        at = self._engine.linearise(phi, self._x, self._y, k, graph=store)
        if store:
            self._kept[k] = at
        return at.loss, at.gradient

    def place(self, k: int, phi: Tensor) -> None:
        """H_k is that of phi [B, d] from now on."""
        self._phi[k] = phi
        self._kept.pop(k, None)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is H_{ks[p]} V[:, p]; V [B, P, d] -> the same."""
        if self._engine.points_together and len(ks) > 1:
            return self._together(ks, V)
        columns: list[Tensor] = [V[:, 0]] * len(ks)
        for k in sorted(set(ks)):
            at = self._kept.get(k)
            if at is None:
                at = self._engine.linearise(self._phi[k], self._x, self._y, k, graph=True)
                if self._engine.memory == "store":
                    self._kept[k] = at
            for p in (p for p, kp in enumerate(ks) if kp == k):
                columns[p] = at.hvp(V[:, p])
            del at  # recomputed graphs: at most one is alive at a time
        return torch.stack(columns, dim=1) if len(columns) > 1 else columns[0].unsqueeze(1)

    def _together(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """All B tasks at all P points in one linearisation and one backward pass."""
        P = len(ks)
        x, y = (tree_map(lambda t: t.repeat_interleave(P, 0), part) for part in (self._x, self._y))
        points = torch.stack([self._phi[k] for k in ks], 1).flatten(0, 1)
        # One set of buffers serves all points: statistics that differ by step are evaluation's.
        at = self._engine.linearise(points, x, y, ks[0], graph=True)
        return at.hvp(V.flatten(0, 1)).view_as(V)
