"""From a name to a prepared data set: what is there is converted, what is missing is fetched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from binomctl.errors import ConfigError, DamagedFile, DataError
from binomctl.files.download import Remote, fetch, wanted
from binomctl.images.addresses import files_of
from binomctl.images.convert import Progress, Silent
from binomctl.images.prepare import prepare
from binomctl.images.recipe import Recipe
from binomctl.images.sources import Missing
from binomctl.images.store import Store


def acquire(
    recipe: Recipe,
    root: Path,
    to: Path | None = None,
    *,
    source: str = "",
    mirrors: Sequence[str] = (),
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
    **limits: Any,
) -> Store:
    """Fetch the files of a data set that are missing, then prepare it.

    A file that turns out to be damaged is put aside as NAME.quarantined and fetched once more.

    Args:
        recipe, root, to, progress: as `prepare` takes them.
        source: one of addresses.json; "": nobody knows the files.
        mirrors: addresses of folders that are asked for a file of its name first.
        tell: is told what is fetched and what is put aside.
        limits: `fetch`'s time limits.

    Raises:
        DataError: a file cannot be had, or is damaged the second time too.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {root}: {error.strerror}") from error
    try:
        return prepare(recipe, root, to, progress)
    except DamagedFile as damage:
        tell(f"{damage}")
        first: DataError = damage
    except Missing as missing:
        first = missing
    if not source:
        raise DataError(f"{first}", f"Nobody says where {recipe.name} can be fetched from.")
    remotes = _with_mirrors(files_of(source), mirrors)
    _put_aside(first, remotes, root, tell)
    for last in (False, True):
        _fetch_all(recipe, remotes, root, progress or Silent(), tell, **limits)
        try:
            return prepare(recipe, root, to, progress)
        except DamagedFile as damage:
            if last or not _put_aside(damage, remotes, root, tell):
                raise
    raise AssertionError("unreachable")


def _fetch_all(
    recipe: Recipe,
    remotes: Sequence[Remote],
    root: Path,
    progress: Progress,
    tell: Callable[[str], None],
    **limits: Any,
) -> None:
    missing = wanted(remotes, root)
    try:
        for remote in remotes:
            if not (root / remote.name).exists():
                tell(f"fetching {remote.name} from {remote.urls[0]}")
                fetch(remote, root, _Bytes(remote.name, progress), **limits)
    except DataError as error:
        raise DataError(
            f"{error}", f"{error.hint}\nThe files that {recipe.name} wants:\n{missing}"
        ) from error


def _with_mirrors(remotes: Sequence[Remote], mirrors: Sequence[str]) -> list[Remote]:
    def urls(remote: Remote) -> tuple[str, ...]:
        name = Path(remote.name).name
        return (*(f"{m.rstrip('/')}/{name}" for m in mirrors), *remote.urls)

    return [dataclasses.replace(r, urls=urls(r)) for r in remotes]


def _put_aside(
    damage: DataError, remotes: Sequence[Remote], root: Path, tell: Callable[[str], None]
) -> bool:
    """Rename a damaged file that can be fetched again; whether there was one."""
    path = damage.path if isinstance(damage, DamagedFile) else None
    if path is None or path not in [root / r.name for r in remotes]:
        return False
    aside = path.with_name(f"{path.name}.quarantined")
    path.replace(aside)
    tell(f"put aside as {aside}")
    return True


class _Bytes:
    """Bytes that have arrived, told as an advance of a Progress."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress = name, progress
        self._done = -1

    def __call__(self, done: int, total: int | None) -> None:
        if self._done < 0 or done < self._done:
            self._progress.start(f"fetching {self._name}", total or 0)
            self._done = 0
        self._progress.advance(done - self._done)
        self._done = done
