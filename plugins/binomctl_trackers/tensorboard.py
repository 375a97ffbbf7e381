"""TensorBoard's event files, in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from binomctl.errors import MissingDependencyError
from binomctl.options import plugin


@plugin
@dataclass(frozen=True)
class TensorBoard:
    """Scalars and the configuration for TensorBoard: tensorboard --logdir runs."""

    def __post_init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise MissingDependencyError(
                "tracker 'tensorboard' needs the package tensorboard",
                "pip install tensorboard",
            )

    def start(self, run: Path, folder: Path, config: Mapping[str, Any], step: int) -> _Writing:
        """Event files in `folder`/tensorboard."""
        return _Writing(folder / "tensorboard", config, step)


class _Writing:
    def __init__(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted stretch had logged beyond the checkpoint is hidden by the purge.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        if not step:
            text = "```json\n" + json.dumps(config, indent=2) + "\n```"
            self._writer.add_text("config", text, 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar a name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self, report: Mapping[str, Any] | None) -> None:
        """Close the files."""
        self._writer.close()
