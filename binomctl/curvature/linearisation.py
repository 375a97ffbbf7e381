"""The gradients of tasks at one phi^k with their graphs, through which products with H_k go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from binomctl.curvature.network import Inputs, Network
from binomctl.curvature.outputs import Unpacked
from binomctl.curvature.supported import check_depends, check_reached, in_words
from binomctl.curvature.workers import Workers
from binomctl.flat import Layout


def holding(network: Network | None, parameters: dict[str, Tensor]) -> Any:
    """A context in which a network holds parameters; None holds nothing."""
    return nullcontext() if network is None else network.holding(parameters)


@dataclass(frozen=True)
class Group:
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
        with holding(self.network, self.leaves):
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


Task = Callable[[dict[str, Tensor], Inputs, Any], tuple[Tensor, Any]]
"""Loss and output of one task at parameters by name."""


def linearised(
    task: Task,
    layout: Layout,
    network: Network,
    at: tuple[Tensor, Inputs, Any],
    *,
    graph: bool,
    held: bool,
    allow_unused: bool,
) -> Group:
    """One autograd graph at (phi, x, y): a single task for phi [d], all B tasks under vmap for
    phi [B, d].

    Args:
        held: the network holds the parameters during backward passes too.
        allow_unused: parameters that the loss does not depend on have gradient zero.
    """
    phi, x, y = at
    # A leaf per parameter: the double backward then never pads pieces of a flat vector.
    leaves = {name: v.detach().requires_grad_() for name, v in layout.unflatten(phi).items()}
    holds = network if held else None
    call = Unpacked()

    def one(p: dict[str, Tensor], xb: Inputs, yb: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss, output = task(p, xb, yb)
        return loss, call.tensors(output)

    with torch.enable_grad(), in_words(network.module):
        loss, tensors = (vmap(one) if phi.dim() == 2 else one)(leaves, x, y)
        check_depends(loss)
        with holding(holds, leaves):
            gradients = torch.autograd.grad(
                loss.sum(), list(leaves.values()), create_graph=graph, allow_unused=True
            )
    if allow_unused:
        found = zip(gradients, leaves.values(), strict=True)
        gradients = tuple(torch.zeros_like(p) if g is None else g for g, p in found)
    check_reached(layout.names, gradients)
    dense = tuple(g.to_dense() if g.is_sparse else g for g in gradients)
    detached = tuple(t.detach() for t in tensors)
    output = call.packed(detached) if phi.dim() == 2 else call.whole(detached)
    return Group(leaves, dense, loss.detach(), output, holds)


@dataclass(frozen=True)
class Linearisation:
    """The gradient of B tasks at one phi^k, with what H_k v needs."""

    layout: Layout
    workers: Workers
    groups: list[Group]
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
