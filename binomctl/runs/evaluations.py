"""Scores of single test tasks, kept in the run folder: whoever compares later can pair them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from binomctl.errors import BinomctlError
from binomctl.files.sealed import read_sealed, write_sealed
from binomctl.runs.checkpoints import Checkpoint

SCHEMA = "binomctl/scores/1"


@dataclass(frozen=True)
class Asked:
    """Which tasks a checkpoint is scored on: episodes 0 .. tasks - 1 of a split under a seed, after
    so many adaptation steps."""

    split: str
    tasks: int
    steps: int
    seed: int
    setting: str = ""
    """What the tasks are where they are not the run's own: 20way-5shot, say."""
    inductive: bool = False
    """Whether each query is predicted beside the support set alone."""


@dataclass(frozen=True)
class Found:
    """The score of every task; confidence: of a classifier how sure it is, by task, a record
    {"nll", "bins"} each (binomctl/training/confidence.py)."""

    scores: list[float]
    confidence: list[dict[str, Any]] | None = None


def kept(run: Path, members: Sequence[Checkpoint], asked: Asked, data: str) -> Found | None:
    """The scores of every task, in order; None where they were not kept, or of other data.

    Args:
        members: the checkpoint, or those of an ensemble.
        data: the fingerprint of the data set.
    """
    try:
        record = read_sealed(_path(run, members, asked), SCHEMA, "scores of a run")
    except (FileNotFoundError, BinomctlError):
        return None
    if record["of"] != _of(members, asked, data):
        return None
    return Found(record["scores"], record.get("confidence"))


def every(run: Path, checkpoint: Checkpoint) -> list[tuple[Asked, list[float]]]:
    """All scores that were kept of a checkpoint, with what was asked."""
    out, digest = [], _digest([checkpoint])
    for path in sorted((run / "evaluations").glob("*.json")):
        with suppress(OSError, BinomctlError):
            record = read_sealed(path, SCHEMA, "scores of a run")
            if record["of"]["checkpoint"] == digest:
                names = [field.name for field in fields(Asked)]
                of = {name: record["of"][name] for name in names if name in record["of"]}
                out.append((Asked(**of), record["scores"]))
    return out


def keep(
    run: Path, members: Sequence[Checkpoint], asked: Asked, data: str, found: Found
) -> Path | None:
    """Write them; the file, or None where the folder cannot be written to."""
    path = _path(run, members, asked)
    with suppress(OSError, BinomctlError):
        path.parent.mkdir(exist_ok=True)
        record = {"schema": SCHEMA, "of": _of(members, asked, data), "scores": found.scores}
        record |= {"confidence": found.confidence} if found.confidence else {}
        write_sealed(path, record)
        return path
    return None


def _of(members: Sequence[Checkpoint], asked: Asked, data: str) -> dict[str, Any]:
    told = {name: value for name, value in asdict(asked).items() if value or name in _ALWAYS}
    return {**told, "data": data, "checkpoint": _digest(members)}


_ALWAYS = ("split", "tasks", "steps", "seed")  # the others came later: unset, they are not written


def _digest(members: Sequence[Checkpoint]) -> str:
    """SHA-256 of all that the predictions depend on."""
    digest = hashlib.sha256()
    for checkpoint in members:
        digest.update(checkpoint.config.encode())
        for named in (checkpoint.model, checkpoint.state):
            for name in sorted(named):
                digest.update(name.encode())
                digest.update(named[name].detach().cpu().contiguous().reshape(-1).numpy().tobytes())
    return digest.hexdigest()


def _path(run: Path, members: Sequence[Checkpoint], asked: Asked) -> Path:
    name = f"{asked.split}-seed{asked.seed}-{asked.tasks}tasks-{asked.steps}steps"
    name += f"-{asked.setting}" * bool(asked.setting) + "-inductive" * asked.inductive
    name += f"-ensemble{len(members)}" * (len(members) > 1)
    return run / "evaluations" / f"{name}-at{max(one.step for one in members)}.json"
