"""The options of commands that may import a run's own network, and the question itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from binomctl.cli.console import print_note

if TYPE_CHECKING:
    from binomctl.settings.config import Config

TRUST = Annotated[
    bool, typer.Option("--trust", help="Import the network that a folder from elsewhere names.")
]
IMPORT = Annotated[
    str | None,
    typer.Option("--import", metavar="MODULE:CLASS", help="The run's own network, by name."),
]


def import_asked(run: Path, config: Config, trust: bool, named: str | None = None) -> None:
    """As `require_trust`; what it warns of is told."""
    from binomctl.settings.trust import require_trust

    if warning := require_trust(run, config, trust=trust, named=named):
        print_note(warning)
