"""What of a run folder is kept: which checkpoints, and what a crash left behind."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from binomctl.errors import ConfigError
from binomctl.runs.checkpoints import MANIFEST
from binomctl.runs.lock import NAME as LOCK

OURS = ("run.json", "config.yaml", "environment.json", "metrics.jsonl", "report.json",
        "origin.json")  # fmt: skip
FOLDERS = ("checkpoints", "trackers")


def obsolete(
    folders: Sequence[Path], index: Mapping[str, str], last: int, every: int
) -> list[Path]:
    """Those of the checkpoint folders, in order of their steps, that nobody will ask for.

    Args:
        index: the names of the best and of the last one.
        last: how many of the latest are kept.
        every: multiples of this step are kept besides; 0: none.
    """
    latest = {folder.name for folder in folders[-last:]}
    return [
        folder
        for folder in folders
        if folder.name not in latest
        and folder.name not in index.values()
        and not (every and int(folder.name.removeprefix("step-")) % every == 0)
    ]


def sweep(path: Path) -> None:
    """Remove what a killed process left half-written."""
    for left in [*path.glob(".*.tmp"), *path.glob("checkpoints/**/.*.tmp")]:
        left.unlink(missing_ok=True)
    for folder in path.glob("checkpoints/step-*"):
        if not (folder / MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)


def clear(path: Path) -> None:
    """Make the folder of a new run empty, where nothing is lost by it.

    Raises:
        ConfigError: it holds something else than a run that was stopped before it saved anything.
    """
    names = {p.name for p in path.iterdir() if not (p.name.startswith(".") and p.suffix == ".tmp")}
    names.discard(LOCK)
    saved = sorted(path.glob(f"checkpoints/step-*/{MANIFEST}"))
    if saved:
        step = int(saved[-1].parent.name.removeprefix("step-"))
        raise ConfigError(
            f"{path} holds a run with a checkpoint of step {step}; a run never overwrites anything",
            f"Go on with it: binomctl train --resume {path}. Or choose another --out.",
            key="out",
        )
    left = "run.json" in names and "report.json" not in names and names <= {*OURS, *FOLDERS}
    if names and not left:
        raise ConfigError(
            f"{path} exists and is not empty; a run never overwrites anything",
            "Choose another --out, or delete it yourself.",
            key="out",
        )
    for name in OURS:
        (path / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(path / name, ignore_errors=True)
    sweep(path)
