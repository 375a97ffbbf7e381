"""A network adapted to a user's own task, from the command line: anew, or as it was kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import binomctl.cli.flags as flags
from binomctl.cli.console import print_note
from binomctl.cli.trust import import_asked

if TYPE_CHECKING:
    from binomctl.images.sources import Shape
    from binomctl.learner.adapted import Adapted
    from binomctl.learner.learner import Learner
    from binomctl.learner.pictures import Pictures


@dataclass(frozen=True)
class Support:
    """What a run is to be adapted to, and how; see the options of `predict`."""

    path: Path | None
    steps: int | None = None
    invert: bool | None = None
    checkpoint: str | None = None


@dataclass(frozen=True)
class Given:
    """An adapted network. about: {"checkpoint_step", "steps", "head", "shots"}. shape: what
    pictures become for it, None in regression. known: its support set, where that was read."""

    adapted: Adapted
    about: dict[str, Any]
    picture: Shape | None
    known: Pictures | None = None

    @property
    def regression(self) -> bool:
        return not self.adapted.classes

    @property
    def shape(self) -> Shape:
        assert self.picture is not None
        return self.picture


def given(run: Path, asked: Support, *, device: str | None, trust: bool) -> Given:
    """The adapted network that a folder holds, or a run's after adaptation to a support set.

    Raises:
        ConfigError: a support set for a network that is adapted already, or none for a run.
    """
    from binomctl.errors import ConfigError
    from binomctl.learner.kept import is_adapted, open_adapted
    from binomctl.learner.pictures import shape_for

    if is_adapted(run):
        named = {
            "--support": asked.path,
            "--adaptation-steps": asked.steps,
            "--checkpoint": asked.checkpoint,
            "--invert": asked.invert,
        }
        if said := [name for name, value in named.items() if value is not None]:
            raise ConfigError(
                f"{run} is adapted already: {', '.join(said)} is for a run",
                "Leave it out, or give the run itself.",
            )
        adapted, record = open_adapted(run, device=device, trust=trust)
        about = {name: record[name] for name in ("checkpoint_step", "steps", "head", "shots")}
        picture = None if not adapted.classes else shape_for(adapted, record["invert"])
        return Given(adapted, about, picture)
    return adapted_run(run, asked, device=device, trust=trust)


def adapted_run(run: Path, asked: Support, *, device: str | None, trust: bool) -> Given:
    """A run's network after adaptation to a support set."""
    from binomctl.errors import ConfigError
    from binomctl.learner.kept import is_adapted
    from binomctl.runs import RunDirectory

    flags.check_checkpoint(asked.checkpoint)
    if is_adapted(run):
        raise ConfigError(
            f"{run} is adapted already", "Give the run of 'binomctl train' that it is from."
        )
    directory = RunDirectory.open(run)
    import_asked(run, directory.config(), trust)
    if asked.path is None:
        raise ConfigError(
            "a run learns from a support set", "Give --support DIR, or FILE.csv in regression."
        )

    from binomctl.learner.learner import load

    learner = load(run, checkpoint=asked.checkpoint, device=device, trust=trust)
    if learner.kind == "regression":
        return _numbers(learner, asked.path, asked.steps)
    return _pictures(learner, asked.path, asked)


def _pictures(learner: Learner, support: Path, asked: Support) -> Given:
    from binomctl.learner.pictures import brightness_note, shape_for, support_pictures

    shape = shape_for(learner, asked.invert)
    known = support_pictures(support, shape)
    labels = known.labels or ()
    adapted = learner.adapt(known.x, labels, steps=asked.steps)
    head = learner.head_note(len(adapted.classes))
    for note in filter(None, [head, brightness_note(learner, known.x)]):
        print_note(note)
    shots = {str(name): labels.count(str(name)) for name in adapted.classes}
    return Given(adapted, _about(learner, adapted, head, shots), shape, known)


def _numbers(learner: Learner, support: Path, steps: int | None) -> Given:
    from binomctl.errors import ConfigError
    from binomctl.learner.numbers import read_numbers

    if len(learner.in_shape) != 1:
        raise ConfigError(f"the network takes {list(learner.in_shape)}, no rows of a CSV file")
    n = learner.in_shape[0]
    known = read_numbers(support, (n + learner.out_dim,))
    adapted = learner.adapt(known[:, :n], known[:, n:], steps=steps)
    return Given(adapted, _about(learner, adapted, "", len(known)), None)


def _about(learner: Learner, adapted: Adapted, head: str, shots: Any) -> dict[str, Any]:
    return {
        "checkpoint_step": learner.checkpoint.step,
        "steps": adapted.steps,
        "head": head or "as it was trained",
        "shots": shots,
    }
