"""One training run's folder: what is in it and how it comes into being."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from filelock import FileLock

import binomctl.runs.metrics as metrics
from binomctl.errors import BinomctlError, CheckpointError, ConfigError, nearest
from binomctl.files.atomic import disk_full, write_atomic, write_json, writing
from binomctl.files.sealed import read_sealed, sha256, write_sealed
from binomctl.runs.keep import clear, sweep
from binomctl.runs.lock import locked
from binomctl.runs.saved import Saved
from binomctl.settings.config import Config
from binomctl.settings.layers import load_config

SCHEMA = "binomctl/run/2"


class RunDirectory:
    """A run folder:

    run.json (what the folder is, and config.yaml's SHA-256), config.yaml (fully resolved),
    environment.json (where and by what it was run, once per start), metrics.jsonl (one line per
    logged step), checkpoints/step-N, checkpoints/index.json (which is last, which is best),
    report.json (the outcome), trackers/ (what trackers keep). One process at a time writes: it
    holds the folder's lock.
    """

    def __init__(self, path: Path, record: dict[str, Any], lock: FileLock | None = None) -> None:
        self.path = path
        self._record = record
        self._lock = lock

    @property
    def checkpoints(self) -> Saved:
        """What is saved of it."""
        record = self._record
        return Saved(self.path, [record["config_sha256"], *record["earlier_configs"]])

    @property
    def facts(self) -> dict[str, Any]:
        """What was kept of the run's data at its start."""
        found: dict[str, Any] = self._record["facts"]
        return found

    @classmethod
    def create(
        cls,
        path: Path,
        config: Config,
        environment: dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> RunDirectory:
        """Start a new run, and hold its lock.

        A folder that an earlier run left behind before its first checkpoint is taken over.

        Args:
            environment: where and by what it is run.
            facts: what its data are known by.

        Raises:
            ConfigError: the folder exists and holds something else, or another process writes to
                it, or it cannot be written.
        """
        data = config.to_yaml().encode()
        lock = None
        try:
            with disk_full(path):
                path.mkdir(parents=True, exist_ok=True)
                lock = locked(path)
                clear(path)
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                record = {
                    "schema": SCHEMA, "created": now, "config_sha256": sha256(data),
                    "earlier_configs": [], "facts": facts or {},
                }  # fmt: skip
                write_sealed(path / "run.json", record)  # first: by it the folder is known
                (path / "checkpoints").mkdir()
                write_atomic(path / "config.yaml", data)
                write_json(path / "environment.json", [environment or {}])
        except BaseException as error:
            if lock is not None:
                lock.release()
            if isinstance(error, OSError) and not isinstance(error, BinomctlError):
                why = error.strerror or str(error)
                raise ConfigError(
                    f"--out: cannot write to {path}: {why}",
                    "Name a folder that is new, where you may write.",
                ) from error
            raise
        return cls(path, record, lock)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run, to read.

        Raises:
            CheckpointError: there is no such folder, or binomctl did not write it.
        """
        if not path.is_dir():
            beside = [record.parent.name for record in path.parent.glob("*/run.json")]
            guess = nearest(path.name, beside)
            raise CheckpointError(
                f"no run at {path}" + (f".{guess}" if guess else ""),
                "Give the folder that 'binomctl train' printed; 'binomctl runs ls' lists them.",
            )
        try:
            record = read_sealed(path / "run.json", SCHEMA, "the record of a run")
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path} is not a run of binomctl: it has no run.json",
                "Give the folder that 'binomctl train' printed.",
            ) from error
        return cls(path, record)

    @classmethod
    def resume(cls, path: Path, environment: dict[str, Any] | None = None) -> RunDirectory:
        """An existing run, to go on with: its lock is held, what a crash left is cleared away.

        Raises:
            CheckpointError: as `open`. ConfigError: another process writes to it.
        """
        run = cls.open(path)
        run._lock = locked(path)
        try:
            sweep(path)
            starts = read_list(path / "environment.json")
            write_json(path / "environment.json", [*starts, environment or {}])
        except OSError as error:
            run.close()
            why = error.strerror or str(error)
            raise ConfigError(
                f"cannot write to {path}: {why}", "A run goes on where it may be written to."
            ) from error
        return run

    def take_back_report(self) -> None:
        """It is not over."""
        path = self.path / "report.json"
        with writing(path):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def config(self, *, advised: bool = True) -> Config:
        """The run's resolved configuration; raises CheckpointError when it cannot be used or is
        not what the run was started with. advised: as for `load_config`."""
        path = self.path / "config.yaml"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
        # Killed between the two files of `amend`, it still has the configuration before.
        known = [self._record["config_sha256"], *self._record["earlier_configs"][-1:]]
        if sha256(data) not in known:
            raise CheckpointError(
                f"{path} was changed after the run was started: its SHA-256 is not the one in"
                " run.json",
                "Restore it, or train again with the values you want.",
            )
        try:
            return load_config(path, asked=False, advised=advised)[0]
        except ConfigError as error:
            raise CheckpointError(f"the run's configuration is unusable: {error}") from error

    def amend(self, config: Config, facts: dict[str, Any]) -> None:
        """Go on under another configuration, and maybe on other data; checkpoints of the earlier
        ones stay the run's."""
        data, before = config.to_yaml().encode(), self._record
        earlier = [*before["earlier_configs"], before["config_sha256"]]
        self._record = {
            **before, "config_sha256": sha256(data), "earlier_configs": earlier, "facts": facts,
        }  # fmt: skip
        write_sealed(self.path / "run.json", self._record)
        write_atomic(self.path / "config.yaml", data)

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl; what is not finite becomes null."""
        metrics.append(self.path / "metrics.jsonl", record)

    def report(self, report: dict[str, Any]) -> None:
        """Write report.json, the outcome of the run."""
        path = self.path / "report.json"
        with writing(path):
            write_json(path, report)


def read_list(path: Path) -> list[Any]:
    """A JSON list, empty where it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []
