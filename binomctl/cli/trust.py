"""The question before a run's own network is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from binomctl.settings.config import Config


def import_asked(run: Path, config: Config, trust: bool, named: str | None = None) -> None:
    """As `require_trust`, which is imported where a run is read."""
    from binomctl.settings.trust import require_trust

    require_trust(run, config, trust=trust, named=named)
