"""`binomctl verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_note, print_table
from binomctl.cli.counting import Counting
from binomctl.cli.loading import load_torch
from binomctl.cli.trust import import_asked

if TYPE_CHECKING:
    from binomctl.machine.ranks import Ranks


def verify(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'binomctl train'.")],
    replay: Annotated[
        int,
        typer.Option(
            "--replay",
            "--steps",
            min=0,
            help="Make at least so many of the last meta-steps again; 0: none.",
        ),
    ] = 1,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data set's files, if they have moved.")
    ] = None,
    trust: flags.TRUST = False,
    json_output: flags.JSON = False,
) -> None:
    """Check a run: every file against its hash, and the last steps made again, bit by bit."""
    load_torch()
    from binomctl.cli.console import hush
    from binomctl.machine.ranks import joined
    from binomctl.settings.layers import Places

    with joined() as ranks, ranks.alike(), Places({"dataset.root": "--root"}).naming():
        if not ranks.first:
            hush()
        _verify(ranks, path, replay, root, trust, json_output)


def _verify(
    ranks: Ranks, path: Path, steps: int, root: Path | None, trust: bool, json_output: bool
) -> None:
    from binomctl.errors import CheckpointError
    from binomctl.runs import RunDirectory

    run = RunDirectory.open(path)
    settings = run.config()
    kept = run.checkpoints.kept()
    import_asked(path, settings, trust)
    print_note(f"{len(kept)} checkpoints and the configuration are as they were written")
    result: dict[str, Any] = {
        "schema": "binomctl/verify/1", "run": str(path), "checkpoints": [c.step for c in kept],
        "replayed": None,
    }  # fmt: skip
    rows = [("run", str(path)), ("checkpoints", ", ".join(f"step {c.step}" for c in kept))]
    if steps:
        from binomctl.cli.datasets import ensure_prepared
        from binomctl.training.elsewhere import Tasks, config_for
        from binomctl.training.opening import checked
        from binomctl.training.replay import replay

        end = kept[-1]
        earlier = [c for c in kept if c.step <= end.step - steps]
        if root is not None:
            settings = config_for(settings, Tasks(root=root), ())
        ensure_prepared(settings)
        first = earlier[-1].step if earlier else 0
        problem = checked(settings, end, ranks.world, from_start=not earlier)
        ranks.start(problem.device)
        what = f"making steps {first + 1} to {end.step} again"
        with Counting(what, end.step - first, "steps") as counting:
            start = earlier[-1] if earlier else None
            found = replay(problem, run, start, end, ranks, counting.advance)
        result["replayed"] = {
            "first": found.first + 1, "last": found.last, "logged": found.logged,
            "same": found.same,
        }  # fmt: skip
        if not found.same:
            where = [f"the loss of step {n}" for n in found.differing[:3]]
            where += [f"'{name}'" for name in found.tensors[:3]]
            raise CheckpointError(
                f"{path} does not compute what it did: {', '.join(where)} of steps {first + 1} to"
                f" {end.step} came out otherwise",
                f"Compare {path / 'environment.json'} with this machine: another torch, another"
                " processor, other data or another number of processes round otherwise.",
            )
        said = f"steps {first + 1} to {end.step}: every bit and {found.logged} logged losses"
        rows.append(("made again", f"{said} as they were"))
    if json_output:
        print_json(result)
        return
    print_table("The run is whole", rows)
