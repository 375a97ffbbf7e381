"""A whole profile: its cells, its report, its trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from binomctl.machine.environment import environment
from binomctl.problem.build import resolved
from binomctl.problem.cases import Case
from binomctl.problem.record import Problem
from binomctl.profiling.measure import Measured, prepare
from binomctl.profiling.nvml import describe_gpu
from binomctl.profiling.observed import timed_step
from binomctl.profiling.others import busy
from binomctl.profiling.work import Work, machine_rates
from binomctl.words import number_of


def rates_and_work(problem: Problem) -> tuple[dict[str, float], Work]:
    """What the machine can do, and what an example of this problem costs."""
    batch = problem.training_batch(range(1))
    return (
        machine_rates(problem.device, problem.theta.dtype),
        Work.of(problem.model, batch.x_trn[0]),
    )


def report_of(
    problem: Problem,
    cells: Sequence[Measured],
    rates: dict[str, float],
    work: Work,
    others: float | None = None,
) -> dict[str, Any]:
    """{"schema", "environment", "config", "caption", "busy", "rates_flops_per_second",
    "example_flops", "cells"}; environment has the GPU's clocks, power limit and precision settings.

    Args:
        others: share of the cores that other processes took meanwhile, where it is known.
    """
    import psutil

    config = problem.config
    here = environment() | {"process_threads": psutil.Process().num_threads()}
    if problem.device.type == "cuda":
        here["gpu"] = describe_gpu(problem.device)
    data, K = config.dataset.name, config.adaptation.K
    shape = "x".join(map(str, problem.dataset.in_shape))
    sizes = [f"{getattr(problem.dataset, n)}-{w}" for n, w in (("ways", "way"), ("shots", "shot"))
             if getattr(problem.dataset, n, None) is not None]  # fmt: skip
    caption = (
        f"{data} {shape}, {' '.join(sizes)}{', ' if sizes else ''}{config.model.name}, K = {K},"
        f" {number_of(config.training.meta_batch, 'task')}, {config.dtype},"
        f" {_device_name(problem.device)}"
    )
    found = [one.report(work, rates) for one in cells]
    return {
        "schema": "binomctl/profile/1",
        "environment": here,
        "config": resolved(config).model_dump(mode="json"),
        "caption": caption,
        "busy": busy(others, found),
        "rates_flops_per_second": {name: round(rate) for name, rate in rates.items()},
        "example_flops": {"forward": work.forward, "first_layer": work.first},
        "cells": found,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return number_of(torch.get_num_threads(), "CPU thread")


def trace(base: Problem, cell: Case, path: Path) -> None:
    """One warm meta-step as a Chrome trace, its ranges named after the paper's phases."""
    (one,) = prepare(base, [cell])
    B = base.config.training.meta_batch
    timed_step(one.problem, one.state, range(B), None)
    activities = [ProfilerActivity.CPU]
    if base.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as recorded:
        timed_step(one.problem, one.state, range(B, 2 * B), None)
    recorded.export_chrome_trace(str(path))
