"""How a command's help is laid out: its options in panels by what they are about, and examples."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from binomctl.cli.examples import EXAMPLES

PANELS = {
    "Method": "estimator estimators L C alpha_scaling K alpha rule model init meta_lr meta_batch"
    " steps adaptation_steps M batches spectrum estimates",
    "Data": "dataset bilevel root ways shots queries size split seed tasks support query invert"
    " index mirror download partial",
    "Machine": "device dtype engine memory compile_ amp task_chunk executor jobs tries partition"
    " minutes processes gpus cpus ram option seconds",
    "Configuration": "config assign",
    "The run": "resume allow_change time_limit on_nonfinite keep_every tracker dry_run checkpoint"
    " at along reference inference",
    "Output": "out output to csv plot sheet log_tasks reliability trace form format_ licence title"
    " force json_output",
    "Trust": "trust named imported",
}
"""Panel -> the parameters of commands that belong there; others stay under "Options"."""

_PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names.split()}
FEW = 8  # options that need no panels


class Command(TyperCommand):
    """A command whose options stand in panels and whose help ends with examples."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, **settings)
        every: list[Any] = list(self.params)
        options = [p for p in every if p.opts[0].startswith("-") and not p.hidden]
        if len(options) > FEW:
            for option in options:
                option.rich_help_panel = _PANEL_OF.get(option.name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        words = ctx.command_path.partition(" ")[2]
        if found := EXAMPLES.get(words):
            self.epilog = "\n\n".join(["Examples:", *found])
        super().format_help(ctx, formatter)
