"""Making sure that a data set's files are prepared, with a bar for whoever waits."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from binomctl.cli.console import hushed, print_note

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
        if sys.stderr.isatty() and not hushed():
            self._bar = tqdm(total=total or None, desc=what, unit="", unit_scale=True,
                             dynamic_ncols=True, leave=False)  # fmt: skip
        else:
            print_note(f"{what} ({total:,})" if total else what)

    def advance(self, n: int) -> None:
        if self._bar is not None:
            self._bar.update(n)


def ensure_prepared(config: Config) -> None:
    """Convert the data set's files if that was not done yet; see binomctl/images/prepare.py."""
    from binomctl.contracts import MadeOfOthers
    from binomctl.images.contract import FromFiles
    from binomctl.images.prepare import prepare
    from binomctl.problem.datasets import build_dataset

    dataset = build_dataset(config)
    for one in dataset.members() if isinstance(dataset, MadeOfOthers) else (dataset,):
        if isinstance(one, FromFiles):
            with closing(Conversion()) as progress:
                prepare(one.recipe, one.folder(), progress=progress)


def ensure_all_prepared(configs: Iterable[Config]) -> None:
    """The same for several configurations, each data set once."""
    for config in {str(config.dataset): config for config in configs}.values():
        ensure_prepared(config)
