"""The reference engine: Hessian-vector products by double backward, for any nn.Module.

The gradient at phi^k is computed once with its graph (the linearisation); every product with H_k
is then one backward pass through that graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from binomctl.curvature.supported import check_depends, check_loss, check_model, check_reached
from binomctl.curvature.workers import Workers
from binomctl.flat import Layout

Loss = Callable[[Tensor, Tensor], Tensor]
Memory = Literal["store", "recompute"]
Batching = Literal["auto", "vmap", "loop"]
Order = Literal["rows", "columns"]
StepBuffers = Callable[[int | None], dict[str, Tensor]]
"""Inner step k -> buffers by name; None is the end of the inner loop."""


class AutogradEngine:
    """Losses, gradients and curvature of a model under a loss, by torch.autograd.

    Args:
        model: any module mapping [N, ...] to outputs; its own parameters are never touched.
        loss: maps one task's outputs and targets to a scalar.
        memory: "store" keeps each linearisation from the inner loop; "recompute" makes it anew
            when a product needs it, so that one is alive at a time.
        batching: "vmap" runs the B tasks as one; "loop" runs each by itself, a few side by side
            in threads; "auto" loops where a batched weight would become a grouped convolution
            (several times slower on a CPU), and vmaps otherwise.
        order: the order of evaluation that expansion estimators are told to use: "rows", one
            linearisation at a time, or "columns", one level of the cascade at a time. Columns
            that are recomputed under vmap run all points of a level in parallel, so that the
            peak of memory falls as L grows and P = K - L + 1 shrinks.
        statistics: the buffers that batch norm normalises with at inner step k, by name; None
            where it takes the statistics of the batch at hand.
        threads: tasks side by side under "loop" on a CPU; None takes torch's number of threads.

    Raises:
        ConfigError: the model has state or randomness that an inner loop cannot differentiate.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        memory: Memory = "store",
        batching: Batching = "auto",
        order: Order = "rows",
        statistics: StepBuffers | None = None,
        threads: int | None = None,
    ) -> None:
        check_model(model)
        self.layout = Layout.of(model)
        self.memory = memory
        self.order: Order = order
        self._loss = loss
        self._statistics = statistics or (lambda k: {})
        on_cpu = next(model.parameters()).device.type == "cpu"
        convolves = any(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules())
        self._vmap = batching == "vmap" or (batching == "auto" and not (convolves and on_cpu))
        count = 1 if self._vmap or not on_cpu else threads or torch.get_num_threads()
        self._workers = Workers(model, count)

    @property
    def points_together(self) -> bool:
        """Whether the points of one level are computed in parallel, linearised anew."""
        return self._vmap and self.order == "columns" and self.memory == "recompute"

    def curvature(self, x: Tensor, y: Tensor) -> AutogradCurvature:
        """Curvature of the support loss on x [B, N, ...], y [B, N, ...]."""
        return AutogradCurvature(self, x, y)

    def query(self, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss [B], gradient [B, d] and outputs [B, N, out_dim] at phi [B, d]."""
        at = self.linearise(phi, x, y, None, graph=False)
        return at.loss, at.gradient, at.output

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        """The model's outputs [B, N, out_dim] at phi [B, d], without a graph."""
        if self._vmap:
            with torch.no_grad():
                forward = partial(self._forward, buffers=self._statistics(None))
                return vmap(forward)(self.layout.unflatten(phi), x)
        return torch.stack(self._workers.map(self._predict, phi, x))

    def linearise(
        self, phi: Tensor, x: Tensor, y: Tensor, k: int | None, *, graph: bool
    ) -> Linearisation:
        """Loss and gradient of B tasks at phi [B, d] of step k; with graph, ready for H v."""
        buffers = self._statistics(k)
        if self._vmap:
            groups = [self._linearise(phi, x, y, buffers, graph)]
            return Linearisation(
                self.layout, self._workers, groups, groups[0].loss, groups[0].output
            )
        groups = self._workers.map(
            lambda p, xb, yb: self._linearise(p, xb, yb, buffers, graph), phi, x, y
        )
        loss, output = (torch.stack([getattr(g, n) for g in groups]) for n in ("loss", "output"))
        return Linearisation(self.layout, self._workers, groups, loss, output)

    def _predict(self, phi: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():  # per thread: grad mode is not inherited
            return self._forward(self.layout.unflatten(phi), x, self._statistics(None))

    def _forward(
        self, parameters: dict[str, Tensor], x: Tensor, buffers: dict[str, Tensor]
    ) -> Tensor:
        output: Tensor = functional_call(self._workers.model, parameters | buffers, (x,))
        return output

    def _task(
        self, parameters: dict[str, Tensor], x: Tensor, y: Tensor, buffers: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        output = self._forward(parameters, x, buffers)
        loss = self._loss(output, y)
        check_loss(loss)
        return loss, output

    def _linearise(
        self, phi: Tensor, x: Tensor, y: Tensor, buffers: dict[str, Tensor], graph: bool
    ) -> _Group:
        """One autograd graph: a single task for phi [d], all B tasks under vmap for phi [B, d]."""
        # A leaf per parameter: the double backward then never pads pieces of a flat vector.
        views = self.layout.unflatten(phi)
        leaves = {name: v.detach().requires_grad_() for name, v in views.items()}
        with torch.enable_grad():
            one = partial(self._task, buffers=buffers)
            task = vmap(one) if phi.dim() == 2 else one
            loss, output = task(leaves, x, y)
            check_depends(loss)
            gradients = torch.autograd.grad(
                loss.sum(), list(leaves.values()), create_graph=graph, allow_unused=True
            )
        check_reached(self.layout.names, gradients)
        return _Group(leaves, gradients, loss.detach(), output.detach())


@dataclass(frozen=True)
class _Group:
    """One graph: its leaves, their gradients, and the values met on the way."""

    leaves: dict[str, Tensor]
    gradients: tuple[Tensor, ...]
    loss: Tensor
    output: Tensor

    def hvp(self, layout: Layout, v: Tensor) -> Tensor:
        """H v for v [..., d] of the group's own batch shape."""
        directions = layout.unflatten(v).values()
        curved = [
            (g, u) for g, u in zip(self.gradients, directions, strict=True) if g.requires_grad
        ]
        if not curved:  # the loss is affine in every parameter
            return torch.zeros_like(v)
        products = torch.autograd.grad(
            [g for g, _ in curved],
            list(self.leaves.values()),
            grad_outputs=[u for _, u in curved],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return layout.flatten(dict(zip(layout.names, products, strict=True)))


@dataclass(frozen=True)
class Linearisation:
    """The gradient of B tasks at one phi^k, with what H_k v needs."""

    layout: Layout
    workers: Workers
    groups: list[_Group]
    loss: Tensor
    output: Tensor

    @property
    def gradient(self) -> Tensor:
        """[B, d], detached."""
        rows = [
            self.layout.flatten(dict(zip(self.layout.names, g.gradients, strict=True))).detach()
            for g in self.groups
        ]
        return rows[0] if rows[0].dim() == 2 else torch.stack(rows)

    def hvp(self, v: Tensor) -> Tensor:
        """H_k v for v [B, d]."""
        if len(self.groups) == 1 and self.groups[0].loss.dim() == 1:
            return self.groups[0].hvp(self.layout, v)
        return torch.stack(
            self.workers.map(lambda group, vb: group.hvp(self.layout, vb), self.groups, v)
        )


class AutogradCurvature:
    """Gradients and Hessian-vector products of B support losses."""

    def __init__(self, engine: AutogradEngine, x: Tensor, y: Tensor) -> None:
        self._engine = engine
        self._x, self._y = x, y
        self._kept: dict[int, Linearisation] = {}
        self.order: Order = engine.order

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        """l_trn [B] and its gradient [B, d] at phi^k [B, d]."""
        store = keep and self._engine.memory == "store"
        at = self._engine.linearise(phi, self._x, self._y, k, graph=store)
        if store:
            self._kept[k] = at
        return at.loss, at.gradient

    def hvp(self, phi: Tensor, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is H_{ks[p]} V[:, p]; phi [B, K+1, d], V [B, P, d] -> [B, P, d]."""
        if self._engine.points_together and len(ks) > 1:
            return self._together(phi, ks, V)
        columns: list[Tensor] = [V[:, 0]] * len(ks)
        for k in sorted(set(ks)):
            at = self._kept.get(k)
            if at is None:
                at = self._engine.linearise(phi[:, k], self._x, self._y, k, graph=True)
                if self._engine.memory == "store":
                    self._kept[k] = at
            for p in (p for p, kp in enumerate(ks) if kp == k):
                columns[p] = at.hvp(V[:, p])
            del at  # recomputed graphs: at most one is alive at a time
        return torch.stack(columns, dim=1)

    def _together(self, phi: Tensor, ks: Sequence[int], V: Tensor) -> Tensor:
        """All B tasks at all P points in one linearisation and one backward pass."""
        P = len(ks)
        x, y = (t.repeat_interleave(P, 0) for t in (self._x, self._y))
        points = phi[:, list(ks)].flatten(0, 1)
        # One set of buffers serves all points: statistics that differ by step are evaluation's.
        at = self._engine.linearise(points, x, y, ks[0], graph=True)
        return at.hvp(V.flatten(0, 1)).view_as(V)
