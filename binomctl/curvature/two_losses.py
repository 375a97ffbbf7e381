"""The losses of a bilevel problem: gradients, Hessian-vector products, mixed derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from binomctl.errors import ConfigError
from binomctl.flat import Layout

TwoLoss = Callable[[dict[str, Tensor], dict[str, Tensor], Any], Tensor]
"""(phi, lam, batch) -> a scalar: phi the inner variables by name, lam the outer ones."""


def _leaves(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.detach().requires_grad_() for n, t in named.items()}


def _scalar(loss: Any, what: str) -> Tensor:
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ConfigError(f"the {what} loss returns {shape}, expected a scalar tensor")
    return loss


class _Sums:
    """Gradients with respect to lam, added up; which of lam they have reached."""

    def __init__(self, lam: Mapping[str, Tensor]) -> None:
        self.lam = lam
        self.total = {n: torch.zeros_like(t) for n, t in lam.items()}
        self.reached: set[str] = set()

    def add(self, gradients: Sequence[Tensor | None], factor: float = 1.0) -> None:
        for name, g in zip(self.lam, gradients, strict=True):
            if g is not None:
                self.reached.add(name)
                self.total[name] += factor * g


class OuterLoss(_Sums):
    """The outer loss: its gradient with respect to phi, and what it gives lam directly."""

    def __init__(
        self, loss: TwoLoss, lam: Mapping[str, Tensor], layout: Layout, batch: Any
    ) -> None:
        super().__init__(lam)
        self._loss, self._layout, self._batch = loss, layout, batch
        self.loss = torch.zeros(())

    def at(self, phi: Tensor, weight: float) -> Tensor:
        """d l_out / d phi [1, d] at phi [1, d]; lam's share is added with a weight."""
        inner, outer = _leaves(self._layout.unflatten(phi[0])), _leaves(self.lam)
        with torch.enable_grad():
            value = _scalar(self._loss(inner, outer, self._batch), "outer")
            self.loss = value.detach()
            if not value.requires_grad:
                raise ConfigError("the outer loss depends on neither phi nor lam")
            both = [*inner.values(), *outer.values()]
            found = torch.autograd.grad(value, both, allow_unused=True)
        self.add(found[len(inner) :], weight)
        pairs = zip(inner.items(), found[: len(inner)], strict=True)
        named = {n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}
        return self._layout.flatten(named).unsqueeze(0)


@dataclass
class _Point:
    inner: dict[str, Tensor]
    outer: dict[str, Tensor]
    gradients: tuple[Tensor, ...]


class InnerLosses(_Sums):
    """The inner losses: gradients, Hessian-vector products, and mixed derivatives."""

    def __init__(
        self,
        loss: TwoLoss,
        lam: Mapping[str, Tensor],
        layout: Layout,
        batches: Sequence[Any],
        order: Literal["rows", "columns"],
        memory: str,
    ) -> None:
        super().__init__(lam)
        self._loss, self._layout, self._batches = loss, layout, batches
        self.order: Literal["rows", "columns"] = order
        self._stores = memory == "store"
        self._phi: dict[int, Tensor] = {}
        self._kept: dict[int, _Point] = {}

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        """l_in [1] and its gradient [1, d] at phi^k [1, d]."""
        self.place(k, phi)
        value, point = self._linearised(k, graph=keep and self._stores)
        if keep and self._stores:
            self._kept[k] = point
        named = dict(zip(self._layout.names, point.gradients, strict=True))
        flat = self._layout.flatten(named).detach()
        return value.detach().unsqueeze(0), flat.unsqueeze(0)

    def place(self, k: int, phi: Tensor) -> None:
        """H_k is that of phi [1, d] from now on."""
        self._phi[k] = phi
        self._kept.pop(k, None)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is H_{ks[p]} V[:, p]; V [1, P, d] -> the same."""
        columns = []
        for p, k in enumerate(ks):
            point = self._point(k)
            found = self._back(point, V[0, p], list(point.inner.values()))
            pairs = zip(point.inner.items(), found, strict=True)
            named = {n: torch.zeros_like(t) if g is None else g for (n, t), g in pairs}
            columns.append(self._layout.flatten(named))
        return torch.stack(columns).unsqueeze(0)

    def mixed(self, k: int, q: Tensor) -> None:
        """Add (d / d lam) <grad_phi l_in(phi^k, lam, batch_k), q>, q [1, d]."""
        point = self._point(k)
        self.add(self._back(point, q[0], list(point.outer.values())))

    def _point(self, k: int) -> _Point:
        if k in self._kept:
            return self._kept[k]
        return self._linearised(k, graph=True)[1]

    def _linearised(self, k: int, graph: bool) -> tuple[Tensor, _Point]:
        inner, outer = _leaves(self._layout.unflatten(self._phi[k][0])), _leaves(self.lam)
        with torch.enable_grad():
            value = _scalar(self._loss(inner, outer, self._batches[k]), "inner")
            if not value.requires_grad:
                raise ConfigError("the inner loss does not depend on phi")
            found = torch.autograd.grad(
                value, list(inner.values()), create_graph=graph, allow_unused=True
            )
            missed = [n for n, g in zip(inner, found, strict=True) if g is None]
            if missed:
                raise ConfigError(
                    f"the inner loss does not depend on phi's {', '.join(missed[:5])}",
                    "What only the outer loss learns belongs to lam.",
                )
        return value, _Point(inner, outer, found)

    def _back(self, point: _Point, v: Tensor, to: list[Tensor]) -> Sequence[Tensor | None]:
        pairs = zip(point.gradients, self._layout.unflatten(v).values(), strict=True)
        curved = [(g, u) for g, u in pairs if g.requires_grad]
        if not curved:
            return [None] * len(to)
        gradients, directions = zip(*curved, strict=True)
        return torch.autograd.grad(
            gradients, to, grad_outputs=directions, retain_graph=True, allow_unused=True
        )
