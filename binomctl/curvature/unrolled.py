"""The meta-gradient of a few tasks by one backward pass through the last inner steps.

What the expansions compute with K products this does with one call, so that a small network costs
what the plain double-backward loop of its user costs and not the calls of Python besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from binomctl.contracts import Adaptation, Starts
from binomctl.curvature.autograd import FEW, AutogradEngine
from binomctl.curvature.criterion import Loss
from binomctl.curvature.outputs import Unpacked, rows, together
from binomctl.curvature.supported import check_depends, check_reached, in_words
from binomctl.episodes import EpisodeBatch
from binomctl.flat import Layout


def unrolls(engine: object, how: Adaptation, tasks: int) -> bool:
    """Whether a meta-gradient that is exact over the last steps is one backward pass through
    gradient descent, on all parameters or some, on an engine that runs this faster than its
    products."""
    if not isinstance(engine, AutogradEngine) or not how.linear:
        return False
    if isinstance(how.rule, Starts):  # phi^0 is another than theta
        return False
    if how.m.numel() or how.proximal or how.weights or how.scale != 1:
        return False
    # "alone" puts phi^k in place in backward passes: one pass over all k has no place for it.
    fast = engine.batching == "loop" or (engine.batching == "vmap" and tasks <= FEW)
    suits = fast and engine.on_cpu and engine.memory == "store" and engine.plain_steps
    return suits and _moved(how.rule, how.layout) is not None


def _moved(rule: Any, layout: Layout) -> frozenset[str] | None:
    """The parameters that a rule without meta-parameters moves, each by its whole gradient; None
    where it does something else."""
    if rule.plain:
        return frozenset(layout.names)
    try:
        return _moved_once(rule, layout)
    except TypeError:  # a rule that cannot be a key is not asked at every step
        return None


@lru_cache(maxsize=16)
def _moved_once(rule: Any, layout: Layout) -> frozenset[str] | None:
    v = torch.randn(2, layout.d, generator=torch.Generator().manual_seed(0))
    Mv = rule.apply(torch.empty(0), v, layout)
    names = [name for name, kept in layout.unflatten(Mv == v).items() if kept.all()]
    return frozenset(names) if torch.equal(Mv, v * layout.mask(names, v)) else None


def unrolled(
    engine: AutogradEngine,
    theta: Tensor,
    batch: EpisodeBatch,
    how: Adaptation,
    last: int,
    query_loss: Loss | None = None,
) -> tuple[Tensor, Tensor, Any]:
    """Equation (4) of BinomGBML by autograd through the last of the K steps.

    Args:
        last: how many; K is the exact meta-gradient, 0 first order.
        query_loss: the outer loss, where it is another than the engine's.

    Returns:
        d l_val(phi^K) / d theta [B, d], the query losses [B] and the query outputs, as
        `AutogradEngine.query` returns them.
    """
    leaves, moved = engine.layout.unflatten(theta), _moved(how.rule, how.layout)
    assert moved is not None
    out = theta.new_empty(len(batch), len(theta))

    def task(b: int) -> tuple[Tensor, Any]:
        start = {name: v.detach().requires_grad_() for name, v in leaves.items()}
        with torch.enable_grad():  # grad mode is per thread
            phi, support = start, (rows(batch.x_trn, b), rows(batch.y_trn, b))
            for k in range(how.K):
                graph = k >= how.K - last
                phi = _stepped(engine, phi, support, how.alpha, moved, graph)
                if not graph:
                    start = phi = {n: v.detach().requires_grad_() for n, v in phi.items()}
            loss, output = engine.task(phi, rows(batch.x_val, b), rows(batch.y_val, b), query_loss)
            found = _gradients(engine, loss, phi, start)
        with torch.no_grad():
            engine.layout.flatten(found, out[b])
        call = Unpacked()
        return loss.detach(), call.whole([t.detach() for t in call.tensors(output)])

    done = engine.side_by_side(task, range(len(batch)))
    return out, torch.stack([loss for loss, _ in done]), together([output for _, output in done])


def _stepped(
    engine: AutogradEngine,
    phi: Mapping[str, Tensor],
    data: tuple[Any, Any],
    alpha: float,
    moved: frozenset[str],
    graph: bool,
) -> dict[str, Tensor]:
    """phi^{k+1}, with its graph."""
    loss, _ = engine.task(phi, *data)
    check_depends(loss)
    with in_words(engine.module):
        names = [name for name in phi if name in moved]
        inputs = [phi[name] for name in names]
        found = torch.autograd.grad(loss, inputs, create_graph=graph, allow_unused=True)
    if not engine.allow_unused:
        check_reached(names, found)
    after = dict(phi)
    for name, p, g in zip(names, inputs, found, strict=True):
        if g is not None:
            after[name] = p - alpha * (g.to_dense() if g.is_sparse else g)
    return after


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
