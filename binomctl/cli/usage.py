"""What the parser of the command line refuses, in the words of all other errors."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any

import typer

from binomctl.cli.loading import load_torch
from binomctl.errors import ConfigError, expected, nearest

UsageError: Any = typer.BadParameter.__bases__[0]
"""typer's own class of what it refuses; it gives the class no public name."""


OTHER_WORDS = {
    **dict.fromkeys(("lr", "learning-rate", "outer-lr"), ("--meta-lr",)),
    **dict.fromkeys(("inner-lr", "fast-lr", "adaptation-lr"), ("--alpha",)),
    **dict.fromkeys(("epochs", "iterations", "max-steps"), ("--steps",)),
    **dict.fromkeys(("batch-size", "meta-batch-size", "tasks-per-batch"), ("--meta-batch",)),
    **dict.fromkeys(("inner-steps", "steps", "k-steps"), ("--K", "--adaptation-steps")),
    **dict.fromkeys(("way", "n-way", "n-ways"), ("--ways",)),
    **dict.fromkeys(("shot", "k-shot", "n-shot"), ("--shots",)),
    **dict.fromkeys(("output", "output-dir", "save-dir", "log-dir"), ("--out", "--output")),
    **dict.fromkeys(("algorithm", "algo", "method"), ("--estimator", "--estimators")),
    **dict.fromkeys(("gpu", "cuda"), ("--device",)),
    **dict.fromkeys(("episodes", "test-tasks", "n-tasks"), ("--tasks",)),
}
"""What other programs call an option -> what it is called here, the first that a command has."""


def is_help(error: Any) -> bool:
    """Whether nothing was refused: a group of commands was typed alone, and its help was shown."""
    return not error.message.strip() and not hasattr(error, "param")


def in_words(error: Any) -> ConfigError:
    """A refusal of the parser: the option or argument as it was typed, its value, the nearest valid
    name, and where the valid ones are listed."""
    ctx = error.ctx
    command = "binomctl" if ctx is None else ctx.command_path
    said = error.message.rstrip(".")
    hint = f"'{command} --help' lists its {_members(ctx)}."
    option: str | None = getattr(error, "option_name", None)
    param = getattr(error, "param", None)
    if getattr(error, "possibilities", None) is not None or said.startswith("No such option"):
        known = [name for p in ctx.command.get_params(ctx) for name in p.opts if name[0] == "-"]
        return ConfigError(
            f"unknown option {option} of {command}.{_guess(str(option), known)}", hint
        )
    if option is not None:
        return ConfigError(f"{option} needs a value", "--help after the command says which.")
    if param is not None and said:
        name = _name(param)
        value = _typed(param.opts, sys.argv)
        shown = name if value is None else f"{name} {value}"
        return ConfigError(f"{shown}: {expected(said, value)}", hint)
    if param is not None:
        return ConfigError(f"{command} needs {_name(param)}: {param.help.rstrip('.')}", hint)
    if found := re.match(r"No such command '(.*?)'", said):
        known = ctx.command.list_commands(ctx)
        return ConfigError(
            f"unknown command '{found[1]}' of {command}.{nearest(found[1], known)}"
            f" Valid: {', '.join(known)}.",
            hint,
        )
    if found := re.match(r"Got unexpected extra argument\S* \((.*)\)", said):
        return ConfigError(
            f"{command} takes no more arguments: {found[1]}{_option_of(ctx, found[1])}", hint
        )
    return ConfigError(said, hint)


def _guess(option: str, known: Sequence[str]) -> str:
    """What an unknown option may have meant: another word for a known one, a slip of the keyboard,
    or a configuration key."""
    typed = option.lstrip("-").replace("_", "-")
    meant = next((name for name in OTHER_WORDS.get(typed, ()) if name in known), None)
    if meant is None:
        names = {name.lstrip("-"): name for name in known}
        near = difflib.get_close_matches(typed, names, n=1, cutoff=0.7)
        same = [name for name in names if name.lower() == typed.lower()]
        meant = next((names[name] for name in (*same, *near)), None)
    if meant is None and {"--set", "--config"} <= set(known):
        load_torch()  # which the networks' and the plugins' options are declared with
        from binomctl.settings.keys import keys

        ends = (f".{typed.replace('-', '_')}", f".{typed.replace('-', '_')}.name")
        key = next((key.name for key in keys() if f".{key.name}".endswith(ends)), None)
        meant = key and f"--set {key.removesuffix('.name')}=..."
    return f" Did you mean '{meant}'?" if meant else ""


def _option_of(ctx: Any, word: str) -> str:
    """The option that takes a plugin's name which was typed without it."""
    from binomctl.settings import registry

    known = {name for p in ctx.command.get_params(ctx) for name in p.opts}
    for kind in registry.KINDS:
        if f"--{kind}" in known and word in registry.names(kind):
            return f". Did you mean '--{kind} {word}'?"
    return ""


def _members(ctx: Any) -> str:
    return "commands" if ctx is None or hasattr(ctx.command, "list_commands") else "options"


def _name(param: Any) -> str:
    """--option, or an argument as help calls it."""
    longest: str = max(param.opts, key=len)
    return longest if longest.startswith("-") else (param.metavar or longest.upper()).strip("[]")


def _typed(names: Sequence[str], words: Sequence[str]) -> str | None:
    """The value that was typed after the last of these options; None of an argument."""
    found = None
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            found = value if equals else " ".join(words[i + 1 : i + 2])
    return found
