"""What a shell completes the values of options with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def plugins(kind: Any) -> Callable[[str], list[str]]:
    """What a shell completes an option with."""

    def found(incomplete: str) -> list[str]:
        from binomctl.settings.registry import names

        head, comma, last = incomplete.rpartition(",")
        return [f"{head}{comma}{name}" for name in names(kind) if name.startswith(last)]

    return found


def networks(incomplete: str) -> list[str]:
    from binomctl.models import MODELS

    return [name for name in MODELS if name.startswith(incomplete)]


def keys(incomplete: str) -> list[str]:
    from binomctl.settings.keys import keys as every

    return [f"{key.name}=" for key in every() if key.name.startswith(incomplete)]
