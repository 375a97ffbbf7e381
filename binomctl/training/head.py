"""A checkpoint's parameters for another number of classes than they were trained for."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from binomctl.errors import ConfigError
from binomctl.flat import Layout
from binomctl.problem.batch_norm import Statistics
from binomctl.problem.record import Problem
from binomctl.runs import Checkpoint
from binomctl.training.state import RULE, restore


def restored(
    problem: Problem, checkpoint: Checkpoint, trained: int
) -> tuple[Tensor, Tensor, Statistics | None]:
    """theta, m and batch norm's averages, the head's rows for the problem's number of classes."""
    layout, wanted = problem.engine.layout, problem.dataset.out_dim
    if wanted == trained:
        return restore(problem, checkpoint)
    saved = checkpoint.parameters
    shapes = {n: tuple(p.shape) for n, p in problem.model.named_parameters() if n in saved}
    named = {n: _resized(n, saved[n], shape, trained) for n, shape in shapes.items()}
    if all(tuple(saved[n].shape) == shape for n, shape in shapes.items()):
        raise ConfigError(
            f"the network has no parameter that goes with its {trained} classes",
            f"Give {trained} classes.",
        )
    m = checkpoint.part(RULE).get("m", problem.m.new_zeros(0))
    if m.shape == (Layout.of_tensors(saved).d,):  # a number for each parameter
        rows = Layout.of_tensors(saved).unflatten(m)
        m = layout.flatten({n: _resized(n, rows[n], s, trained) for n, s in shapes.items()})
    if m.shape != problem.m.shape:
        raise ConfigError(
            f"the rule {problem.config.rule.name} learned parameters of its own for {trained}"
            f" classes, and the task has {wanted}",
            f"Give {trained} classes.",
        )
    state = {**checkpoint.state, **({f"{RULE}m": m} if m.numel() else {})}
    model = {**checkpoint.model, **named}
    return restore(problem, dataclasses.replace(checkpoint, model=model, state=state))


def _resized(name: str, value: Tensor, shape: tuple[int, ...], trained: int) -> Tensor:
    """A parameter whose axis of classes has another length: every row the mean of the trained."""
    if tuple(value.shape) == shape:
        return value
    axes = [i for i, (a, b) in enumerate(zip(value.shape, shape, strict=False)) if a != b]
    if value.dim() != len(shape) or len(axes) != 1 or value.shape[axes[0]] != trained:
        raise ConfigError(
            f"the network's {name} is {list(value.shape)} for {trained} classes and {list(shape)}"
            " for those of the task: it cannot be carried over",
            f"Give {trained} classes.",
        )
    return value.mean(axes[0], keepdim=True).expand(*shape).contiguous()
