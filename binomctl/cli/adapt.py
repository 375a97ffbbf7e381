"""`binomctl adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_table
from binomctl.cli.loading import load_torch


def adapt(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'binomctl train'.")],
    support: Annotated[
        Path,
        typer.Option(help="What to learn from: class folders of pictures; regression: a CSV file."),
    ],
    output: Annotated[
        Path, typer.Option("--out", "--output", "-o", help="Folder to keep the network in.")
    ],
    adaptation_steps: flags.STEPS = None,
    invert: flags.INVERT = None,
    checkpoint: flags.CHECKPOINT = None,
    device: flags.DEVICE = None,
    trust: flags.TRUST = False,
    json_output: flags.JSON = False,
) -> None:
    """Learn new classes from a few examples and keep the network: for 'predict' and 'export'."""
    load_torch()
    from binomctl.cli.adapting import Support, adapted_run
    from binomctl.errors import ConfigError
    from binomctl.learner.answers import shots_in_words
    from binomctl.learner.kept import keep_adapted

    if output.exists():  # told before anything is computed
        raise ConfigError(f"{output} is there already", "Name another folder.")
    found = adapted_run(
        run, Support(support, adaptation_steps, invert, checkpoint), device=device, trust=trust
    )
    inverted = None if found.picture is None else found.picture.invert
    about = {"run": str(run), "support": str(support), "invert": inverted, **found.about}
    keep_adapted(found.adapted, output, about)
    shown = {"schema": "binomctl/adapt/1", "adapted": str(output), **about}
    if json_output:
        print_json(shown)
        return
    kind = "FILE.csv" if inverted is None else "DIR"
    print_table(
        "Adapted",
        [
            ("network", str(output)),
            ("of", f"{run}, step {found.about['checkpoint_step']}"),
            ("support", shots_in_words(found.about["shots"])),
            ("steps", str(found.about["steps"])),
            ("next", f"binomctl predict {output} --query {kind}"),
        ],
    )
