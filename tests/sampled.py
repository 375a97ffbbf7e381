"""Long lists of like cases: `make test` runs some of them, `make test-slow` the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def sampled(cases: Iterable[Any], step: int, ids: Sequence[str] | None = None) -> list[Any]:
    """The cases as parameters; all but every step-th are slow.

    Args:
        cases: values, or tuples where a test has several parameters.
        ids: their names; None: pytest's own.
    """
    out = []
    for i, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        marks = [pytest.mark.slow] if i % step else []
        out.append(pytest.param(*values, id=None if ids is None else ids[i], marks=marks))
    return out
