"""What the parser of the command line refuses, in the words of all other errors."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import typer

from binomctl.errors import ConfigError, expected, nearest

UsageError: Any = typer.BadParameter.__bases__[0]
"""typer's own class of what it refuses; it gives the class no public name."""


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
            f"unknown option {option} of {command}.{nearest(str(option), known)}", hint
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
        return ConfigError(f"{command} takes no more arguments: {found[1]}", hint)
    return ConfigError(said, hint)


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
