"""Orders L of estimators, as a user writes them."""

from __future__ import annotations

from binomctl.errors import ConfigError
from binomctl.files.yaml_source import shown

LONGEST = 18  # digits of an order


def orders(text: str, K: int, key: str) -> list[int]:
    """ "0-5", "4", "1,3" -> numbers; those above K are left out if any is left.

    Raises:
        ConfigError: not such a list, or nothing between 0 and K in it; at that key.
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            low, dash, high = (word.strip() for word in part.partition("-"))
            if not all(map(_is_number, [low, high] if dash else [low])):
                raise ValueError(part)
            last = int(high if dash else low)
            found += range(int(low), min(last, K) + 1)  # what is above K is left out anyway
    except ValueError as error:
        raise ConfigError(
            f"L = '{shown(text)}' is no list of orders", "Write 0-5, 2 or 1,3,5.", key=key
        ) from error
    kept = sorted({L for L in found if 0 <= L <= K})
    if not kept:
        raise ConfigError(
            f"L = '{shown(text)}' holds no order between 0 and K = {K}",
            f"Write 0-{K}, or one of these numbers.",
            key=key,
        )
    return kept


def _is_number(word: str) -> bool:
    """Plain digits, and few: int() takes 1_0 and other scripts, and refuses 4,301 of them."""
    return word.isascii() and word.isdecimal() and len(word) <= LONGEST
