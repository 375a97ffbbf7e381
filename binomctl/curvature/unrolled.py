"""The exact meta-gradient of a few tasks by one backward pass through the whole inner loop.

What the expansions compute with K products this does with one call, so that a small network costs
what the plain double-backward loop of its user costs and not the calls of Python besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from binomctl.contracts import Adaptation, Starts
from binomctl.curvature.autograd import AutogradEngine
from binomctl.curvature.outputs import Unpacked, rows, together
from binomctl.curvature.supported import check_depends, check_reached, in_words
from binomctl.episodes import EpisodeBatch

FEW = 3
"""Tasks up to which one after another is faster than all under vmap, on a CPU: the dispatch of
an operation under vmap takes two to four times its plain dispatch."""


def unrolls(engine: object, how: Adaptation, tasks: int) -> bool:
    """Whether the exact meta-gradient of tasks is one backward pass through plain gradient descent
    on an engine that runs this faster than its products."""
    if not isinstance(engine, AutogradEngine) or not how.linear or not how.rule.plain:
        return False
    if isinstance(how.rule, Starts):  # phi^0 is another than theta
        return False
    if how.m.numel() or how.proximal or how.weights or how.scale != 1:
        return False
    # "alone" puts phi^k in place in backward passes: one pass over all k has no place for it.
    fast = engine.batching == "loop" or (engine.batching == "vmap" and tasks <= FEW)
    return fast and engine.on_cpu and engine.memory == "store" and engine.plain_steps


def unrolled(
    engine: AutogradEngine, theta: Tensor, batch: EpisodeBatch, how: Adaptation
) -> tuple[Tensor, Tensor, Any]:
    """Equation (4) of BinomGBML by autograd through the K steps.

    Returns:
        d l_val(phi^K) / d theta [B, d], the query losses [B] and the query outputs, as
        `AutogradEngine.query` returns them.
    """
    leaves = engine.layout.unflatten(theta)
    out = theta.new_empty(len(batch), len(theta))

    def task(b: int) -> tuple[Tensor, Any]:
        start = {name: v.detach().requires_grad_() for name, v in leaves.items()}
        with torch.enable_grad():  # grad mode is per thread
            phi, support = start, (rows(batch.x_trn, b), rows(batch.y_trn, b))
            for _ in range(how.K):
                phi = _stepped(engine, phi, support, how.alpha)
            loss, output = engine.task(phi, rows(batch.x_val, b), rows(batch.y_val, b))
            found = _gradients(engine, loss, phi, start)
        with torch.no_grad():
            engine.layout.flatten(found, out[b])
        call = Unpacked()
        return loss.detach(), call.whole([t.detach() for t in call.tensors(output)])

    done = engine.side_by_side(task, range(len(batch)))
    return out, torch.stack([loss for loss, _ in done]), together([output for _, output in done])


def _stepped(
    engine: AutogradEngine, phi: Mapping[str, Tensor], data: tuple[Any, Any], alpha: float
) -> dict[str, Tensor]:
    """phi^{k+1} with its graph."""
    loss, _ = engine.task(phi, *data)
    check_depends(loss)
    with in_words(engine.module):
        found = torch.autograd.grad(loss, list(phi.values()), create_graph=True, allow_unused=True)
    if not engine.allow_unused:
        check_reached(engine.layout.names, found)
    return {
        name: p if g is None else p - alpha * (g.to_dense() if g.is_sparse else g)
        for (name, p), g in zip(phi.items(), found, strict=True)
    }


def _gradients(
    engine: AutogradEngine, loss: Tensor, phi: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """d loss / d theta by name; refused where the loss does not depend on a parameter at phi^K."""
    check_depends(loss)
    ends, leaves = list(phi.values()), list(start.values())
    with in_words(engine.module):
        found = torch.autograd.grad(loss, [*ends, *leaves], allow_unused=True)
    if not engine.allow_unused:
        check_reached(engine.layout.names, found[: len(ends)])
    pairs = zip(leaves, found[len(ends) :], strict=True)
    whole = (torch.zeros_like(p) if g is None else g for p, g in pairs)
    dense = (g.to_dense() if g.is_sparse else g for g in whole)
    return dict(zip(engine.layout.names, dense, strict=True))
