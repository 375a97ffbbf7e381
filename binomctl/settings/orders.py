"""Orders L of estimators, as a user writes them."""

from __future__ import annotations

from binomctl.errors import ConfigError


def orders(text: str, K: int, key: str) -> list[int]:
    """ "0-5", "4", "1,3" -> numbers; those above K are left out if any is left.

    Raises:
        ConfigError: not such a list, or nothing between 0 and K in it; at that key.
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            low, dash, high = part.strip().partition("-")
            found += range(int(low), int(high if dash else low) + 1)
    except ValueError as error:
        raise ConfigError(
            f"L = '{text}' is no list of orders", "Write 0-5, 2 or 1,3,5.", key=key
        ) from error
    kept = sorted({L for L in found if 0 <= L <= K})
    if not kept:
        raise ConfigError(f"L = '{text}' holds no order between 0 and K = {K}", key=key)
    return kept
