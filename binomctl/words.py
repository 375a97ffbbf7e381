"""Numbers of things, in words."""

from __future__ import annotations


def number_of(n: int, what: str) -> str:
    """ "1 query" and "2,000 queries" of "query", "5 ways" of "way"."""
    if n == 1:
        return f"1 {what}"
    if what.endswith("y") and what[-2] not in "aeiou":
        return f"{n:,} {what[:-1]}ies"
    return f"{n:,} {what}{'es' if what.endswith(('s', 'h')) else 's'}"
