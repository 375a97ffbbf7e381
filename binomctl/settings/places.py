"""Where the values of a configuration came from, as errors tell it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from binomctl.errors import ConfigError


class Places(dict[str, str]):
    """Where each dotted key of a configuration came from: "file.yaml:12", "--L", "--set ..."."""

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Errors of configuration from here are told with the place of their key."""
        try:
            yield
        except ConfigError as error:
            raise self.locate(error) from error

    def locate(self, error: ConfigError) -> ConfigError:
        """The error with the place of its key in front, when it has one."""
        key = error.key
        while key and key not in self:  # a part of a choice stands where the choice does
            key = key.rpartition(".")[0]
        place = self.get(key)
        if not place or str(error).startswith(place):
            return error
        return ConfigError(f"{place}: {error}", error.hint)


class Given(dict[str, Any]):
    """Values by dotted key, None where nothing was given.

    Args:
        typed: by key what it was given by, "--engine" say; errors begin with it.
    """

    def __init__(self, values: Mapping[str, Any], typed: Mapping[str, str]) -> None:
        super().__init__(values)
        self.typed = typed
