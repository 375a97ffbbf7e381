"""The Typer application and the options common to all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from binomctl.cli.adapt import adapt
from binomctl.cli.bounds import bounds
from binomctl.cli.compare import compare
from binomctl.cli.config import config_app
from binomctl.cli.config_keys import keys, show
from binomctl.cli.console import show_notes
from binomctl.cli.data import data_app
from binomctl.cli.doctor import doctor
from binomctl.cli.error_analysis import error_analysis
from binomctl.cli.evaluate import evaluate
from binomctl.cli.export import export
from binomctl.cli.init import init
from binomctl.cli.panels import Command
from binomctl.cli.plot import plot
from binomctl.cli.plugins import plugins_app
from binomctl.cli.predict import predict
from binomctl.cli.profile import profile
from binomctl.cli.report import report
from binomctl.cli.runs import runs_app
from binomctl.cli.sweep import sweep_app
from binomctl.cli.train import train
from binomctl.cli.verify import verify

app = typer.Typer(
    name="binomctl",
    help="Train, evaluate, measure and compare meta-gradient estimators (BinomMAML and its peers).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        import binomctl

        typer.echo(f"binomctl {binomctl.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Meta-gradient estimators: train, evaluate, measure, compare."""
    show_notes()


app.command(cls=Command)(init)
app.command(cls=Command)(train)
app.command(name="eval", cls=Command)(evaluate)
app.command(cls=Command)(predict)
app.command(cls=Command)(adapt)
app.command(cls=Command)(export)
app.command(cls=Command)(compare)
app.command(cls=Command)(report)
app.command(cls=Command)(plot)
app.command(cls=Command)(error_analysis)
app.command(cls=Command)(profile)
app.command(cls=Command)(bounds)
app.command(cls=Command)(verify)
app.add_typer(plugins_app, name="plugins")
app.command(cls=Command)(doctor)
app.add_typer(sweep_app, name="sweep")
app.add_typer(runs_app, name="runs")
app.add_typer(data_app, name="data")
config_app.command(cls=Command)(keys)
config_app.command(cls=Command)(show)
app.add_typer(config_app, name="config")
