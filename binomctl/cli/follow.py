"""`binomctl train` on several processes: what the first tells the others, and what they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from binomctl.cli.console import hush
from binomctl.cli.trust import import_asked

if TYPE_CHECKING:
    from binomctl.machine.ranks import Ranks
    from binomctl.training.opening import Opened

NOTHING = "null"
"""Told where there is nothing to train."""


def told(opened: Opened, again: bool) -> str:
    """What the other ranks need to train with the first.

    Args:
        again: whether the run was there before.
    """
    return json.dumps(
        {
            "run": str(opened.run.path),
            "config": opened.problem.config.model_dump(mode="json"),
            "step": opened.start.step if opened.start else None,
            "again": again,
        }
    )


def follow(ranks: Ranks, trust: bool, deadline: float | None) -> None:
    """Train along with the first rank, and write nothing.

    Raises:
        BinomctlError: as training; what another rank failed in.
    """
    hush()
    said = json.loads(ranks.tell())
    if said is None:
        return
    from binomctl.cli.datasets import ensure_prepared
    from binomctl.runs import RunDirectory
    from binomctl.settings.config import Config
    from binomctl.settings.own import ask_all
    from binomctl.training.observer import Silent
    from binomctl.training.opening import following
    from binomctl.training.run import train

    path, config = Path(said["run"]), Config.model_validate(said["config"])
    if said["again"]:
        import_asked(path, RunDirectory.open(path).config(), trust)
    else:
        ask_all(said["config"])
    ensure_prepared(config)
    opened = following(path, config, said["step"], ranks.world)
    ranks.start(opened.problem.device)
    train(opened.problem, opened.run, Silent(), start=opened.start, deadline=deadline, ranks=ranks)
