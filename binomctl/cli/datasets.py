"""Making sure that a data set's files are prepared, with a bar for whoever waits."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from binomctl.cli.console import print_note

if TYPE_CHECKING:
    from binomctl.settings.config import Config


class Conversion:
    """The progress of a conversion or a download, on stderr: a bar on a terminal, else a line."""

    def __init__(self) -> None:
        self._bar: Any = None

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def start(self, what: str, total: int) -> None:
        self.close()
        if sys.stderr.isatty():
            self._bar = tqdm(total=total or None, desc=what, unit="", unit_scale=True,
                             dynamic_ncols=True, leave=False)  # fmt: skip
        else:
            print_note(f"{what} ({total:,})" if total else what)

    def advance(self, n: int) -> None:
        if self._bar is not None:
            self._bar.update(n)


def ensure_prepared(config: Config) -> None:
    """Convert the data set's files if that was not done yet; see binomctl/images/prepare.py."""
    from binomctl.images.contract import FromFiles
    from binomctl.images.prepare import prepare
    from binomctl.problem.datasets import build_dataset

    dataset = build_dataset(config)
    if isinstance(dataset, FromFiles):
        with closing(Conversion()) as progress:
            prepare(dataset.recipe, dataset.folder(), progress=progress)


def moved(config: Config, root: Path) -> Config:
    """The configuration of a run with its data set's files in another folder."""
    options = {**config.dataset.options, "root": str(root.expanduser().absolute())}
    dataset = type(config.dataset)(name=config.dataset.name, **options)
    return config.model_copy(update={"dataset": dataset})
