"""Losses by value, gradient and product with their Hessian, at the outputs of T tasks.

Cross-entropy and mean squared error in closed form; any other loss by automatic differentiation of
the loss alone, whose inputs are a few hundred numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
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
    if loss is F.cross_entropy and o.dim() == 3 and y.dim() == 2 and not y.is_floating_point():
        return CrossEntropy()
    if loss is F.mse_loss and o.shape == y.shape:
        return MeanSquaredError()
    return AnyLoss(loss)


def has_closed_form(loss: LossFunction) -> bool:
    """Whether `output_loss` knows the derivatives of a loss (at the usual outputs and targets)."""
    return loss is F.cross_entropy or loss is F.mse_loss


@dataclass(frozen=True)
class CrossEntropy:
    """Mean over N of -log softmax(o)[y]; with s the softmax, to -> s (to - sum(s to)) / N."""

    def at(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor, LossProduct]:
        N = o.shape[1]
        log_s = o.log_softmax(-1)
        s = log_s.exp()
        right = y.unsqueeze(-1)
        value = -log_s.gather(-1, right).mean((1, 2))
        gradient = s.scatter_add(-1, right, -torch.ones_like(right, dtype=s.dtype)) / N
        return value, gradient, lambda to: s * (to - (s * to).sum(-1, keepdim=True)) / N


@dataclass(frozen=True)
class MeanSquaredError:
    """Mean over N and F of (o - y)^2."""

    def at(self, o: Tensor, y: Tensor) -> tuple[Tensor, Tensor, LossProduct]:
        scale = 2 / math.prod(o.shape[1:])
        error = o - y
        values = error.square().mean(tuple(range(1, error.dim())))
        return values, scale * error, lambda to: scale * to


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
