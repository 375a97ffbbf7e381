"""Which run to go on with, and whether it may go on as it is asked to."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from binomctl.errors import CheckpointError, NonFiniteError
from binomctl.files.small import read_object
from binomctl.runs.checkpoints import Checkpoint
from binomctl.runs.directory import RunDirectory
from binomctl.runs.naming import default_path
from binomctl.settings.config import Config

HARMLESS = (
    "training.workers", "training.log_every", "training.error_estimate",
    "training.checkpoint_every", "training.keep_last", "training.keep_every", "analysis", "profile",
    "trackers",
)  # fmt: skip
"""Keys that no number of a training run depends on."""


def unfinished(config: Config, out: Path | None, root: Path = Path("runs")) -> Path | None:
    """The run that `--resume auto` means: the one at `out`, or the latest unfinished one that is
    named after the configuration; None where there is none."""
    if out is not None:
        return out if _begun(out) else None
    base = default_path(config, root)
    named = [base, *base.parent.glob(f"{base.name}-*")]
    own = [
        path
        for path in named
        if path.name.removeprefix(base.name).strip("-").isdigit() or path == base
    ]
    runs = [path for path in own if _begun(path) and outcome(path) is None]
    return max(runs, key=lambda path: (path / "run.json").stat().st_mtime, default=None)


def _begun(path: Path) -> bool:
    """Whether a run was made there as a whole; what a kill left of its making is taken over."""
    return (path / "run.json").exists() and (path / "config.yaml").exists()


def outcome(path: Path) -> dict[str, Any] | None:
    """The report of a run that is finished, if it can be read as one; see `damage`."""
    try:
        return _report(path / "report.json")
    except (OSError, ValueError):
        return None


def check_scored(report: Mapping[str, Any]) -> None:
    """Refuse the report of a run that has no best checkpoint.

    Raises:
        NonFiniteError: no validation gave a number.
    """
    if report["best"]["value"] is None:
        raise NonFiniteError(
            f"no validation gave a finite {report['best']['metric']}; the run is saved in"
            f" {report.get('run')}",
            "Lower adaptation.alpha or evaluation.steps.",
        )


def damage(path: Path) -> str:
    """What is wrong with the report of a run that was finished; "" where nothing is, or where there
    is none. Such a run goes on from its last checkpoint, which writes the report again."""
    file = path / "report.json"
    try:
        _report(file)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return f"{file} is damaged: it holds bytes that are no text"
    except json.JSONDecodeError as error:
        return f"{file} is damaged: it is no whole JSON, from line {error.lineno} on"
    except ValueError as error:
        return f"{file} is damaged: {error}"
    return ""


def _report(file: Path) -> dict[str, Any]:
    report = read_object(file)
    best = report.get("best")
    if not (isinstance(best, dict) and {"step", "metric", "unit", "value"} <= set(best)):
        raise ValueError("it holds no best validation")
    for key in ("steps", "seconds"):
        if not isinstance(report.get(key), int | float):
            raise ValueError(f"its {key} are no number")
    return report


def changes(own: Config, asked: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which two configurations differ, with both values."""
    return dict(_differing(own.model_dump(mode="json"), asked.model_dump(mode="json"), ""))


def check_changes(path: Path, found: dict[str, tuple[Any, Any]], allowed: Collection[str]) -> None:
    """Refuse to go on under another configuration than was agreed to.

    Raises:
        CheckpointError: naming the keys, the run's values and those asked for.
    """
    refused = {
        key: values
        for key, values in found.items()
        if not any(key == one or key.startswith(f"{one}.") for one in (*HARMLESS, *allowed))
    }
    if refused:
        said = "; ".join(f"{k} is {own!r}, asked for {new!r}" for k, (own, new) in refused.items())
        flags = " ".join(f"--allow-change {key}" for key in refused)
        raise CheckpointError(
            f"{path} was trained with another configuration: {said}",
            f"Leave the options out, start a new run, or go on with the change: {flags}.",
        )


def begin(run: RunDirectory, *, fallback: bool) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint to go on from, None for the start, and what to tell about it.

    Args:
        fallback: whether an older checkpoint may stand in for a damaged one.

    Raises:
        CheckpointError: the newest one is damaged, or all of them are.
    """
    checkpoint, damaged = run.checkpoints.newest()
    if damaged and not (fallback and checkpoint is not None):
        raise CheckpointError(
            damaged[0],
            f"binomctl train --resume auto --out {run.path} goes on from the newest whole one, step"
            f" {checkpoint.step}." if checkpoint is not None else "No other checkpoint is whole.",
        )  # fmt: skip
    notes = [f"not used: {one}" for one in damaged]
    if checkpoint is not None:
        run.checkpoints.rewind(checkpoint, checkpoint.numbers["best"]["step"])
    else:
        run.checkpoints.restart()
    return checkpoint, notes


def _differing(one: Any, two: Any, at: str) -> list[tuple[str, tuple[Any, Any]]]:
    if not (isinstance(one, dict) and isinstance(two, dict)):
        return [] if one == two else [(at, (one, two))]
    return [
        item
        for key in dict.fromkeys([*one, *two])
        for item in _differing(one.get(key), two.get(key), f"{at}.{key}".lstrip("."))
    ]
