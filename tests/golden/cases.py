"""Runs and meta-gradients whose numbers must not move when the code is moved about."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import binomctl
from binomctl.machine.environment import environment
from binomctl.models import build_model
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.training.loop import meta_train
from binomctl.training.state import MetaState

Case = Callable[[], list[Tensor]]


def machine() -> str:
    """What bits depend on: another torch, processor or library rounds in another order."""
    cpu = environment()["cpu"] or platform.machine()
    level = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {cpu}, {level}, {os.cpu_count()} cores"


def fingerprint(tensors: list[Tensor]) -> dict[str, Any]:
    """The bits as a hash, and what a person and another machine can compare."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    flat = torch.cat([t.detach().double().flatten() for t in tensors])
    picked = flat[torch.linspace(0, len(flat) - 1, 5).long()]
    return {"sha256": digest.hexdigest(), "norm": float(flat.norm()), "entries": picked.tolist()}


def _regression(dtype: torch.dtype) -> tuple[Tensor, ...]:
    torch.manual_seed(3)
    x = [torch.randn(4, n, 1, dtype=dtype) for n in (10, 7)]
    y = [torch.sin(3 * part) + 0.1 * torch.randn(4, 1, 1, dtype=dtype) for part in x]
    return x[0], y[0], x[1], y[1]


def _pictures() -> tuple[Tensor, ...]:
    torch.manual_seed(4)
    x = [torch.randn(3, n, 1, 28, 28) for n in (5, 10)]
    y = [torch.arange(n).remainder(5).repeat(3, 1) for n in (5, 10)]
    return x[0], y[0], x[1], y[1]


def _mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)
    ).to(dtype)


def on_mlp(dtype: torch.dtype = torch.float32, **options: Any) -> Case:
    def case() -> list[Tensor]:
        found = binomctl.meta_gradient(
            _mlp(dtype), F.mse_loss, _regression(dtype), alpha=0.05, **options
        )
        return list(found.values())

    return case


def on_conv4(**options: Any) -> Case:
    def case() -> list[Tensor]:
        model = build_model("conv4", {"filters": 16}, (1, 28, 28), 5, 0)
        how = {"K": 3, "alpha": 0.1} | options
        return list(binomctl.meta_gradient(model, F.cross_entropy, _pictures(), **how).values())

    return case


def run(dataset: str, **settings: Any) -> Case:
    """Three meta-steps: theta, m, and the mean losses and metrics."""

    def case() -> list[Tensor]:
        fixed = {
            "dataset.name": dataset, "training.steps": 3, "device": "cpu", "engine.compile": "off",
            "engine.threads": 1, "adaptation.K": 3,
        }  # fmt: skip
        if dataset == "glyphs":
            fixed |= {"model.filters": 16, "engine.convolution": "blocks"}
        named = {key.replace("__", "."): value for key, value in settings.items()}
        config, _ = load_config(overrides=fixed | named)
        problem = build_problem(config)
        state = MetaState(problem)
        steps = list(meta_train(problem, state))
        figures = torch.tensor([[s.loss, s.metric] for s in steps], dtype=torch.float64)
        return [state.theta, state.m, figures]

    return case


D = torch.float64
CASES: dict[str, Case] = {
    "mlp maml": on_mlp(estimator="maml"),
    "mlp fomaml": on_mlp(estimator="fomaml"),
    "mlp trunc 2": on_mlp(estimator="trunc", L=2),
    "mlp binom 1": on_mlp(estimator="binom", L=1),
    "mlp binom 3 scaled": on_mlp(estimator="binom", L=3, alpha_scaling="paper"),
    "mlp hybrid 2 of 3": on_mlp(estimator="hybrid", L=2, C=3),
    "mlp reptile": on_mlp(estimator="reptile"),
    "mlp imaml": on_mlp(estimator="imaml", lam=2.0),
    "mlp neumann": on_mlp(estimator="neumann", L=2),
    "mlp maml anil": on_mlp(estimator="maml", rule="anil"),
    "mlp binom meta-sgd": on_mlp(estimator="binom", L=2, rule="meta-sgd"),
    "mlp maml meta-curvature": on_mlp(estimator="maml", rule="meta-curvature"),
    "mlp trunc meta-curvature": on_mlp(estimator="trunc", L=2, rule="meta-curvature"),
    "mlp maml vmap float64": on_mlp(D, estimator="maml", engine="autograd", batching="vmap"),
    "mlp binom loop": on_mlp(estimator="binom", L=2, engine="autograd", batching="loop"),
    "mlp binom columns": on_mlp(estimator="binom", L=2, order="columns"),
    "mlp binom vmap columns anew": on_mlp(
        estimator="binom",
        L=2,
        engine="autograd",
        batching="vmap",
        order="columns",
        memory="recompute",
    ),
    "conv4 maml": on_conv4(estimator="maml"),
    "conv4 binom anew": on_conv4(estimator="binom", L=2, memory="recompute"),
    "conv4 trunc autograd": on_conv4(estimator="trunc", L=1, engine="autograd"),
    "sinusoid binom": run("sinusoid", estimator__name="binom", estimator__L=2),
    "sinusoid fomaml adam": run("sinusoid", estimator__name="fomaml", adaptation__optimizer="adam"),
    "sinusoid reptile adam": run(
        "sinusoid", estimator__name="reptile", adaptation__optimizer={"name": "adam", "beta1": 0.0}
    ),
    "sinusoid maml mini-batches": run("sinusoid", estimator__name="maml", adaptation__batch=4),
    "sinusoid imaml sum": run(
        "sinusoid",
        estimator__name="imaml",
        adaptation__loss_reduction="sum",
        adaptation__alpha=0.001,
    ),
    "sinusoid meta-sgd clipped": run(
        "sinusoid", estimator__name="maml", rule__name="meta-sgd", training__clip_norm=0.5
    ),
    "sinusoid neumann autograd": run(
        "sinusoid", estimator__name="neumann", estimator__L=2, engine__kind="autograd"
    ),
    "glyphs binom": run("glyphs", estimator__name="binom", estimator__L=2),
    "glyphs maml frozen": run(
        "glyphs", estimator__name="maml", adaptation__statistics="frozen", training__steps=2
    ),
    "glyphs trunc per-step anil": run(
        "glyphs",
        estimator__name="trunc",
        estimator__L=2,
        rule__name="anil",
        adaptation__statistics="per-step",
        training__schedule="cosine",
    ),
    "mlp maml momentum": on_mlp(estimator="maml", optimizer_options={"momentum": 0.9}),
    "mlp binom nesterov": on_mlp(
        estimator="binom", L=2, optimizer_options={"momentum": 0.9, "nesterov": True}
    ),
    "mlp maml adam": on_mlp(
        estimator="maml", optimizer="adam", optimizer_options={"epsilon_root": 1e-4}
    ),
    "mlp trunc adam loop": on_mlp(
        estimator="trunc", L=2, optimizer="adam", engine="autograd", batching="loop"
    ),
    "sinusoid maml momentum": run(
        "sinusoid",
        estimator__name="maml",
        adaptation__optimizer={"name": "sgd", "momentum": 0.9},
    ),
    "sinusoid binom nesterov meta-sgd": run(
        "sinusoid",
        estimator__name="binom",
        estimator__L=2,
        rule__name="meta-sgd",
        adaptation__optimizer={"name": "sgd", "momentum": 0.9, "nesterov": True},
    ),
    "sinusoid maml adam": run(
        "sinusoid",
        estimator__name="maml",
        adaptation__optimizer={"name": "adam", "epsilon_root": 1e-4},
    ),
    "glyphs binom adam": run(
        "glyphs",
        estimator__name="binom",
        estimator__L=1,
        adaptation__optimizer={"name": "adam", "epsilon_root": 1e-4},
    ),
}
