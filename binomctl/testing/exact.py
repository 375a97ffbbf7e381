"""Exact MAML under an inner loop against backpropagation through all of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from binomctl.api import meta_gradient
from binomctl.contracts import Adaptation, Adapted, Expansion, Regularises, Starts, Update
from binomctl.episodes import TaskNumbers
from binomctl.expansion import binomial_adjoints, binomial_expansion
from binomctl.flat import Layout, initial_parameters
from binomctl.noise import with_noise
from binomctl.testing.small import (
    ALPHA,
    B,
    K,
    close,
    doubled,
    small_classification,
    small_problem,
)


def check_exact(
    rule: Any,
    m: Tensor,
    update: Update | None,
    *,
    classes: bool = False,
    network: nn.Module | None = None,
) -> None:
    """Exact MAML under the inner loop against backpropagation through all of it."""
    classes = classes or network is not None
    model, batch = (small_classification if classes else small_problem)(torch.float64)
    model = model if network is None else doubled(network)
    criterion = F.cross_entropy if classes else F.mse_loss
    layout = Layout.of(model)
    if classes and len(m) and network is None:  # of another network
        m = rule.initial(layout).double()
    names = [name for name, _ in model.named_parameters()]
    found = meta_gradient(
        model,
        criterion,
        (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val),
        estimator=_Exact(),
        K=K,
        alpha=ALPHA,
        rule=rule,
        rule_parameters=m if len(m) else None,
        optimizer=update or "sgd",
        per_task=True,
        tasks=range(B),
        allow_unused=network is not None,
    )
    numbers = TaskNumbers(0, "train", range(B))
    how = with_noise(Adaptation(K, ALPHA, rule, m, layout, update=update), numbers)
    for b, noise in enumerate(how.noise_of(B)):
        theta, own = initial_parameters(model).requires_grad_(), m.clone().requires_grad_()
        loss = _loss_of(model, layout, criterion)
        phi = theta
        if isinstance(rule, Starts):
            functional = _Functional(model, layout)
            one: Any = how.rule_of(noise)
            phi = one.start(own, theta, batch.x_trn[b], batch.y_trn[b], layout, functional)
        s = torch.cat([phi.unsqueeze(0), phi.new_zeros(how.slots, layout.d)])
        for k in range(K):
            support = loss(s[0], batch.x_trn[b], batch.y_trn[b])
            (gamma,) = torch.autograd.grad(support, s, create_graph=True)
            s = how.step(k, own, s, gamma[0], noise)
        query = loss(s[0], batch.x_val[b], batch.y_val[b])
        if isinstance(rule, Regularises):
            x, y, end = batch.x_trn[b], batch.y_trn[b], s[0].detach()
            query = query + one.penalty(own, theta, end, x, y, layout, functional)
        wanted = torch.autograd.grad(query, (theta, own), allow_unused=True, materialize_grads=True)
        rows = torch.cat([found[n][b].flatten() for n in names])
        close(rows, wanted[0], 1e-9, "exact MAML under it is not backpropagation, for theta")
        if len(m):
            close(found["rule.m"][b], wanted[1], 1e-9, "nor for the rule's own parameters")


def _loss_of(
    model: torch.nn.Module, layout: Layout, criterion: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def loss(phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return criterion(torch.func.functional_call(model, layout.unflatten(phi), (x,)), y)

    return loss


class _Functional:
    """The network as torch's own functional call has it: nothing here is the engines'."""

    def __init__(self, model: torch.nn.Module, layout: Layout) -> None:
        self._model, self._layout = model, layout

    def __call__(self, theta: Tensor, x: Any) -> Any:
        return torch.func.functional_call(self._model, self._layout.unflatten(theta), (x,))

    def entering(self, layer: str, theta: Tensor, x: Any) -> Tensor:
        seen: list[Tensor] = []
        module = self._model.get_submodule(layer)
        with module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
            self(theta, x)
        return seen[-1]

    def holding(self, theta: Tensor) -> AbstractContextManager[None]:
        return nullcontext()


class _Exact:
    """Every factor of the adjoint product: plugins are not imported here."""

    def steps(self, K: int) -> range:
        return range(K)

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        which = Expansion(adapted.K, adapted.K, adapted.alpha)
        return binomial_expansion(adapted, which)

    def adjoints(self, adapted: Adapted) -> Tensor:
        return binomial_adjoints(adapted, Expansion(adapted.K, adapted.K, adapted.alpha))
