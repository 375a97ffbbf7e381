"""The reference engine: Hessian-vector products by double backward, for any nn.Module.

The gradient at phi^k is computed once with its graph (the linearisation); every product with H_k
is then one backward pass through that graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from binomctl.curvature.criterion import Criterion, Loss
from binomctl.curvature.network import Inputs, Network
from binomctl.curvature.supported import (
    StepBuffers,
    check_depends,
    check_loss,
    check_model,
    check_reached,
    in_words,
)
from binomctl.curvature.traits import Traits
from binomctl.curvature.workers import Workers
from binomctl.errors import ConfigError
from binomctl.flat import Layout

Memory = Literal["store", "recompute"]
Batching = Literal["auto", "vmap", "loop", "alone"]
Order = Literal["rows", "columns"]


class AutogradEngine:
    """Losses, gradients and curvature of a model under a loss, by torch.autograd.

    Args:
        model: any module mapping x [N, ...] to outputs; it is copied, read and never called. A
            Network made of it serves as well.
        loss: maps one task's outputs and targets, and its parameters by name if it takes them, to
            a scalar.
        memory: "store" keeps each linearisation from the inner loop; "recompute" makes it anew
            when a product needs it, so that one is alive at a time.
        batching: "vmap" runs the B tasks as one; "loop" runs each by itself, a few side by side
            in threads; "alone" each by itself in the caller's thread, with the task's parameters
            in place during backward passes too (gradient checkpointing runs the forward again
            there); "auto" loops where a batched weight would become a grouped convolution
            (several times slower on a CPU), and vmaps otherwise.
        order: the order of evaluation that expansion estimators are told to use: "rows", one
            linearisation at a time, or "columns", one level of the cascade at a time. Columns
            that are recomputed under vmap run all points of a level in parallel, so that the
            peak of memory falls as L grows and P = K - L + 1 shrinks.
        statistics: the buffers that batch norm normalises with at inner step k, by name; None
            where it takes the statistics of the batch at hand.
        threads: tasks side by side under "loop" on a CPU; None takes torch's number of threads.
        allow_unused: parameters that a loss does not depend on have gradient zero; they are
            refused otherwise.

    Raises:
        ConfigError: the model has state or randomness that an inner loop cannot differentiate.
    """

    def __init__(
        self,
        model: nn.Module | Network,
        loss: Loss,
        *,
        memory: Memory = "store",
        batching: Batching = "auto",
        order: Order = "rows",
        statistics: StepBuffers | None = None,
        threads: int | None = None,
        allow_unused: bool = False,
    ) -> None:
        module = model.module if isinstance(model, Network) else model
        check_model(module)
        network = model if isinstance(model, Network) else Network(model)
        self.layout = network.layout
        self.memory = memory
        self.order: Order = order
        self.allow_unused = allow_unused
        self.why = ""
        """Why no faster engine computes, in words; set by whoever chose."""
        self._loss = Criterion.of(loss)
        self._statistics = statistics or (lambda k: {})
        on_cpu = next(module.parameters()).device.type == "cpu"
        convolves = any(isinstance(m, nn.modules.conv._ConvNd) for m in module.modules())
        self.batching: Batching = batching
        if batching == "auto":
            self.batching = "loop" if convolves and on_cpu else "vmap"
        self._vmap = self.batching == "vmap"
        count = threads or torch.get_num_threads() if self.batching == "loop" and on_cpu else 1
        self._workers = Workers(network, count, network.another)

    @property
    def traits(self) -> Traits:
        return Traits(slower=self.why)

    @property
    def points_together(self) -> bool:
        """Whether the points of one level are computed in parallel, linearised anew."""
        return self._vmap and self.order == "columns" and self.memory == "recompute"

    def close(self) -> None:
        """End the engine's threads; they start again when it is used again."""
        self._workers.close()

    def refresh(self) -> None:
        """Take over the present values of the model's buffers and frozen parameters."""
        for network in self._workers.networks:
            network.refresh()

    def curvature(self, x: Inputs, y: Any) -> AutogradCurvature:
        """Curvature of the support loss on x [B, N, ...], y [B, N, ...]."""
        return AutogradCurvature(self, x, y)

    def query(self, phi: Tensor, x: Inputs, y: Any) -> tuple[Tensor, Tensor, Any]:
        """Loss [B], gradient [B, d] and outputs [B, N, out_dim] at phi [B, d]; outputs that are
        no tensor, or of different shapes, as a list of the B tasks'."""
        at = self.linearise(phi, x, y, None, graph=False)
        return at.loss, at.gradient, at.output

    def predict(self, phi: Tensor, x: Inputs) -> Any:
        """The model's outputs [B, N, out_dim] at phi [B, d], without a graph."""
        if self._vmap:
            call = _Unpacked()
            forward = partial(self._forward, buffers=self._statistics(None))
            with torch.no_grad(), in_words(self._workers.network.module):
                tensors = vmap(lambda p, xb: call.tensors(forward(p, xb)))(
                    self.layout.unflatten(phi), x
                )
            return call.packed(tensors)
        tasks = [rows(x, b) for b in range(len(phi))]
        return together(self._workers.map(self._predict, phi, tasks))

    def linearise(
        self, phi: Tensor, x: Inputs, y: Any, k: int | None, *, graph: bool
    ) -> Linearisation:
        """Loss and gradient of B tasks at phi [B, d] of step k; with graph, ready for H v."""
        buffers = self._statistics(k)
        if self._vmap:
            groups = [self._linearise(phi, x, y, buffers, graph)]
            return Linearisation(
                self.layout, self._workers, groups, groups[0].loss, groups[0].output
            )
        tasks = ([rows(part, b) for b in range(len(phi))] for part in (x, y))
        groups = self._workers.map(
            lambda p, xb, yb: self._linearise(p, xb, yb, buffers, graph), phi, *tasks
        )
        loss = torch.stack([g.loss for g in groups])
        output = together([g.output for g in groups])
        return Linearisation(self.layout, self._workers, groups, loss, output)

    def loss_of(self, parameters: dict[str, Tensor], x: Inputs, y: Any) -> Tensor:
        """The loss of one task at parameters by name, with its graph."""
        with in_words(self._workers.network.module):
            return self._task(parameters, x, y, self._statistics(None))[0]

    def _predict(self, phi: Tensor, x: Inputs) -> Any:
        with torch.no_grad(), in_words(self._workers.network.module):  # grad mode is per thread
            return self._forward(self.layout.unflatten(phi), x, self._statistics(None))

    def _forward(self, parameters: dict[str, Tensor], x: Inputs, buffers: dict[str, Tensor]) -> Any:
        return self._workers.network(parameters, x, buffers)

    def _task(
        self, parameters: dict[str, Tensor], x: Inputs, y: Any, buffers: dict[str, Tensor]
    ) -> tuple[Tensor, Any]:
        output = self._forward(parameters, x, buffers)
        loss = self._loss(output, y, parameters)
        check_loss(loss)
        return loss, output

    def _linearise(
        self, phi: Tensor, x: Inputs, y: Any, buffers: dict[str, Tensor], graph: bool
    ) -> _Group:
        """One autograd graph: a single task for phi [d], all B tasks under vmap for phi [B, d]."""
        # A leaf per parameter: the double backward then never pads pieces of a flat vector.
        views = self.layout.unflatten(phi)
        leaves = {name: v.detach().requires_grad_() for name, v in views.items()}
        network = self._workers.network
        holds = network if self.batching == "alone" else None
        call = _Unpacked()

        def one(p: dict[str, Tensor], xb: Inputs, yb: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
            loss, output = self._task(p, xb, yb, buffers)
            return loss, call.tensors(output)

        with torch.enable_grad(), in_words(network.module):
            task = vmap(one) if phi.dim() == 2 else one
            loss, tensors = task(leaves, x, y)
            check_depends(loss)
            with _holding(holds, leaves):
                gradients = torch.autograd.grad(
                    loss.sum(), list(leaves.values()), create_graph=graph, allow_unused=True
                )
        if self.allow_unused:
            found = zip(gradients, leaves.values(), strict=True)
            gradients = tuple(torch.zeros_like(p) if g is None else g for g, p in found)
        check_reached(self.layout.names, gradients)
        dense = tuple(g.to_dense() if g.is_sparse else g for g in gradients)
        detached = tuple(t.detach() for t in tensors)
        output = call.packed(detached) if phi.dim() == 2 else call.whole(detached)
        return _Group(leaves, dense, loss.detach(), output, holds)


def rows(part: Any, b: int | slice) -> Any:
    """Task b of a batch: the same structure, every tensor's row b."""
    return tree_map(lambda t: t[b] if isinstance(t, Tensor) else t, part)


def together(outputs: list[Any]) -> Any:
    """The B tasks' outputs as one tensor where they are tensors of one shape, else the list."""
    if all(isinstance(o, Tensor) and o.shape == outputs[0].shape for o in outputs):
        return torch.stack(outputs)
    return outputs


_PLAIN = int | float | str | bool | None


class _Unpacked:
    """Takes a module's output apart into tensors, all that vmap lets pass, and puts it together."""

    def tensors(self, output: Any) -> tuple[Tensor, ...]:
        self._leaves, self._spec = tree_flatten(output)
        return tuple(leaf for leaf in self._leaves if isinstance(leaf, Tensor))

    def whole(self, tensors: Sequence[Tensor]) -> Any:
        """The output with other tensors in their places."""
        left = iter(tensors)
        leaves = [next(left) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        return tree_unflatten(leaves, self._spec)

    def packed(self, tensors: Sequence[Tensor]) -> Any:
        """Of tensors [B, ...]: one tensor, or a list of the B tasks' outputs."""
        if len(tensors) == len(self._leaves) == 1 and self._spec.is_leaf():
            return tensors[0]
        if not all(isinstance(leaf, Tensor | _PLAIN) for leaf in self._leaves):
            kinds = {type(leaf).__name__ for leaf in self._leaves}
            raise ConfigError(f"outputs of type {', '.join(sorted(kinds))} cannot pass vmap")
        return [self.whole([t[b] for t in tensors]) for b in range(len(tensors[0]))]


def _holding(network: Network | None, parameters: dict[str, Tensor]) -> Any:
    return nullcontext() if network is None else network.holding(parameters)


@dataclass(frozen=True)
class _Group:
    """One graph: its leaves, their gradients, and the values met on the way."""

    leaves: dict[str, Tensor]
    gradients: tuple[Tensor, ...]
    loss: Tensor
    output: Any
    network: Network | None
    """Which holds the leaves during products; None where nobody looks."""

    def hvp(self, layout: Layout, v: Tensor, out: Tensor | None = None) -> Tensor:
        """H v for v [..., d] of the group's own batch shape, into `out` if given."""
        directions = layout.unflatten(v).values()
        curved = [
            (g, u) for g, u in zip(self.gradients, directions, strict=True) if g.requires_grad
        ]
        if not curved:  # the loss is affine in every parameter
            return torch.zeros_like(v) if out is None else out.zero_()
        with _holding(self.network, self.leaves):
            products = torch.autograd.grad(
                [g for g, _ in curved],
                list(self.leaves.values()),
                grad_outputs=[u.to(g.dtype) for g, u in curved],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        dense = (p.to_dense() if p.is_sparse else p for p in products)
        return layout.flatten(dict(zip(layout.names, dense, strict=True)), out)


@dataclass(frozen=True)
class Linearisation:
    """The gradient of B tasks at one phi^k, with what H_k v needs."""

    layout: Layout
    workers: Workers
    groups: list[_Group]
    loss: Tensor
    output: Any

    @property
    def gradient(self) -> Tensor:
        """[B, d], detached."""
        named = [dict(zip(self.layout.names, g.gradients, strict=True)) for g in self.groups]
        if self.groups[0].loss.dim() == 1:
            return self.layout.flatten(named[0]).detach()
        out = self.out()
        with torch.no_grad():
            for one, row in zip(named, out, strict=True):
                self.layout.flatten({n: g.detach() for n, g in one.items()}, row)
        return out

    def out(self) -> Tensor:
        """Room for a vector [d] of every task: written once, where stacking would write twice."""
        leaf = next(iter(self.groups[0].leaves.values()))
        like = torch.view_as_real(leaf) if leaf.is_complex() else leaf
        return like.new_empty(len(self.groups), self.layout.d)

    def hvp(self, v: Tensor) -> Tensor:
        """H_k v for v [B, d]."""
        with in_words(self.workers.network.module):
            if len(self.groups) == 1 and self.groups[0].loss.dim() == 1:
                return self.groups[0].hvp(self.layout, v)
            out = self.out()
            self.workers.map(
                lambda group, vb, row: group.hvp(self.layout, vb, row), self.groups, v, out
            )
            return out


class AutogradCurvature:
    """Gradients and Hessian-vector products of B support losses."""

    def __init__(self, engine: AutogradEngine, x: Inputs, y: Any) -> None:
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
