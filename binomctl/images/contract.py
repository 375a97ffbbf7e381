"""What a data set made of the user's files offers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from binomctl.images.recipe import Recipe
from binomctl.images.store import ClassInfo, Index


@runtime_checkable
class FromFiles(Protocol):
    """A data set that is made of the user's files, converted once to a prepared form."""

    learn2learn: ClassVar[str]
    """The class of learn2learn.vision.datasets that knows where to fetch them; "" for none."""

    @property
    def recipe(self) -> Recipe:
        """How the files are read."""
        ...

    def folder(self) -> Path:
        """Where the files are; raises DataError when nobody said."""
        ...

    def divide(self, index: Index) -> Mapping[str, tuple[ClassInfo, ...]]:
        """The classes of train, validation and test."""
        ...
