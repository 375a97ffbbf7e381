"""`binomctl init`."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import binomctl.cli.flags as flags
from binomctl.cli.console import print_error, print_note
from binomctl.cli.counting import Counting
from binomctl.cli.loading import load_torch

if TYPE_CHECKING:
    from binomctl.settings.config import Config

LEAST = 5
"""Validations of a training, however short."""


def init(
    dataset: flags.DATASET = None,
    estimator: flags.ESTIMATOR = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS|TIME",
            help="Meta-steps (2000), or a time (10m) that is turned into steps by a trial on this"
            " machine.",
        ),
    ] = None,
    root: flags.ROOT = None,
    out: Annotated[Path, typer.Option("--output", "-o", "--out", help="The file to write.")] = Path(
        "binomctl.yaml"
    ),
    force: flags.FORCE = False,
) -> None:
    """Write a commented configuration to begin with: what data, which estimator, what budget.

    On a terminal it asks for what the options leave open; off it, they have their defaults.
    """
    load_torch()
    from binomctl.cli.outputs import check_outputs
    from binomctl.files.atomic import write_atomic
    from binomctl.settings.layers import load_config
    from binomctl.starters.configuration import commented

    check_outputs(out, force=force)
    given = flags.given("training", dataset=dataset, estimator=estimator, root=root)
    config = load_config(None, given)[0]  # what the options say wrong is told before any question
    if sys.stdin.isatty() and sys.stderr.isatty():
        if dataset is None:
            given["dataset.name"] = _asked("What data ('binomctl data list')?", config, "dataset")
        if estimator is None:
            question = "Which estimator ('binomctl plugins')?"
            given["estimator.name"] = _asked(question, config, "estimator")
        config = load_config(None, given)[0]
        if budget is None:
            budget = _asked("What budget, meta-steps (2000) or a time (10m)?", config, "budget")
    steps = config.training.steps if budget is None else _steps(budget, config)
    given |= {"training.steps": steps, "training.validate_every": _every(steps, config)}
    text = commented(load_config(None, given)[0], str(out))
    write_atomic(out, text.encode())
    print_note(f"wrote {out}; next: binomctl train --config {out}, with --dry-run for a forecast")


def _asked(question: str, config: Config, what: str) -> str:
    """An answer that can be: the question is put again after one that cannot."""
    from binomctl.errors import ConfigError
    from binomctl.settings.layers import load_config

    default = config.training.steps if what == "budget" else getattr(config, what).name
    while True:
        answer = str(typer.prompt(question, default=str(default), err=True)).strip()
        try:
            if what == "budget":
                _seconds(answer)
            else:
                load_config(None, {f"{what}.name": answer})
        except ConfigError as error:
            print_error(error)
        else:
            return answer


def _seconds(budget: str) -> float | None:
    """A budget that is a time, in seconds; None for a number of meta-steps.

    Raises:
        ConfigError: it is neither.
    """
    from binomctl.errors import ConfigError
    from binomctl.settings.durations import seconds_of

    if re.fullmatch(r"0*[1-9][0-9]{0,17}", budget):
        return None
    if not budget.isdecimal():  # "0", or more than anybody waits for
        with suppress(ConfigError):
            return seconds_of(budget, "budget")
    raise ConfigError(
        f"--budget '{budget[:40]}' is neither a number of meta-steps nor a length of time",
        "For example 2000, 10m or 1.5h.",
    )


def _steps(budget: str, config: Config) -> int:
    """Meta-steps; those of a time are what a trial on this machine says, validations among them.

    Raises:
        ConfigError: neither a number nor a time. DataError: the data are not there to try.
    """
    seconds = _seconds(budget)
    if seconds is None:
        return int(budget)
    from binomctl.cli.datasets import ensure_prepared
    from binomctl.profiling.forecast import PIECES, forecast
    from binomctl.training.opening import checked

    ensure_prepared(config)
    with Counting("trying", PIECES, "meta-steps") as counting:
        found = forecast(checked(config), counting.advance)
    every = config.training.validate_every
    step = found.step_ms / 1e3
    steps = int(seconds / (step + found.validation_s / every))
    if steps < LEAST * every:  # as many validations in any case
        steps = int((seconds - LEAST * found.validation_s) / step)
    return max(1, steps)


def _every(steps: int, config: Config) -> int:
    """Meta-steps between validations, so that there are some."""
    return min(config.training.validate_every, max(1, steps // LEAST))
