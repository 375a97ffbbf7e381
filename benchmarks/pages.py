"""Results written between a page's marks: <!-- NAME: begin ... --> and <!-- NAME: end -->."""

from __future__ import annotations

import re
from pathlib import Path


def inserted(text: str, name: str, body: str) -> str:
    """The text with what lies between its marks of that name replaced.

    Raises:
        ValueError: the marks are not there.
    """
    marks = rf"(<!-- {re.escape(name)}: begin[^>]*-->).*?(<!-- {re.escape(name)}: end -->)"
    found, n = re.subn(marks, lambda m: f"{m[1]}\n{body}\n{m[2]}", text, flags=re.DOTALL)
    if n != 1:
        raise ValueError(f"{n} places marked {name!r}")
    return found


def put(page: Path, name: str, body: str) -> None:
    """The same in a file."""
    page.write_text(inserted(page.read_text(encoding="utf-8"), name, body), encoding="utf-8")
