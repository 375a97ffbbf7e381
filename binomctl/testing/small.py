"""The small regression problem that plugins are checked on: 3 tasks, 4 inner steps."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation, Adapted, Curvature, Estimator, Proximal
from binomctl.curvature import AutogradEngine
from binomctl.episodes import EpisodeBatch
from binomctl.flat import Layout, initial_parameters
from binomctl.options import build, describe_options

B, K, ALPHA = 3, 4, 0.1


@dataclass(frozen=True)
class Identity:
    """M = I; the product's own rules are plugins, which the core does not import."""

    plain: bool = True

    def initial(self, layout: Layout) -> Tensor:
        return torch.empty(0)

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return v


class _Recorder:
    """A curvature that remembers which H_k it was asked for."""

    def __init__(self, inner: Curvature) -> None:
        self._inner = inner
        self.order = inner.order
        self.asked: set[int] = set()

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        return self._inner.gradient(phi, k, keep)

    def place(self, k: int, phi: Tensor) -> None:
        self._inner.place(k, phi)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        self.asked |= set(ks)
        return self._inner.hvp(ks, V)


def small_problem(dtype: torch.dtype) -> tuple[nn.Module, EpisodeBatch]:
    random = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=random, dtype=torch.float64))
    x = torch.randn(2, B, 6, 2, generator=random, dtype=torch.float64).to(dtype)
    y = torch.randn(2, B, 6, 1, generator=random, dtype=torch.float64).to(dtype)
    return model, EpisodeBatch(x[0], y[0], x[1], y[1])


def small_classification(dtype: torch.dtype) -> tuple[nn.Module, EpisodeBatch]:
    """As `small_problem`, with three classes for targets."""
    random = torch.Generator().manual_seed(2)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=random, dtype=torch.float64))
    x = torch.randn(2, B, 6, 2, generator=random, dtype=torch.float64).to(dtype)
    y = torch.tensor([0, 1, 2, 0, 1, 2]).expand(2, B, -1)
    return model, EpisodeBatch(x[0], y[0], x[1], y[1])


def doubled(network: nn.Module) -> nn.Module:
    """A copy in float64."""
    return copy.deepcopy(network).double()


def adapted_by(
    estimator: Estimator, dtype: torch.dtype, only: int | None = None
) -> tuple[Adapted, set[int]]:
    model, batch = small_problem(dtype)
    if only is not None:
        parts = (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)
        batch = EpisodeBatch(*(t[only : only + 1] for t in parts))
    engine = AutogradEngine(model, F.mse_loss)
    proximal = estimator.proximal if isinstance(estimator, Proximal) else 0.0
    how = Adaptation(K, ALPHA, Identity(), torch.empty(0), engine.layout, proximal=proximal)
    theta = initial_parameters(model)
    adapted, _, _ = adapt_and_validate(engine, theta, batch, how, estimator.steps(K))
    recorder = _Recorder(adapted.curvature)
    return dataclasses.replace(adapted, curvature=recorder), recorder.asked


def backpropagated() -> Tensor:
    """The exact meta-gradient of the small problem, by plain autograd."""
    model, batch = small_problem(torch.float64)
    layout, rows = Layout.of(model), []
    for b in range(B):
        theta = initial_parameters(model).requires_grad_()
        phi = theta

        def loss(phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return F.mse_loss(torch.func.functional_call(model, layout.unflatten(phi), (x,)), y)

        for _ in range(K):
            support = loss(phi, batch.x_trn[b], batch.y_trn[b])
            (gradient,) = torch.autograd.grad(support, phi, create_graph=True)
            phi = phi - ALPHA * gradient
        query = loss(phi, batch.x_val[b], batch.y_val[b])
        rows.append(torch.autograd.grad(query, theta)[0])
    return torch.stack(rows)


def built(cls: type, options: Mapping[str, Any] | None) -> Any:
    """A plugin of these options, None for the defaults, each of which has a sentence."""
    for info in describe_options(cls):
        promise(bool(info.doc), f"option '{info.name}' has no sentence for the help")
    return build(cls, options or {}, cls.__name__)


def promise(kept: bool, broken: str) -> None:
    if not kept:
        raise AssertionError(broken)


def close(found: Tensor, expected: Tensor, tolerance: float, broken: str) -> None:
    error = float((found - expected).norm() / expected.norm().clamp_min(1e-300))
    promise(error <= tolerance, f"{broken} (relative difference {error:.1e})")
