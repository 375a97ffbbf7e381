"""One meta-gradient of Binom(2) and MAML against a plain retained double-backward loop.

    python benchmarks/step_time.py [--repeats 15]

Conv4-32 on 28x28x1, 5-way 1-shot, 15 queries per class, K = 5, 4 tasks, float32, random images.
The loop is what one writes by hand: task after task, the K support gradients with create_graph,
one autograd.grad per Hessian-vector product through the retained graphs, torch's own threads.
All contestants run in turn, round after round. Writes benchmarks/results/step_time.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from binomctl import registry
from binomctl.adapt import adapt_and_validate
from binomctl.contracts import Adaptation
from binomctl.curvature import AutogradEngine
from binomctl.environment import environment
from binomctl.episodes import EpisodeBatch
from binomctl.flat import Layout, initial_parameters
from binomctl.models import build_model

B, WAYS, QUERIES, K, ALPHA, L = 4, 5, 15, 5, 0.1, 2
RESULT = Path(__file__).parent / "results" / "step_time.json"


def episodes() -> EpisodeBatch:
    random = torch.Generator().manual_seed(0)
    y = torch.arange(WAYS)
    return EpisodeBatch(
        torch.rand(B, WAYS, 1, 28, 28, generator=random),
        y.expand(B, -1),
        torch.rand(B, WAYS * QUERIES, 1, 28, 28, generator=random),
        y.repeat_interleave(QUERIES).expand(B, -1),
    )


def plain_loop(model: torch.nn.Module, batch: EpisodeBatch, order: int) -> Tensor:
    """The meta-gradient [B, d]; order = K is exact MAML, order = L the cascade of Binom(L)."""
    layout = Layout.of(model)
    rows = []
    for b in range(B):
        phi = [p.detach().requires_grad_() for p in model.parameters()]
        points, gradients = [], []
        for _ in range(K):
            out = functional_call(
                model, dict(zip(layout.names, phi, strict=True)), (batch.x_trn[b],)
            )
            loss = F.cross_entropy(out, batch.y_trn[b])
            g = torch.autograd.grad(loss, phi, create_graph=True)
            points.append(phi)
            gradients.append(g)
            steps = zip(phi, g, strict=True)
            phi = [(p - ALPHA * gp).detach().requires_grad_() for p, gp in steps]
        out = functional_call(model, dict(zip(layout.names, phi, strict=True)), (batch.x_val[b],))
        v0 = torch.autograd.grad(F.cross_entropy(out, batch.y_val[b]), phi)
        P = K - order + 1
        V = [list(v0) for _ in range(P)]
        for level in range(order):
            total = V[-1]
            new: list[list[Tensor]] = [[]] * P
            for p in reversed(range(P)):
                k = order - 1 - level + p
                u = torch.autograd.grad(
                    gradients[k], points[k], V[p], retain_graph=True, materialize_grads=True
                )
                total = [t - ALPHA * ui for t, ui in zip(total, u, strict=True)]
                new[p] = total
            V = new
        rows.append(torch.cat([t.reshape(-1) for t in V[0]]))
    return torch.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULT)
    args = parser.parse_args()

    model, batch = build_model("conv4", {}, (1, 28, 28), WAYS, 0), episodes()
    theta = initial_parameters(model)
    rule = registry.create("rule", "gd", {})

    def ours(estimator: Any, memory: Any) -> Callable[[], Tensor]:
        engine = AutogradEngine(model, F.cross_entropy, memory=memory)
        how = Adaptation(K, ALPHA, rule, rule.initial(engine.layout), engine.layout)

        def step() -> Tensor:
            adapted, _, _ = adapt_and_validate(engine, theta, batch, how, estimator.steps(K))
            return estimator.meta_gradient(adapted)

        return step

    binom = registry.create("estimator", "binom", {"L": L})
    maml = registry.create("estimator", "maml", {})
    contestants: dict[str, Callable[[], Tensor]] = {
        "loop binom L=2": lambda: plain_loop(model, batch, L),
        "loop maml": lambda: plain_loop(model, batch, K),
        "binomctl binom L=2, store": ours(binom, "store"),
        "binomctl maml, store": ours(maml, "store"),
        "binomctl binom L=2, recompute": ours(binom, "recompute"),
        "binomctl fomaml": ours(registry.create("estimator", "fomaml", {}), "store"),
    }
    for method in ("binom L=2", "maml"):
        plain, own = contestants[f"loop {method}"](), contestants[f"binomctl {method}, store"]()
        if float((plain - own).norm() / plain.norm()) > 1e-4:
            raise SystemExit(f"{method}: the two meta-gradients differ; nothing was timed")
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(args.repeats):
        for name, step in contestants.items():
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    base = statistics.median(times["loop binom L=2"])
    summary = {
        name: {
            "median_ms": round(statistics.median(t), 1),
            "p10_ms": round(sorted(t)[len(t) // 10], 1),
            "p90_ms": round(sorted(t)[9 * len(t) // 10], 1),
            "relative_to_loop_binom": round(statistics.median(t) / base, 3),
        }
        for name, t in times.items()
    }
    config = {
        "B": B,
        "ways": WAYS,
        "shots": 1,
        "queries": QUERIES,
        "K": K,
        "alpha": ALPHA,
        "L": L,
        "repeats": args.repeats,
        "model": "conv4-32, 28x28x1",
        "dtype": "float32",
    }
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(
        json.dumps(
            {
                "schema": "binomctl/step-time/1",
                "environment": environment(),
                "config": config,
                "times": summary,
            },
            indent=1,
        )
        + "\n"
    )
    for name, s in summary.items():
        print(
            f"{name:32} {s['median_ms']:8.1f} ms  ({s['p10_ms']:.1f} to {s['p90_ms']:.1f})"
            f"  {s['relative_to_loop_binom']:.2f}x"
        )


if __name__ == "__main__":
    main()
