"""`binomctl export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note
from binomctl.cli.loading import load_torch
from binomctl.cli.outputs import check_outputs


def export(
    network: Annotated[
        Path,
        typer.Argument(metavar="RUN|ADAPTED", help="Run of 'train', or folder of 'adapt'."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File; its card goes beside it, as .md.")
    ],
    format_: Annotated[
        str, typer.Option("--format", help="state-dict, safetensors or onnx.")
    ] = "safetensors",
    checkpoint: flags.CHECKPOINT = None,
    licence: Annotated[
        str, typer.Option("--license", help="Of the weights, for the card: apache-2.0, say.")
    ] = "unknown",
    trust: flags.TRUST = False,
    force: flags.FORCE = False,
    json_output: flags.JSON = False,
) -> None:
    """Write a network as a file for plain PyTorch or ONNX, with a card and how it is loaded."""
    load_torch()
    from typing import get_args

    from binomctl.errors import ConfigError, unknown
    from binomctl.learner.export import Format, places
    from binomctl.learner.export import export as write
    from binomctl.learner.subject import subject

    kinds: tuple[Format, ...] = get_args(Format)
    kind = next((k for k in kinds if k == format_), None)
    if kind is None:
        raise ConfigError(
            f"--format: {unknown('format', format_, kinds)}",
            "safetensors and state-dict are weights; onnx has the whole network.",
        )
    flags.check_checkpoint(checkpoint)
    what = subject(network, checkpoint=checkpoint, trust=trust)
    check_outputs(*places(output, kind, what.config), force=force)
    files = write(what, kind, output, licence)
    if json_output:
        said = [str(path) for path in files]
        print_json({"schema": "binomctl/export/1", "network": str(network), "files": said})
        return
    for path in files:
        print_note(f"wrote {path}")
