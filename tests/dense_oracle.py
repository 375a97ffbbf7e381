"""A dense float64 oracle: explicit Hessians, explicit sums over index subsets.

It shares no code with the product: plain autograd on an explicit function of one flat vector.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

Loss = Callable[[Tensor], Tensor]


def flat_loss(
    model: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> Loss:
    """l(phi) of one task as a function of the concatenated parameters."""
    named = list(model.named_parameters())

    def loss(phi: Tensor) -> Tensor:
        parameters, start = {}, 0
        for name, p in named:
            parameters[name] = phi[start : start + p.numel()].view_as(p)
            start += p.numel()
        return criterion(functional_call(model, parameters, (x,)), y)

    return loss


def inner_loop(
    trn: Loss, val: Loss, theta: Tensor, K: int, alpha: float
) -> tuple[list[Tensor], Tensor]:
    """The dense Hessians H_0..H_{K-1} along the inner loop, and g at its end."""
    phi, hessians = theta, []
    for _ in range(K):
        hessians.append(torch.autograd.functional.hessian(trn, phi))
        phi = phi - alpha * torch.autograd.functional.jacobian(trn, phi)
    return hessians, torch.autograd.functional.jacobian(val, phi)


def subset_sum(hessians: list[Tensor], g: Tensor, L: int, C: int, alpha: float) -> Tensor:
    """Equation (39), term by term: all index subsets of size <= L among the last C steps."""
    K, total = len(hessians), g.clone()
    for j in range(1, L + 1):
        for ks in itertools.combinations(range(K - C, K), j):
            v = g
            for k in reversed(ks):
                v = hessians[k] @ v
            total = total + (-alpha) ** j * v
    return total


def product(hessians: list[Tensor], g: Tensor, L: int, alpha: float) -> Tensor:
    """The last L factors (I - alpha H_k) multiplied out as matrices, then applied to g."""
    matrix = torch.eye(len(g), dtype=g.dtype)
    for H in hessians[len(hessians) - L :]:
        matrix = matrix @ (torch.eye(len(g), dtype=g.dtype) - alpha * H)
    return matrix @ g


def backpropagated(trn: Loss, val: Loss, theta: Tensor, K: int, alpha: float) -> Tensor:
    """The exact meta-gradient by plain backpropagation through the whole inner loop."""
    start = theta.clone().requires_grad_()
    phi = start
    for _ in range(K):
        (gradient,) = torch.autograd.grad(trn(phi), phi, create_graph=True)
        phi = phi - alpha * gradient
    (result,) = torch.autograd.grad(val(phi), start)
    return result
