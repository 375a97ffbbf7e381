"""What a step of `binomctl train` costs besides the meta-gradient.

    python benchmarks/overheads.py [--rounds 30]

For each configuration, in turn, round after round in one process: a step of the training loop with
everything that belongs to it (drawing and augmenting the tasks, the meta-gradient, the outer
optimiser, what is logged), and the meta-gradient alone on tasks that are there. Both in
milliseconds of wall time and of CPU time of all threads: tasks are drawn ahead by a thread of their
own, so that their CPU time is seldom waited for. Then the parts by themselves. A validation is
timed on the engine that trains and on the autograd engine, and `binomctl.MetaGradient` on the same
network and tasks. Writes benchmarks/results/overheads.json
and docs/speed.md's table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pages import put
from turns import spread

import binomctl
from binomctl.machine.allocator import tune_allocator
from binomctl.machine.environment import environment
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config
from binomctl.training.loop import meta_train, update
from binomctl.training.run import validate
from binomctl.training.state import MetaState
from binomctl.training.step import step_function

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks/results/overheads.json", ROOT / "docs/speed.md"
CONFIGS: dict[str, dict[str, Any]] = {
    "glyphs, 5-way 1-shot, Conv4-32, Binom(2)": {"dataset.name": "glyphs", "training.steps": 10**6},
    "the same, exact MAML": {
        "dataset.name": "glyphs", "training.steps": 10**6, "estimator.name": "maml"},
    "sinusoid, B = 25, exact MAML": {
        "dataset.name": "sinusoid", "training.steps": 10**6, "estimator.name": "maml",
        "training.meta_batch": 25},
}  # fmt: skip
WARM_UP, VALIDATED = 5, 50


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of wall time and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


class Subject:
    """One configuration's training loop and its parts."""

    def __init__(self, overrides: dict[str, Any]) -> None:
        self.problem = build_problem(load_config(overrides=overrides)[0])
        self.state = MetaState(self.problem)
        self.loop = meta_train(self.problem, self.state)
        self.compute = step_function(self.problem)
        self.B = self.problem.config.training.meta_batch
        self.at = 0
        self.batch = self.problem.place(self.problem.draw_training(range(self.B)))
        self.log = Path(tempfile.mkdtemp()) / "metrics.jsonl"

    def step(self) -> None:
        """A step of the loop, and the line of metrics.jsonl that a tenth of them write."""
        made = next(self.loop)
        if made.step % self.problem.config.training.log_every == 0:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": made.step, "train_loss": made.loss}) + "\n")

    def library(self) -> Callable[[], Any]:
        """The same meta-gradient asked for from Python, its first call made."""
        problem, batch, how = self.problem, self.batch, self.problem.config.adaptation
        asked = binomctl.MetaGradient(
            problem.model, problem.dataset.loss, estimator=problem.estimator, K=how.K,
            alpha=how.alpha,
        )  # fmt: skip
        sets = (batch.x_trn, batch.y_trn, batch.x_val, batch.y_val)
        asked(sets)
        return lambda: asked(sets)

    def meta_gradient(self) -> Any:
        return self.compute(self.state.theta.detach(), self.state.m.detach(), self.batch)

    def draw(self) -> None:
        self.at += 1
        first = 10**7 + self.at * self.B
        self.problem.draw_training(range(first, first + self.B))

    def outer(self) -> None:
        update(self.problem, self.state, range(self.B), self.batch, self.made, None)

    def parts(self) -> dict[str, Callable[[], Any]]:
        self.made = self.meta_gradient()
        return {"step": self.step, "meta-gradient": self.meta_gradient,
                "from Python": self.library(), "drawing tasks": self.draw,
                "outer optimiser": self.outer}  # fmt: skip


def measure(overrides: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Medians of a step and of its parts, and the share of a step that is no meta-gradient."""
    subject = Subject(overrides)
    parts = subject.parts()
    wall: dict[str, list[float]] = {name: [] for name in parts}
    cpu: dict[str, list[float]] = {name: [] for name in parts}
    for i in range(WARM_UP + rounds):
        for name, run in parts.items():
            if name == "step":
                time.sleep(0.02)  # what is drawn ahead is there, as in a run with nothing between
            one, two = timed(run)
            if i >= WARM_UP:
                wall[name].append(one)
                cpu[name].append(two)
    found = {name: {"wall": spread(wall[name], 3), "cpu": spread(cpu[name], 3)} for name in parts}
    whole, alone = (found[name]["wall"]["median_ms"] for name in ("step", "meta-gradient"))
    from_python = found["from Python"]["wall"]["median_ms"] - alone
    return {"parts": found, "besides_share_of_wall": round((whole - alone) / whole, 3),
            "library_ms": round(from_python, 3)}  # fmt: skip


def run_of_steps(overrides: dict[str, Any], steps: int) -> dict[str, float]:
    """Wall milliseconds a step of a stretch of the loop, beside those of as many meta-gradients:
    nothing is between the steps, so that drawing ahead competes as it does in a run."""
    subject = Subject(overrides)
    for _ in range(WARM_UP):
        subject.step()
        subject.meta_gradient()
    pairs = []
    for _ in range(5):
        whole, _ = timed(lambda: [subject.step() for _ in range(steps)])
        alone, _ = timed(lambda: [subject.meta_gradient() for _ in range(steps)])
        pairs.append((whole / steps, alone / steps))
    whole, alone = (spread(column, 3)["median_ms"] for column in zip(*pairs, strict=True))
    return {"step_ms": whole, "meta_gradient_ms": alone,
            "besides_share": round((whole - alone) / whole, 3)}  # fmt: skip


def validations(overrides: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of a validation of 50 tasks, on the engine that trains and by autograd."""
    out = {}
    for engine in ("auto", "autograd"):
        more = {"training.validation_tasks": VALIDATED, "engine.kind": engine}
        problem = build_problem(load_config(overrides=overrides | more)[0])
        state = MetaState(problem)
        validate(problem, state)
        out[engine] = round(min(timed(lambda: validate(problem, state))[0] for _ in range(3)), 1)  # noqa: B023
    return out


def table(report: dict[str, Any]) -> str:
    lines = ["| run | step, ms | meta-gradient, ms | besides | drawing, CPU ms | optimiser, ms"
             " | a call from Python besides, ms"
             " | validation of 50 tasks, ms: this engine / autograd |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in report["runs"].items():
        stretch, parts, checked = row["stretch"], row["parts"], row["validation_ms"]
        lines.append(
            f"| {name} | {stretch['step_ms']:.1f} | {stretch['meta_gradient_ms']:.1f}"
            f" | {stretch['besides_share']:z.0%}"
            f" | {parts['drawing tasks']['cpu']['median_ms']:.1f}"
            f" | {parts['outer optimiser']['wall']['median_ms']:.2f} | {row['library_ms']:.2f}"
            f" | {checked['auto']:.0f} / {checked['autograd']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--steps", type=int, default=30)
    given = options.parse_args()
    tune_allocator()
    torch.manual_seed(0)
    report: dict[str, Any] = {
        "schema": "binomctl-benchmarks/overheads/1", "command": "python benchmarks/overheads.py",
        "environment": environment(), "rounds": given.rounds, "runs": {},
    }  # fmt: skip
    for name, overrides in CONFIGS.items():
        report["runs"][name] = {
            "config": overrides, **measure(overrides, given.rounds),
            "stretch": run_of_steps(overrides, given.steps),
            "validation_ms": validations(overrides),
        }  # fmt: skip
        print(name, json.dumps(report["runs"][name], indent=1), flush=True)
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    put(PAGE, "overheads", table(report))


if __name__ == "__main__":
    main()
