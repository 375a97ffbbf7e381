"""What meta-training carries from step to step, and a checkpoint of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from binomctl.contracts import Remembers
from binomctl.errors import CheckpointError, NonFiniteError
from binomctl.flat import trainable
from binomctl.problem.batch_norm import Statistics
from binomctl.problem.record import Problem
from binomctl.runs import Checkpoint
from binomctl.training.optimiser import build_optimizer

RULE, NORM, MEMORY = "rule.", "norm.", "estimator."
OPTIMIZER, RANDOM, BUFFER = "optimizer.", "random.", "buffer."
"""What the names of a checkpoint's tensors begin with: the rule's m, batch norm's averages, an
estimator's state, the outer optimiser's, random generators', buffers outside the state_dict."""


class MetaState:
    """What meta-training carries from step to step: theta [d], the rule's m [n], the outer
    optimiser, batch norm's running averages where it has them, an estimator's state, the number of
    steps done and of those skipped for numbers that were not finite."""

    def __init__(self, problem: Problem) -> None:
        self.theta = problem.theta.clone().requires_grad_()
        self.m = problem.m.clone().requires_grad_()
        self.optimizer = build_optimizer(problem.config.training, [self.theta, self.m])
        self.statistics: Statistics | None = problem.frozen
        self.memory: Mapping[str, Tensor] | None = None
        if isinstance(problem.estimator, Remembers):
            self.memory = problem.estimator.init_state(problem.engine.layout)
        self.step = 0
        self.skipped = 0


def snapshot(
    problem: Problem, state: MetaState, validation: float | None, numbers: dict[str, Any]
) -> Checkpoint:
    """A checkpoint that training goes on from to the last bit.

    Args:
        numbers: what else the run carries.

    Raises:
        NonFiniteError: a meta-parameter is not finite.
    """
    theta = state.theta.detach()
    if not (torch.isfinite(theta).all() and torch.isfinite(state.m).all()):
        raise NonFiniteError(
            f"meta-parameters are not finite after step {state.step}; nothing was saved of them",
            "Lower training.meta_lr.",
        )
    tensors: dict[str, Tensor] = {}
    if state.m.numel():
        tensors[f"{RULE}m"] = state.m
    for prefix, named in (
        (NORM, state.statistics.tensors() if state.statistics else {}),
        (MEMORY, state.memory or {}),
        (BUFFER, _outside(problem.model)),
        (RANDOM, generators(problem.device)),
        (OPTIMIZER, _flat(state.optimizer)),
    ):
        tensors |= {f"{prefix}{name}": tensor for name, tensor in named.items()}
    parameters = problem.engine.layout.unflatten(theta)
    return Checkpoint(
        state.step,
        _whole(problem.model, parameters),
        tuple(parameters),
        tensors,
        {**numbers, "skipped": state.skipped},
        validation,
    )


def resume(problem: Problem, state: MetaState, checkpoint: Checkpoint) -> None:
    """Put a state, and torch's random generators, where a checkpoint was taken."""
    theta, m, statistics = restore(problem, checkpoint)
    with torch.no_grad():
        state.theta.copy_(theta)
        state.m.copy_(m)
    state.statistics = statistics or state.statistics
    if state.memory is not None:
        kept = checkpoint.part(MEMORY)
        state.memory = {name: kept[name].to(t.device) for name, t in state.memory.items()}
    rows: dict[int, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.part(OPTIMIZER).items():
        number, _, key = name.partition(".")
        rows.setdefault(int(number), {})[key] = tensor
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": rows, "param_groups": groups})
    state.step, state.skipped = checkpoint.step, checkpoint.numbers.get("skipped", 0)
    kept = checkpoint.part(RANDOM)
    if "cpu" in kept:
        torch.set_rng_state(kept["cpu"])
    if problem.device.type == "cuda" and "cuda" in kept:
        torch.cuda.set_rng_state(kept["cuda"], problem.device)


def restore(problem: Problem, checkpoint: Checkpoint) -> tuple[Tensor, Tensor, Statistics | None]:
    """theta [d], the rule's m [n] and batch norm's averages out of a checkpoint."""
    layout = problem.engine.layout
    found = {name: tuple(t.shape) for name, t in checkpoint.parameters.items()}
    expected = dict(zip(layout.names, map(tuple, layout.shapes), strict=True))
    for name in layout.complexes & set(expected):
        expected[name] = expected[name][:-1]
    m = checkpoint.part(RULE).get("m", problem.m.new_zeros(0)).to(problem.theta)
    found["rule.m"], expected["rule.m"] = tuple(m.shape), tuple(problem.m.shape)
    if found != expected:
        differing = sorted(n for n in found | expected if found.get(n) != expected.get(n))
        raise CheckpointError(
            f"the checkpoint's parameters are not those of the run's model: {', '.join(differing)}",
            "The run's config.yaml or checkpoint was changed after training.",
        )
    theta = layout.flatten(checkpoint.parameters).to(problem.theta)
    kept = statistics_of(checkpoint)
    return theta, m, kept and kept.to(problem.theta)


def statistics_of(checkpoint: Checkpoint) -> Statistics | None:
    """What batch norm was frozen to, or its averages, in a checkpoint; None where it has none."""
    kept = checkpoint.part(NORM)
    return Statistics.of_tensors(kept) if kept else None


def constants(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Buffers and frozen parameters of a checkpoint's model by name: what was drawn when the
    network was made would be another draw today."""
    learned = set(checkpoint.learned)
    named = {n: t for n, t in checkpoint.model.items() if n not in learned}
    return named | checkpoint.part(BUFFER)


@contextmanager
def own_generators(problem: Problem) -> Iterator[None]:
    """torch's global random generators begin at the run's seed inside the block, whoever drew from
    them before, and are as they were after it."""
    devices = [problem.device] if problem.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(problem.config.seed)
        yield


def generators(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's random generators that a run may draw from."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def _whole(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The module's state_dict with other values for its learned parameters; a weight with two
    names stands under both."""
    names = {id(p): name for name, p in trainable(model)}
    named = model.state_dict(keep_vars=True)
    tensors = {name: t for name, t in named.items() if isinstance(t, Tensor)}
    return {n: parameters[names[id(t)]] if id(t) in names else t for n, t in tensors.items()}


def _outside(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that are not in the state_dict (persistent=False)."""
    inside = set(model.state_dict())
    return {name: b for name, b in model.named_buffers() if name not in inside}


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{number}.{key}": value
        for number, row in optimizer.state_dict()["state"].items()
        for key, value in row.items()
        if isinstance(value, Tensor)
    }
