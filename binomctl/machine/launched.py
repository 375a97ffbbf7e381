"""What a launcher of several processes, torchrun say, has put into the environment."""

from __future__ import annotations

import os

from binomctl.errors import ConfigError


def world_size() -> int:
    """How many processes the environment says the run has.

    Raises:
        ConfigError: it says so in part, or no number.
    """
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    given = {name: os.environ[name] for name in names if name in os.environ}
    if given.get("WORLD_SIZE", "1") == "1" or "RANK" not in given:
        return 1
    missing = [name for name in names if name not in given]
    numbers = [given[name] for name in ("RANK", "WORLD_SIZE") if name in given]
    whole = all(text.isascii() and text.isdigit() for text in numbers)
    if missing or not whole or not int(given["RANK"]) < int(given["WORLD_SIZE"]):
        said = ", ".join(f"{name}={value}" for name, value in given.items())
        lacks = f"; {', '.join(missing)} missing" if missing else ""
        raise ConfigError(
            f"the environment names no process of a run: {said}{lacks}",
            "Start with torchrun, which sets all four, or unset them.",
        )
    return int(given["WORLD_SIZE"])
