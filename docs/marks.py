"""Where measured numbers stand in a page: `<!--=NAME-->text<!--/-->`."""

from __future__ import annotations

import re

MARK = re.compile(r"(<!--=([\w.-]+)-->)(.*?)(<!--/-->)", re.DOTALL)


def filled(text: str, known: dict[str, str]) -> str:
    """A page with its numbers renewed.

    Raises:
        ValueError: a name that is not there, or a mark that begins a line, where Markdown would
            end the paragraph.
    """
    if re.search(r"^<!--[=/]", text, re.MULTILINE):
        raise ValueError("a number's mark begins a line")
    missing = sorted({name for _, name, _, _ in MARK.findall(text)} - set(known))
    if missing:
        raise ValueError(f"no number is called {', '.join(missing)}")
    return MARK.sub(lambda m: f"{m[1]}{known[m[2]]}{m[4]}", text)


def without_marks(text: str) -> str:
    """A page as it is read."""
    return MARK.sub(lambda m: m[3], text)
