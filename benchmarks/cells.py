"""Cells of a grid that are trained and tested in one process, kept a line each."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any


def tested(
    problem: Any, state: Any, loop: Iterable[Any], at: Collection[int], asked: tuple[int, int, int]
) -> dict[str, Any]:
    """The scores of every test task after the meta-steps `at`, by step, and where the run failed.

    Args:
        asked: the test tasks' seed, their number, and the adaptation steps.
    """
    from binomctl.errors import NonFiniteError
    from binomctl.problem.datasets import evaluation_dataset
    from binomctl.training.evaluate import Trained, evaluate

    seed, tasks, steps = asked
    tests = evaluation_dataset(problem.config, problem.dataset, seed)
    scores: dict[str, list[float]] = {}
    try:
        for step in loop:
            if step.step in at:
                now = Trained(state.theta.detach(), state.m.detach())
                found = evaluate(problem, [now], tests, "test", tasks, steps)
                scores[str(step.step)] = [round(value, 4) for value in found]
    except NonFiniteError as error:
        return {"scores": scores, "failure": f"after step {state.step}: {error}"}
    return {"scores": scores}


def dumps(kept: dict[str, Any]) -> str:
    """JSON with a line for every run."""
    head = json.dumps({k: v for k, v in kept.items() if k != "runs"}, indent=1)[:-2]
    runs = ",\n".join("  " + json.dumps(run) for run in kept["runs"])
    return f'{head},\n "runs": [\n{runs}\n ]\n}}\n'
