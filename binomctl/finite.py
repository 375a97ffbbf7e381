"""Numbers that JSON has."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """A value with null for every number in it that is not finite: the standard has no infinity,
    and other readers refuse Python's."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value
