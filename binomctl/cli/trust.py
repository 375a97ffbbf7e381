"""The question before a run's own network is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from binomctl.cli.console import print_note

if TYPE_CHECKING:
    from binomctl.settings.config import Config


def import_asked(run: Path, config: Config, trust: bool, named: str | None = None) -> None:
    """As `require_trust`; what it warns of is told."""
    from binomctl.settings.trust import require_trust

    if warning := require_trust(run, config, trust=trust, named=named):
        print_note(warning)
