"""`binomctl train --resume`: which run, and what is asked of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from binomctl.settings.config import Config
    from binomctl.settings.layers import Places


def asked(
    files: list[Path] | None,
    given: dict[str, Any],
    assignments: list[str] | None,
    out: Path | None,
    resume: str | None,
) -> tuple[Path | None, Config, Places]:
    """The run to go on with, None for a new one, and the configuration that the command line says:
    over the run's own where there is one.

    Raises:
        CheckpointError: --resume names no run. ConfigError: as `load_config`; --out beside a run.
    """
    from binomctl.errors import ConfigError
    from binomctl.runs import RunDirectory
    from binomctl.runs.resuming import unfinished
    from binomctl.settings.layers import load_config

    path = None if resume in (None, "auto") else Path(str(resume))
    if path is not None and out is not None and out != path:
        raise ConfigError(
            f"--resume {path} goes on in its own folder, not in --out {out}",
            "Leave --out out, or use --resume auto with it.",
            key="out",
        )
    settings, places = load_config(files, given, assignments)
    if resume == "auto":
        from binomctl.problem.build import resolved

        path = unfinished(resolved(settings), out)
    if path is None:
        return None, settings, places
    own = RunDirectory.open(path).config().model_dump(mode="json")
    return (path, *load_config(files, given, assignments, below=own))


def check_unchanged(path: Path, settings: Config) -> None:
    """Refuse other values than a finished run's: it would go on under none of them.

    Raises:
        CheckpointError: naming the keys.
    """
    from binomctl.runs import RunDirectory
    from binomctl.runs.resuming import changes, check_changes

    check_changes(path, changes(RunDirectory.open(path).config(), settings), ())


def deadline(limit: str | None) -> float | None:
    """time.monotonic() at which a limit counted from this process' start is over."""
    if limit is None:
        return None
    import psutil

    from binomctl.settings.durations import seconds_of

    age = time.time() - psutil.Process().create_time()
    return time.monotonic() - age + seconds_of(limit, "--time-limit")
