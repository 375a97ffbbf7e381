"""`binomctl plugins`, which is `binomctl plugins list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import binomctl.cli.flags as flags
from binomctl.cli.console import print_json, print_titled
from binomctl.cli.loading import load_torch
from binomctl.cli.panels import Command
from binomctl.cli.plugins_new import new

if TYPE_CHECKING:
    from binomctl.settings.registry import PluginInfo


class ListFirst(TyperGroup):
    """`plugins` and `plugins --json` are `plugins list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return list(super().parse_args(ctx, args))


plugins_app = typer.Typer(
    cls=ListFirst, help="List plugins with their options, or begin a new one."
)
plugins_app.command(name="new", cls=Command)(new)


@plugins_app.callback()
def _group() -> None:
    """List plugins with their options, or begin a new one."""


@plugins_app.command(name="list", cls=Command)
def listed(
    word: Annotated[
        str | None,
        typer.Argument(metavar="[KIND|NAME]", help="These alone: estimators, rules; binom."),
    ] = None,
    json_output: flags.JSON = False,
) -> None:
    """List plugins of every kind with their options, and what failed to load."""
    import dataclasses

    load_torch()
    from binomctl.settings.registry import describe

    infos = describe() if word is None else _chosen(word, describe())
    if json_output:
        every = [dataclasses.asdict(info) for info in infos]
        print_json({"schema": "binomctl/plugins/1", "plugins": every})
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    wide = console.width >= 70  # a third column would leave none of them readable
    for kind in dict.fromkeys(info.kind for info in infos):
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("name", style="bold", no_wrap=True)
        table.add_column("what it is, and its options", ratio=1)
        if wide:
            table.add_column("distribution", style="dim")
        for info in (i for i in infos if i.kind == kind):
            if info.failure:
                what = Text(f"failed to load: {info.failure}", style="red")
            else:
                what = Text(info.summary)
                for option in info.options:
                    what.append(f"\n- {option.name} = {_shown(option.default)}", style="cyan")
                    what.append(f": {option.doc}")
            if not wide:
                what.append(f"\n{info.distribution}", style="dim")
            table.add_row(info.name, what, *([info.distribution] if wide else []))
        print_titled(console, f"{kind}s", table)


def _chosen(word: str, infos: list[PluginInfo]) -> list[PluginInfo]:
    """Those of a kind, or of a name, which several kinds may have."""
    from binomctl.errors import ConfigError, unknown

    found = [info for info in infos if word in (info.kind, f"{info.kind}s", info.name)]
    if not found:
        kinds = [f"{info.kind}s" for info in infos]
        known = list(dict.fromkeys([*kinds, *(info.name for info in infos)]))
        raise ConfigError(
            unknown("kind or name of plugins", word, known),
            "Leave it out for all of them.",
        )
    return found


def _shown(default: Any) -> str:
    """A default as one would write it in YAML."""
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    return str(default)
