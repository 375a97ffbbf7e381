"""Checks for plugin authors: does an estimator, a data set keep what its contract promises?

Each raises AssertionError naming the promise that is broken. In a test suite of one's own:

    from binomctl.testing import check_estimator
    def test_mine():
        check_estimator(MyEstimator)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from binomctl.adapt import adapt_and_validate
from binomctl.contracts import (
    Adaptation,
    Adapted,
    Curvature,
    Dataset,
    Diagnosing,
    Estimator,
    ExactAtOrder,
    LearnsRule,
    Proximal,
)
from binomctl.curvature import AutogradEngine
from binomctl.episodes import EpisodeBatch
from binomctl.errors import DataError
from binomctl.flat import Layout, initial_parameters
from binomctl.options import build, describe_options
from binomctl.settings.config import Config, merge

B, K, ALPHA = 3, 4, 0.1


def check_estimator(cls: type, options: Mapping[str, Any] | None = None) -> None:
    """Check an estimator on a small regression problem, 3 tasks and 4 inner steps.

    Shape, finiteness, determinism, untouched inputs, the same rows for one task as among others,
    float32 against float64, no Hessian asked for beyond `steps`, options with a sentence each; and
    what it declares besides: exactness (`exact`), `adjoints`, `diagnose`.

    Args:
        cls: the plugin class.
        options: by name; None takes the defaults.

    Raises:
        AssertionError: a promise is broken.
        ConfigError: the options are wrong.
    """
    for info in describe_options(cls):
        _promise(bool(info.doc), f"option '{info.name}' has no sentence for the help")
    estimator: Any = build(cls, options or {}, cls.__name__)
    _promise(
        all(0 <= k <= K for k in estimator.steps(K)), f"steps({K}) goes beyond 0..{K}, H_0..H_K"
    )
    adapted, asked = _adapted(estimator, torch.float64)
    g, phi = adapted.g.clone(), adapted.trajectory.phi.clone()
    rows = estimator.meta_gradient(adapted).clone()  # it may be adapted.g itself
    _promise(
        torch.equal(adapted.g, g) and torch.equal(adapted.trajectory.phi, phi),
        "it changed what it was given",
    )
    d = adapted.trajectory.adaptation.layout.d
    _promise(tuple(rows.shape) == (B, d), f"the estimate has shape {list(rows.shape)}, not [B, d]")
    _promise(bool(torch.isfinite(rows).all()), "the estimate is not finite")
    _promise(asked <= set(estimator.steps(K)), f"it asked for H_k outside steps({K}): {asked}")
    _promise(torch.equal(estimator.meta_gradient(adapted), rows), "two calls give two results")
    for b in range(B):
        alone, _ = _adapted(estimator, torch.float64, only=b)
        _close(
            estimator.meta_gradient(alone)[0], rows[b], 1e-10, "a task's row depends on the others"
        )
    single, _ = _adapted(estimator, torch.float32)
    _close(estimator.meta_gradient(single).double(), rows, 1e-3, "float32 is far from float64")
    if isinstance(estimator, LearnsRule):
        w = estimator.adjoints(adapted)
        _promise(tuple(w.shape) == (B, K + 1, d), f"adjoints have shape {list(w.shape)}")
        _close(w[:, 0], rows, 1e-10, "adjoint 0 is not the meta-gradient")
    if isinstance(estimator, Diagnosing):
        for name, value in estimator.diagnose(adapted, rows).items():
            _promise(tuple(value.shape) == (B,), f"diagnostic '{name}' is not one figure a task")
    if issubclass(cls, ExactAtOrder):
        exact, _ = _adapted(cls.exact(K), torch.float64)
        _close(
            cls.exact(K).meta_gradient(exact),
            _backpropagated(),
            1e-9,
            f"exact({K}) is not the gradient by backpropagation through the inner loop",
        )


def check_dataset(cls: type, options: Mapping[str, Any] | None = None) -> None:
    """Check a data set: its declarations, and the first episodes of every split.

    Episodes pure in (seed, split, index), shapes as declared, a scalar differentiable loss, a
    scalar metric, an unknown split refused, a recommendation that is a valid configuration.

    Args:
        cls: the plugin class.
        options: by name; None takes the defaults.

    Raises:
        AssertionError: a promise is broken.
    """
    for info in describe_options(cls):
        _promise(bool(info.doc), f"option '{info.name}' has no sentence for the help")
    dataset: Dataset = build(cls, options or {}, cls.__name__)
    again: Dataset = build(cls, options or {}, cls.__name__)
    Config.model_validate(merge(Config().model_dump(), dataset.recommended))
    _promise({"train", "validation", "test"} <= set(dataset.splits), f"splits: {dataset.splits}")
    for split in dataset.splits:
        first = dataset.episode(split, 0)
        dataset.episode(split, 1)
        for field in dataclasses.fields(first):
            one, two = getattr(first, field.name), getattr(again.episode(split, 0), field.name)
            _promise(torch.equal(one, two), f"{field.name} of '{split}' 0 is not the same twice")
        other = dataset.episode(split, 1)
        _promise(not torch.equal(first.x_trn, other.x_trn), f"episodes 0 and 1 of '{split}' agree")
        for x, y in ((first.x_trn, first.y_trn), (first.x_val, first.y_val)):
            _promise(tuple(x.shape[1:]) == dataset.in_shape, f"x has shape {list(x.shape)}")
            _promise(len(x) == len(y) > 0, "x and y differ in length")
            _check_targets(dataset, y)
    _check_loss(dataset)
    try:
        dataset.episode("no such split", 0)
    except DataError:
        return
    raise AssertionError("an unknown split is not refused with a DataError")


def _check_targets(dataset: Dataset, y: Tensor) -> None:
    if dataset.kind == "classification":
        _promise(y.dtype == torch.int64, f"class indices have dtype {y.dtype}")
        _promise(int(y.min()) >= 0 and int(y.max()) < dataset.out_dim, "a class is out of range")
    else:
        _promise(y.is_floating_point(), f"targets have dtype {y.dtype}")


def _check_loss(dataset: Dataset) -> None:
    y = dataset.episode("train", 0).y_trn
    prediction = torch.zeros(len(y), dataset.out_dim, requires_grad=True)
    loss = dataset.loss(prediction, y)
    _promise(loss.dim() == 0, f"the loss has shape {list(loss.shape)}, expected a scalar")
    _promise(loss.requires_grad, "the loss does not depend on the prediction")
    metric = dataset.metric(prediction.detach(), y)
    _promise(metric.dim() == 0, f"the metric has shape {list(metric.shape)}, expected a scalar")


@dataclass(frozen=True)
class _Identity:
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


def _problem(dtype: torch.dtype) -> tuple[nn.Module, EpisodeBatch]:
    random = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=random, dtype=torch.float64))
    x = torch.randn(2, B, 6, 2, generator=random, dtype=torch.float64).to(dtype)
    y = torch.randn(2, B, 6, 1, generator=random, dtype=torch.float64).to(dtype)
    return model, EpisodeBatch(x[0], y[0], x[1], y[1])


def _adapted(
    estimator: Estimator, dtype: torch.dtype, only: int | None = None
) -> tuple[Adapted, set[int]]:
    model, batch = _problem(dtype)
    if only is not None:
        parts = (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)
        batch = EpisodeBatch(*(t[only : only + 1] for t in parts))
    engine = AutogradEngine(model, F.mse_loss)
    proximal = estimator.proximal if isinstance(estimator, Proximal) else 0.0
    how = Adaptation(K, ALPHA, _Identity(), torch.empty(0), engine.layout, proximal=proximal)
    theta = initial_parameters(model)
    adapted, _, _ = adapt_and_validate(engine, theta, batch, how, estimator.steps(K))
    recorder = _Recorder(adapted.curvature)
    return dataclasses.replace(adapted, curvature=recorder), recorder.asked


def _backpropagated() -> Tensor:
    """The exact meta-gradient of the small problem, by plain autograd."""
    model, batch = _problem(torch.float64)
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


def _promise(kept: bool, broken: str) -> None:
    if not kept:
        raise AssertionError(broken)


def _close(found: Tensor, expected: Tensor, tolerance: float, broken: str) -> None:
    error = float((found - expected).norm() / expected.norm().clamp_min(1e-300))
    _promise(error <= tolerance, f"{broken} (relative difference {error:.1e})")
