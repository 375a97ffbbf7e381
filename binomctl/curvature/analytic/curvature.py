"""Curvature of the support losses of B tasks, by the layer algebra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from binomctl.curvature.analytic.chunks import Chunks, whole
from binomctl.curvature.analytic.hessian import Hessian, repeated
from binomctl.curvature.analytic.programs import Programs, channels_last
from binomctl.curvature.autograd_curvature import Memory, Order


class Linearises(Protocol):
    """What a curvature needs of its engine, which says what each is."""

    memory: Memory
    order: Order
    chunks: Chunks
    programs: Programs

    def linearise(
        self, phi: Tensor, x: Tensor, y: Tensor, *, keep: bool
    ) -> tuple[Tensor, Tensor, Hessian]: ...


class AnalyticCurvature:
    """Gradients and Hessian-vector products of B support losses."""

    def __init__(self, engine: Linearises, x: Tensor, y: Tensor) -> None:
        self._engine = engine
        self._x, self._y = channels_last(x), y
        self._program = engine.programs.of(self._x)
        self._phi: dict[int, Tensor] = {}
        self._kept: dict[int, list[Hessian | None]] = {}  # by step, then by chunk of tasks
        self.order: Order = engine.order

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        """l_trn [B] and its gradient [B, d] at phi^k [B, d]."""
        store = keep and self._engine.memory == "store"
        self.place(k, phi)

        def one(rows: slice) -> tuple[Tensor, Tensor, Hessian | None]:
            x, y = self._x[rows], self._y[rows]
            loss, gradient, hessian = self._engine.linearise(phi[rows], x, y, keep=store)
            return loss, gradient, hessian if store else None

        losses, gradients, hessians = zip(*self._engine.chunks.map(one, self._x), strict=True)
        if store:
            self._kept[k] = list(hessians)
        return whole(losses), whole(gradients)

    def place(self, k: int, phi: Tensor) -> None:
        """H_k is that of phi [B, d] from now on."""
        self._phi[k] = phi
        self._kept.pop(k, None)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is H_{ks[p]} V[:, p]; V [B, P, d] -> the same."""
        if self.order == "columns" and len(ks) > 1:
            return self._all_points(ks, V)

        def one(rows: slice) -> Tensor:
            columns: list[Tensor] = [V[rows, 0]] * len(ks)
            for k in sorted(set(ks)):
                at = self._at(k, rows)
                for p in (p for p, kp in enumerate(ks) if kp == k):
                    columns[p] = at.times(V[rows, p])
                del at  # recomputed: one linearisation a thread is alive at a time
            return torch.stack(columns, 1) if len(columns) > 1 else columns[0].unsqueeze(1)

        return whole(self._engine.chunks.map(one, self._x))

    def _at(self, k: int, rows: slice) -> Hessian:
        """A chunk's Hessians at phi^k: kept by the inner loop, or made now and kept if allowed."""
        size, count = self._engine.chunks.size(self._x), len(self._x)
        chunk = rows.start // size
        kept = self._kept[k][chunk] if k in self._kept else None
        if kept is None:
            x, y = self._x[rows], self._y[rows]
            _, _, kept = self._engine.linearise(self._phi[k][rows], x, y, keep=True)
            if self._engine.memory == "store":
                empty: list[Hessian | None] = [None] * -(-count // size)
                self._kept.setdefault(k, empty)[chunk] = kept
        return kept

    def _all_points(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """All points of a level in one pass, a chunk of tasks at a time: depth L, not L P."""
        P = len(ks)

        def one(rows: slice) -> Tensor:
            x, y = self._x[rows], self._y[rows]
            if self._engine.memory == "store":
                at = Hessian.joined([self._at(k, rows) for k in ks], y)
            else:
                points = torch.cat([self._phi[k][rows] for k in ks])
                seen = x if self._program.shares_input else repeated(P, x)
                _, _, at = self._engine.linearise(points, seen, repeated(P, y), keep=True)
            v = V[rows].transpose(0, 1)
            return at.times(v.flatten(0, 1)).view_as(v).transpose(0, 1)

        return whole(self._engine.chunks.map(one, self._x))
