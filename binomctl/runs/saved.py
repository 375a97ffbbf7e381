"""The checkpoints of a run: which is last, which is best, which is whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import binomctl.runs.checkpoints as checkpoints
import binomctl.runs.metrics as metrics
from binomctl.errors import CheckpointError
from binomctl.files.atomic import writing
from binomctl.files.sealed import read_sealed, write_sealed
from binomctl.runs.checkpoints import Checkpoint
from binomctl.runs.keep import obsolete

INDEX = "binomctl/index/1"

Which = Literal["best", "last"]
T = TypeVar("T")


class Saved:
    """The folder checkpoints/ of a run: step-N each, and index.json.

    Args:
        run: the run folder.
        configs: SHA-256 of the run's configuration, and of those it had before.
    """

    def __init__(self, run: Path, configs: Sequence[str]) -> None:
        self.run = run
        self.folder = run / "checkpoints"
        self._configs = configs

    def save(self, checkpoint: Checkpoint, *, best: bool, last: int = 1, every: int = 0) -> None:
        """Write a checkpoint and point the index at it; then delete what is not to be kept.

        Args:
            best: it is the best so far.
            last: how many of the latest are kept, beside the best.
            every: multiples of this step are kept besides; 0: none, 1: all.
        """
        folder = self._folder(checkpoint.step)
        of = dataclasses.replace(checkpoint, config=self._configs[0])
        with writing(folder):
            checkpoints.save(folder, of)
            index = {**self._index(), "last": folder.name}
            if best:
                index["best"] = folder.name
            self._point(index)
        for other in obsolete(self._folders(), index, last, every):
            checkpoints.remove(other)

    def rewind(self, checkpoint: Checkpoint, best: int | None) -> None:
        """Go back to a checkpoint: later ones and later lines of metrics.jsonl are dropped.

        Args:
            best: the step of the best one as of then.
        """
        for folder in self._folders():
            if folder.name > self._folder(checkpoint.step).name:
                checkpoints.remove(folder)
        index = {"last": self._folder(checkpoint.step).name}
        if best is not None and self._folder(best).is_dir():
            index["best"] = self._folder(best).name
        self._point(index)
        metrics.cut(self.run / "metrics.jsonl", checkpoint.step)

    def restart(self) -> None:
        """Go back to the start of a run that has no checkpoint."""
        self.folder.mkdir(exist_ok=True)
        metrics.cut(self.run / "metrics.jsonl", 0)

    def load(self, which: Which) -> Checkpoint:
        """The best or the last checkpoint; raises CheckpointError when there is none or it is
        damaged."""
        name = self._index().get(which)
        if name is None:
            raise CheckpointError(
                f"{self.run} has no {which} checkpoint yet",
                "binomctl train --resume auto goes on with the run.",
            )
        return self._loaded(self.folder / name)

    def model_file(self, which: Which) -> Path:
        """The weights of the best or the last checkpoint, whose hash was looked at; raises
        CheckpointError as `load`."""
        return self._folder(self.load(which).step) / checkpoints.MODEL

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of a step; raises CheckpointError when there is none or it is damaged."""
        return self._loaded(self._folder(step))

    def steps(self) -> list[int]:
        """Of the checkpoints that are there."""
        return [int(folder.name.removeprefix("step-")) for folder in self._folders()]

    def has_best(self) -> bool:
        """Whether a validation has found a best checkpoint."""
        return "best" in self._index()

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint, if any, and what is wrong with later ones."""
        return self._newest(self._loaded)

    def newest_record(self) -> tuple[dict[str, Any] | None, list[str]]:
        """As `newest`, of its manifest: no tensor is made, torch is not imported."""
        return self._newest(self._recorded)

    def _newest(self, read: Callable[[Path], T]) -> tuple[T | None, list[str]]:
        damaged: list[str] = []
        for folder in reversed(self._folders()):
            try:
                return read(folder), damaged
            except CheckpointError as error:
                damaged.append(str(error))
        return None, damaged

    def kept(self) -> list[Checkpoint]:
        """Every checkpoint of the run that is there, by step; raises CheckpointError if none."""
        folders = self._folders()
        if not folders:
            raise CheckpointError(
                f"{self.run} has no checkpoint yet", "Let the training save one first."
            )
        return [self._loaded(folder) for folder in folders]

    def _loaded(self, folder: Path) -> Checkpoint:
        checkpoint = checkpoints.load(folder)
        self._check_own(folder, checkpoint.config)
        return checkpoint

    def _recorded(self, folder: Path) -> dict[str, Any]:
        record = checkpoints.record(folder)
        self._check_own(folder, record["config_sha256"])
        return record

    def _check_own(self, folder: Path, config: str) -> None:
        if config not in self._configs:
            raise CheckpointError(
                f"{folder} belongs to a run of another configuration than {self.run}'s"
            )

    def _folder(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _folders(self) -> list[Path]:
        """Of checkpoints, by step; one without a manifest is not there yet, or no more."""
        found = self.folder.glob(f"step-*/{checkpoints.MANIFEST}")
        return sorted(path.parent for path in found)

    def _index(self) -> dict[str, str]:
        path = self.folder / "index.json"
        try:
            record = read_sealed(path, INDEX, "the index of a run's checkpoints")
        except FileNotFoundError:
            return {}
        return {which: record[which] for which in ("last", "best") if which in record}

    def _point(self, index: dict[str, str]) -> None:
        write_sealed(self.folder / "index.json", {"schema": INDEX, **index})
