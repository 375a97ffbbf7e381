"""Containers of a module and what they held: found changed, and put back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import is_
from typing import Any


class Watched:
    """Dicts, lists and sets with what each holds at construction.

    Whether anything differs is asked at every call of a network, so it is one pass over all their
    values at once, in C.
    """

    def __init__(self, containers: Sequence[Any]) -> None:
        self._containers = containers
        self._before = [snapshot(c) for c in containers]
        self._views = [c.values() if isinstance(c, dict) else c for c in containers]
        self._lengths = list(map(len, self._views))
        self._values = list(chain.from_iterable(self._views))

    def same(self) -> bool:
        """Whether every container holds the very objects that it held."""
        return list(map(len, self._views)) == self._lengths and all(
            map(is_, chain.from_iterable(self._views), self._values)
        )

    def changed(self) -> Iterable[tuple[Any, dict[Any, Any], dict[Any, Any]]]:
        """(container, before, now) of those that hold something else."""
        for container, before in zip(self._containers, self._before, strict=True):
            now = snapshot(container)
            if len(now) != len(before) or not all(map(is_, now.values(), before.values())):
                yield container, before, now

    def restore(self) -> None:
        """Every container holds what it held."""
        if self.same():
            return
        for container, before, _ in list(self.changed()):
            container.clear()
            if isinstance(container, list):
                container.extend(before.values())
            else:
                container.update(before if isinstance(container, dict) else before.values())


def snapshot(container: Any) -> dict[Any, Any]:
    """What a container holds, by key or by position."""
    return dict(container) if isinstance(container, dict) else dict(enumerate(container))
