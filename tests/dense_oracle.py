"""A dense float64 oracle: explicit Hessians, explicit sums over index subsets.

It shares no code with the product: plain autograd on an explicit function of one flat vector.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    trn: Loss, val: Loss, theta: Tensor, K: int, alpha: float, M: Tensor | None = None,
    *, dense: bool = True,
) -> tuple[list[Any], Tensor]:  # fmt: skip
    """The dense H_0 M^T..H_{K-1} M^T along the inner loop, and g at its end; M = I if None.
    dense: False for products by double backward, where a network has thousands of parameters."""
    phi, hessians = theta, []
    M = torch.eye(len(theta), dtype=theta.dtype) if M is None else M
    for _ in range(K):
        if dense:
            hessians.append(torch.autograd.functional.hessian(trn, phi) @ M.T)
        else:
            hessians.append(Products(trn, phi))
        phi = phi - alpha * M @ torch.autograd.functional.jacobian(trn, phi)
    return hessians, torch.autograd.functional.jacobian(val, phi)


@dataclass(frozen=True)
class Products:
    """H @ v for a loss at a point."""

    loss: Loss
    phi: Tensor

    def __matmul__(self, v: Tensor) -> Tensor:
        return torch.autograd.functional.vhp(self.loss, self.phi, v)[1]


def support_gradients(trn: Loss, theta: Tensor, K: int, alpha: float, M: Tensor) -> list[Tensor]:
    """grad l_trn at phi^0..phi^{K-1}."""
    phi, gradients = theta, []
    for _ in range(K):
        gradients.append(torch.autograd.functional.jacobian(trn, phi))
        phi = phi - alpha * M @ gradients[-1]
    return gradients


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
    return backpropagated_rule(trn, val, theta, torch.zeros(0), lambda m: None, K, alpha)[0]


def backpropagated_rule(
    trn: Loss,
    val: Loss,
    theta: Tensor,
    m: Tensor,
    matrix: Callable[[Tensor], Tensor | None],
    K: int,
    alpha: float,
) -> tuple[Tensor, Tensor]:
    """Exact gradients with respect to theta and m, M = matrix(m), by plain backpropagation."""
    start, m = theta.clone().requires_grad_(), m.clone().requires_grad_()
    phi, M = start, matrix(m)
    for _ in range(K):
        (gradient,) = torch.autograd.grad(trn(phi), phi, create_graph=True)
        phi = phi - alpha * (gradient if M is None else M @ gradient)
    return torch.autograd.grad(val(phi), (start, m), allow_unused=True, materialize_grads=True)


def placed(curvature, phi: Tensor):
    """A curvature at the points phi [B, K+1, d], none of them computed."""
    for k in range(phi.shape[1]):
        curvature.place(k, phi[:, k])
    return curvature


def kronecker(shapes: list[torch.Size], m: Tensor) -> Tensor:
    """Meta-Curvature's M as one dense block-diagonal matrix."""
    blocks, at = [], 0
    for shape in shapes:
        if len(shape) < 2:
            n = shape.numel()
            blocks.append(torch.diag(m[at : at + n]))
            at += n
            continue
        sizes = [shape[0], shape[1]]
        if len(shape) > 2:
            sizes.append(shape[2:].numel())
        block = torch.ones(1, 1, dtype=m.dtype)
        for n in sizes:
            block = torch.kron(block, m[at : at + n * n].reshape(n, n))
            at += n * n
        blocks.append(block)
    assert at == len(m)
    return torch.block_diag(*blocks)
