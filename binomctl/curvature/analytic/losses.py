"""Losses by value, gradient and product with their Hessian, at the outputs of T tasks.

Cross-entropy and squared error in closed form; any other loss by automatic differentiation of
the loss alone, whose inputs are a few hundred numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from binomctl.curvature.supported import check_depends, check_loss

LossFunction = Callable[[Tensor, Tensor], Tensor]
LossProduct = Callable[[Tensor], Tensor]
"""The tangent of the outputs -> the tangent of the loss's gradient with respect to them."""


class OutputLoss(Protocol):
    """A loss at outputs o [T, N, F], targets y [T, N, ...]."""

    def at(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor, LossProduct]:
        """Values [T], gradients [T, N, F], and the map from to to the gradient's tangent."""
        ...


def output_loss(loss: LossFunction, o: Tensor, y: Tensor) -> OutputLoss:
    """The closed form of a loss where there is one for such outputs and targets."""
    known = known_loss(loss)
    labels = y.dtype == torch.long and o.dim() > 2 and y.shape == o.shape[:2] + o.shape[3:]
    if isinstance(known, CrossEntropy) and labels:
        return known
    if isinstance(known, SquaredError) and o.shape == y.shape and y.is_floating_point():
        return known
    return AnyLoss(loss)


def has_closed_form(loss: LossFunction) -> bool:
    """Whether `output_loss` knows the derivatives of a loss (at the usual outputs and targets)."""
    return known_loss(loss) is not None


def known_loss(loss: LossFunction) -> CrossEntropy | SquaredError | None:
    """The closed form of a function of torch's, of one with options, or of a module."""
    options: dict[str, Any] = {}
    if isinstance(loss, partial) and not loss.args:
        options, loss = dict(loss.keywords), loss.func
    elif isinstance(loss, nn.Module):
        if type(loss) not in (nn.CrossEntropyLoss, nn.MSELoss) or _has_hooks(loss):
            return None
        names = ["reduction"]
        if type(loss) is nn.CrossEntropyLoss:
            names += ["weight", "ignore_index", "label_smoothing"]
        options = {name: getattr(loss, name) for name in names}
        loss = F.cross_entropy if type(loss) is nn.CrossEntropyLoss else F.mse_loss
    if options.get("reduction", "mean") not in ("mean", "sum"):
        return None
    weight = options.get("weight")
    if isinstance(weight, Tensor) and weight.requires_grad:
        return None
    if loss is F.cross_entropy and options.keys() <= {f.name for f in fields(CrossEntropy)}:
        return CrossEntropy(**options)
    if loss is F.mse_loss and options.keys() <= {"reduction"}:
        return SquaredError(**options)
    return None


def _has_hooks(module: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in module.__dict__ or any(getattr(module, name) for name in hooks)


@dataclass(frozen=True)
class CrossEntropy:
    """-log softmax(o)[y], over labels that are not ignored: their mean, weighted, or their sum.

    With s the softmax, q the target distribution times the label's weight, m its sum and Z the sum
    of the weights (1 for "sum") the gradient is (m s - q) / Z, and to -> m s (to - sum(s to)) / Z.
    Classes are at axis 2 of o [T, N, C, ...].
    """

    weight: Tensor | None = None
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0

    def at(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor, LossProduct]:
        if o.dim() == 3:
            return self._at(o, y)
        moved = o.movedim(2, -1)
        value, gradient, product = self._at(moved.flatten(1, -2), y.flatten(1))

        def back(rows: Tensor) -> Tensor:
            return rows.view(moved.shape).movedim(-1, 2)

        return (
            value,
            back(gradient),
            lambda to: back(product(to.movedim(2, -1).flatten(1, -2))),
        )

    def _at(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor, LossProduct]:
        log_s = o.log_softmax(-1)
        s = log_s.exp()
        counted = y != self.ignore_index
        right = torch.where(counted, y, 0).unsqueeze(-1)
        share = counted.to(o.dtype).unsqueeze(-1)  # of the label in the target distribution
        if self.weight is not None:
            share = share * self.weight[right]
        Z = share.sum((1, 2)) if self.reduction == "mean" else torch.ones_like(share[:, 0, 0])
        m, spread = share, None
        if self.label_smoothing:
            flat = self.label_smoothing / o.shape[-1]
            every = torch.ones_like(o[:1, :1]) if self.weight is None else self.weight
            spread = flat * every * counted.unsqueeze(-1)
            share = (1 - self.label_smoothing) * share
            m = share + spread.sum(-1, keepdim=True)
        value = -(share * log_s.gather(-1, right)).sum((1, 2))
        difference = (m * s).scatter_add(-1, right, -share)
        if spread is not None:
            value = value - (spread * log_s).sum((1, 2))
            difference = difference - spread
        over = Z[:, None, None]
        ms = m * s
        return (
            value / Z,
            difference / over,
            lambda to: ms * (to - (s * to).sum(-1, keepdim=True)) / over,
        )


@dataclass(frozen=True)
class SquaredError:
    """The mean over N and everything else of (o - y)^2, or the sum."""

    reduction: str = "mean"

    def at(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor, LossProduct]:
        error, axes = o - y, tuple(range(1, o.dim()))
        if self.reduction == "sum":
            return error.square().sum(axes), 2 * error, lambda to: 2 * to
        scale = 2 / math.prod(o.shape[1:])
        return error.square().mean(axes), scale * error, lambda to: scale * to


@dataclass(frozen=True)
class AnyLoss:
    """A loss of the user's, task by task."""

    loss: LossFunction

    def at(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor, LossProduct]:
        with torch.enable_grad():
            leaves = [row.detach().requires_grad_() for row in o]
            values = [self.loss(row, target) for row, target in zip(leaves, y, strict=True)]
            for value in values:
                check_loss(value)
                check_depends(value)
            total = torch.stack(values)
            gradients = torch.autograd.grad(total.sum(), leaves, create_graph=True)

        def product(to: Tensor) -> Tensor:
            curved = [g for g in gradients if g.requires_grad]
            if not curved:
                return torch.zeros_like(to)
            directions = [t for g, t in zip(gradients, to, strict=True) if g.requires_grad]
            products = torch.autograd.grad(
                curved,
                leaves,
                directions,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            return torch.stack(products)

        return total.detach(), torch.stack(gradients).detach(), product
