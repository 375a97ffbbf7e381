"""How run folders are named."""

from __future__ import annotations

from pathlib import Path

from binomctl.errors import ConfigError
from binomctl.settings.config import Config


def claim(config: Config, root: Path = Path("runs")) -> Path:
    """The first free folder named after the run, made: runs/glyphs-binom-L2-seed0, then ...-2.

    Raises:
        ConfigError: it cannot be made.
    """
    base, number = default_path(config, root), 1
    path = base
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1
                path = base.with_name(f"{base.name}-{number}")
    except OSError as error:
        raise ConfigError(f"cannot write to {root}: {error.strerror}", key="out") from error


def default_path(config: Config, root: Path = Path("runs")) -> Path:
    """The folder named after the run."""
    parts = [name.replace(":", "-") for name in (config.dataset.name, config.estimator.name)]
    parts += [f"{k}{v}" for k, v in config.estimator.options.items() if isinstance(v, int)]
    return root / "-".join([*parts, f"seed{config.seed}"])
