"""The workloads of benchmarks/speed.py, and whoever computes their meta-gradients."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
from networks import NETWORKS
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from binomctl.adapt import adapt_and_validate, estimate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.curvature.traits import threads_for
from binomctl.episodes import EpisodeBatch
from binomctl.flat import Layout, initial_parameters
from binomctl.images.learn2learn import load as load_learn2learn
from binomctl.models import build_model
from binomctl.problem.build import LARGE
from binomctl.settings import registry

K, L = 5, 2
WORKLOADS: dict[str, dict[str, Any]] = {
    "sinusoid MLP, B = 25": {"model": "mlp", "shape": (1,), "B": 25, "alpha": 0.01,
                             "rounds": 25, "apart": True},
    "Conv4-32 28x28x1, 1-shot": {"model": "conv4", "shape": (1, 28, 28), "shots": 1},
    "Conv4-32 28x28x1, 5-shot": {"model": "conv4", "shape": (1, 28, 28), "shots": 5},
    "Conv4-32 84x84x3, 1-shot": {
        "model": "conv4", "shape": (3, 84, 84), "shots": 1, "rounds": 5,
    },
    "Conv4-32 84x84x3, 5-shot": {
        "model": "conv4", "shape": (3, 84, 84), "shots": 5, "rounds": 3,
        "without": ["vmap", "torch.func"],  # which need more than 24 GiB here
    },
    "ResNet12 (16, 40, 80, 160) 84x84x3, 1-shot, 5 queries": {
        "model": "resnet12", "options": {"filters": (16, 40, 80, 160)}, "shape": (3, 84, 84),
        "shots": 1, "queries": 5, "rounds": 3, "without": ["vmap", "torch.func"],
    },
    "ResNet12 (64, 160, 320, 640) 84x84x3, 1-shot, B = 1, 1 query": {
        "model": "resnet12", "options": {"filters": (64, 160, 320, 640)}, "shape": (3, 84, 84),
        "shots": 1, "B": 1, "queries": 1, "rounds": 2, "allocators": ["tuned"],
        "without": ["vmap", "torch.func", "binomctl MAML, autograd"],
    },
    "WRN-28-2 28x28x1, 1-shot, 5 queries": {
        "model": "wrn28", "options": {"widen": 2}, "shape": (1, 28, 28),
        "shots": 1, "queries": 5, "rounds": 3, "without": ["vmap", "torch.func"],
    },
    "Transformer (4 layers, width 128, 64 tokens), 1-shot, 5 queries": {
        "model": "transformer", "shape": (64, 32), "shots": 1, "queries": 5, "rounds": 5,
        "without": ["vmap", "torch.func"], "peaks": True,
    },
    "ViT (4 layers, width 128, 8x8 patches) 64x64x3, 1-shot, 5 queries": {
        "model": "vit", "shape": (3, 64, 64), "shots": 1, "queries": 5, "rounds": 5,
        "without": ["vmap", "torch.func"], "peaks": True,
    },
}  # fmt: skip


class PlainNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of the batch, as plain operations."""

    def forward(self, input: Tensor) -> Tensor:
        shifted = input - input.mean((0, 2, 3), keepdim=True)
        scale = (shifted.square().mean((0, 2, 3), keepdim=True) + self.eps).rsqrt()
        return shifted * scale * self.weight[:, None, None] + self.bias[:, None, None]


def built(spec: dict[str, Any], out: int) -> nn.Module:
    """The network of a workload, one of binomctl's or of networks.py, with weights of seed 0."""
    if spec["model"] not in NETWORKS:
        return build_model(spec["model"], spec.get("options", {}), spec["shape"], out, 0)
    torch.manual_seed(0)
    return NETWORKS[spec["model"]](spec["shape"], out)


class Case:
    """One workload: a model, its data, and the contestants."""

    def __init__(self, spec: dict[str, Any], K: int = K) -> None:
        self.spec, self.K = spec, K
        self.B, self.alpha = spec.get("B", 4), spec.get("alpha", 0.01)
        self.regression = spec["model"] == "mlp"
        ways = spec.get("ways", 5)
        out = 1 if self.regression else ways
        model = built(spec, out)
        self.model: nn.Module = model
        self._plain: nn.Module = model
        self.loss = F.mse_loss if self.regression else F.cross_entropy
        random = torch.Generator().manual_seed(0)
        sizes = (10, 10) if self.regression else (
            ways * spec["shots"], ways * spec.get("queries", 15))  # fmt: skip
        parts = []
        for n in sizes:
            x = torch.rand(self.B, n, *spec["shape"], generator=random)
            if self.regression:
                x = 10 * x - 5
                parts += [x, x.sin()]
            else:
                parts += [x, torch.arange(ways).repeat_interleave(n // ways).expand(self.B, -1)]
        self.batch = EpisodeBatch(*parts)
        self.layout = Layout.of(model)
        self.theta = initial_parameters(model)

    def to(self, device: torch.device, dtype: torch.dtype) -> Case:
        """The same on a device, in a type of numbers."""
        self.model = self._plain = self.model.to(device, dtype)
        sets = (self.batch.x_trn, self.batch.y_trn, self.batch.x_val, self.batch.y_val)
        moved = (t.to(device, dtype if t.is_floating_point() else None) for t in sets)
        self.batch = EpisodeBatch(*moved)
        self.theta = self.theta.to(device, dtype)
        return self

    def ours(self, engine: Any, name: str, compiled: bool = False, **options: Any) -> Any:
        estimator = registry.create("estimator", name, options)
        rule = registry.create("rule", "gd", {})
        how = Adaptation(self.K, self.alpha, rule, self.theta.new_empty(0), engine.layout)

        def run(theta: Tensor, batch: EpisodeBatch) -> Tensor:
            keep = estimator.steps(self.K)
            adapted, _, _ = adapt_and_validate(engine, theta, batch, how, keep)
            return estimate(estimator, adapted).theta

        step = torch.compile(run, options={"cpp_wrapper": True}) if compiled else run

        def alone() -> Tensor:
            with threads_for(engine, self.B):
                return step(self.theta, self.batch)

        return alone

    def fast(self, **options: Any) -> AnalyticEngine:
        """The layer algebra, traced on the data where it must be."""
        return AnalyticEngine(self.model, self.loss, x=self.batch.x_trn[0], **options)

    def learn2learn(self, first_order: bool) -> Callable[[], Tensor]:
        learner = load_learn2learn().algorithms.MAML(
            self.model, lr=self.alpha, first_order=first_order
        )
        x_trn, y_trn = self.batch.x_trn, self.batch.y_trn
        x_val, y_val = self.batch.x_val, self.batch.y_val

        def step() -> Tensor:
            self.model.zero_grad()
            for b in range(self.B):
                clone = learner.clone()
                for _ in range(self.K):
                    clone.adapt(self.loss(clone(x_trn[b]), y_trn[b]))
                self.loss(clone(x_val[b]), y_val[b]).backward()
            return torch.cat([p.grad.reshape(-1) for p in self.model.parameters()])

        def by_products() -> Tensor:
            with sdpa_kernel([SDPBackend.MATH]):  # fused attention has no double backward
                return step()

        if self.spec["model"] in NETWORKS and not first_order:
            return by_products

        return step

    def torchopt(self) -> Callable[[], Tensor]:
        """MAML by TorchOpt's differentiable SGD, as its own MAML example has it."""
        import torchopt

        inner = torchopt.MetaSGD(self.model, lr=self.alpha)
        x_trn, y_trn = self.batch.x_trn, self.batch.y_trn
        x_val, y_val = self.batch.x_val, self.batch.y_val

        def step() -> Tensor:
            self.model.zero_grad()
            start = [torchopt.extract_state_dict(part, by="reference")
                     for part in (self.model, inner)]  # fmt: skip
            for b in range(self.B):
                for _ in range(self.K):
                    inner.step(self.loss(self.model(x_trn[b]), y_trn[b]))
                self.loss(self.model(x_val[b]), y_val[b]).backward()
                for part, state in zip((self.model, inner), start, strict=True):
                    torchopt.recover_state_dict(part, state)
            return torch.cat([p.grad.reshape(-1) for p in self.model.parameters()])

        return step

    def _task_loss(self, phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        output = functional_call(self._plain, self.layout.unflatten(phi), (x,))
        # vmap(jvp(grad)) of F.mse_loss fails ("ZeroTensors are immutable"); written out it works.
        return (output - y).square().mean() if self.regression else self.loss(output, y)

    def _written_out(self) -> Case:
        """The same with batch norm as plain operations: its own double backward fails under vmap
        ("accessing `data` under vmap transform is not allowed", torch 2.14.1)."""
        other = copy.copy(self)
        other._plain = copy.deepcopy(self.model)
        for module in other._plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = PlainNorm
        return other

    def functional(self, product: str) -> Callable[[], Tensor]:
        """Binom(L) by the cascade of Theorem 3.2, H v by vmap over all tasks and points of a level
        of vjp(grad) or jvp(grad)."""
        gradient = grad(self._task_loss)
        if product == "vjp":
            gradient = grad(self._written_out()._task_loss)

        def hvp(phi: Tensor, v: Tensor, x: Tensor, y: Tensor) -> Tensor:
            def at(p: Tensor) -> Tensor:
                return gradient(p, x, y)

            return vjp(at, phi)[1](v)[0] if product == "vjp" else jvp(at, (phi,), (v,))[1]

        def step() -> Tensor:
            batch, P = self.batch, self.K - L + 1
            phi = self.theta.expand(self.B, -1)
            path = []
            for _ in range(self.K):
                path.append(phi)
                phi = phi - self.alpha * vmap(gradient)(phi, batch.x_trn, batch.y_trn)
            g = vmap(gradient)(phi, batch.x_val, batch.y_val)
            V = g.unsqueeze(1).expand(-1, P, -1)
            points = torch.stack(path, 1)
            x, y = (t.repeat_interleave(P, 0) for t in (batch.x_trn, batch.y_trn))
            for level in range(L):
                here = points[:, L - 1 - level : L - 1 - level + P].flatten(0, 1)
                U = vmap(hvp)(here, V.flatten(0, 1), x, y).view(self.B, P, -1)
                V = V[:, -1:] - self.alpha * U.flip(1).cumsum(1).flip(1)
            return V[:, 0]

        return step

    def backprop(self) -> Callable[[], Tensor]:
        """Exact MAML: torch.func through the whole inner loop, vmapped over the tasks."""
        gradient = grad(self._task_loss)

        def meta(theta: Tensor, x: Tensor, y: Tensor, x_val: Tensor, y_val: Tensor) -> Tensor:
            phi = theta
            for _ in range(self.K):
                phi = phi - self.alpha * gradient(phi, x, y)
            return self._task_loss(phi, x_val, y_val)

        b = self.batch
        return lambda: vmap(grad(meta), (None, 0, 0, 0, 0))(
            self.theta, b.x_trn, b.y_trn, b.x_val, b.y_val
        )

    def contestants(self) -> dict[str, Callable[[], Tensor]]:
        fast = self.fast()
        found = {
            "learn2learn MAML": self.learn2learn(False),
            "learn2learn FOMAML": self.learn2learn(True),
            "torch.func backprop, MAML": self.backprop(),
            "vmap(vjp(grad)), Binom(2)": self.functional("vjp"),
            "vmap(jvp(grad)), Binom(2)": self.functional("jvp"),
            "binomctl FOMAML": self.ours(fast, "fomaml"),
            "binomctl MAML": self.ours(fast, "maml"),
            "binomctl Binom(2)": self.ours(fast, "binom", L=L),
            "binomctl MAML, autograd": self.ours(AutogradEngine(self.model, self.loss), "maml"),
        }
        if importlib.util.find_spec("torchopt") and self.spec["model"] in ("mlp", "conv4"):
            found["TorchOpt MAML"] = self.torchopt()
        if importlib.util.find_spec("jax") and self.spec["model"] in ("mlp", "conv4"):
            import jax_contestants

            found |= jax_contestants.contestants(
                self.spec["model"], self.model, self.batch, self.K, self.alpha
            )
        if self.regression and not fast.native:  # native passes are not compiled
            found["binomctl MAML, compiled"] = self.ours(fast, "maml", compiled=True)
            found["binomctl Binom(2), compiled"] = self.ours(fast, "binom", compiled=True, L=L)
        return found

    def work(self, products: int) -> float | None:
        """FLOPs of a step with so many Hessian-vector products; None of the perceptron, whose time
        is not in them.

        A convolution or matrix product with c FLOPs forward costs 3 c in a gradient, in a product
        with the primal stored 6 c; the first layer 2 c and 2 c, whose input needs neither gradient
        nor tangent.
        """
        if self.regression:
            return None
        with FlopCounterMode(display=False) as counter, sdpa_kernel([SDPBackend.MATH]):
            self.model(self.batch.x_trn[0, :1])
        F_ = counter.get_total_flops()
        layers = [n for n, m in self.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        counts = counter.get_flop_counts()
        first = sum(counts[f"{type(self.model).__name__}.{layers[0]}"].values())
        N_s, N_q = self.batch.y_trn.shape[1], self.batch.y_val.shape[1]
        G, T = 3 * F_ - first, 6 * F_ - 4 * first
        return self.B * ((self.K * N_s + N_q) * G + products * N_s * T)


def large_images(spec: dict[str, Any]) -> bool:
    """As binomctl/problem/build.py has it for a run."""
    places = 5 * spec.get("queries", 15) * math.prod(spec["shape"][1:])
    return len(spec["shape"]) == 3 and places > LARGE
