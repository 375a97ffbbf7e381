"""Options that several commands have: each worded once, and the configuration key it sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import binomctl.cli.completion as completion

if TYPE_CHECKING:
    from binomctl.settings.layers import Given


ESTIMATOR = Annotated[
    str | None,
    typer.Option(
        help="Meta-gradient estimator; see 'binomctl plugins'; your own: MODULE:CLASS.",
        autocompletion=completion.plugins("estimator"),
    ),
]
DATASET = Annotated[
    str | None,
    typer.Option(
        help="Data set; see 'binomctl plugins'; your own: MODULE:CLASS.",
        autocompletion=completion.plugins("dataset"),
    ),
]
PROBLEM = Annotated[
    str | None,
    typer.Option(
        "--problem",
        help="Bilevel problem, in place of a data set; see 'binomctl plugins'.",
        autocompletion=completion.plugins("problem"),
    ),
]
ROOT = Annotated[Path | None, typer.Option(help="Folder of the data set's files; $BINOMCTL_DATA.")]
MODEL = Annotated[
    str | None,
    typer.Option(
        help="Network; timm's: --set model.timm=NAME.", autocompletion=completion.networks
    ),
]
INIT = Annotated[
    Path | None,
    typer.Option(metavar="FILE|RUN", help="First weights: a .safetensors or state_dict, or a run."),
]
RULE = Annotated[
    str | None,
    typer.Option(
        help="Adaptation rule; see 'binomctl plugins'; your own: MODULE:CLASS.",
        autocompletion=completion.plugins("rule"),
    ),
]
WAYS = Annotated[int | None, typer.Option(help="Classes per task; default 5.")]
SHOTS = Annotated[
    int | None, typer.Option(help="Support examples per class; default 1, of sinusoid 10.")
]
SIZE = Annotated[
    int | None, typer.Option(help="Height and width of images in pixels; default the data set's.")
]
K = Annotated[int | None, typer.Option("--K", help="Inner gradient steps.")]
ALPHA = Annotated[float | None, typer.Option(help="Inner step size.")]
META_BATCH = Annotated[int | None, typer.Option(help="Tasks per meta-batch.")]
SEED = Annotated[int | None, typer.Option(min=0, help="Of the weights and the tasks.")]
DEVICE = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DTYPE = Annotated[str | None, typer.Option(help="float32 or float64.")]
ENGINE = Annotated[str | None, typer.Option(help="auto, analytic (the layer algebra) or autograd.")]
MEMORY = Annotated[
    str | None, typer.Option(help="store or recompute the linearisations of the inner loop.")
]
COMPILE = Annotated[
    str | None, typer.Option("--compile", help="auto, on or off: torch.compile the meta-step.")
]

# Of commands that measure several estimators.
ESTIMATORS = Annotated[
    str | None,
    typer.Option(
        help="Names with commas, imaml:lam=50 for a variant; see 'binomctl plugins'.",
        autocompletion=completion.plugins("estimator"),
    ),
]
ORDERS = Annotated[str | None, typer.Option("--L", help="Orders: 0-5, 2 or 1,3,5.")]
REACH = Annotated[int | None, typer.Option("--C", help="Reach of the hybrid; default K.")]

CONFIG = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE|NAME",
        help="YAML file, or the name of one in configs/ (binom2026, methods/anil), over the"
        " defaults; repeatable, later over earlier.",
    ),
]
ASSIGN = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.PATH=VALUE",
        help="Any key, over the file; repeatable; see 'binomctl config keys'.",
        autocompletion=completion.keys,
    ),
]

JSON = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
CSV = Annotated[Path | None, typer.Option(help="Write the values as CSV.")]
PLOT = Annotated[bool, typer.Option("--plot", help="Draw the picture.")]
OUTPUT = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The picture: .png, .svg or .pdf; implies --plot."),
]
FORCE = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]

CHECKPOINT = Annotated[
    str | None, typer.Option(help="best or last; default: what the run's protocol says.")
]

# Of commands that compare runs on the same test tasks.
REFERENCE = Annotated[
    Path | None, typer.Option(help="The run to compare with; default: exact MAML's.")
]
TASKS = Annotated[int | None, typer.Option(min=2, help="Number of test tasks.")]
# --steps of a training are meta-steps; that of others is kept beside the name that says what it is.
ADAPTATION_STEPS = ("--adaptation-steps", "--steps")
STEPS = Annotated[int | None, typer.Option(*ADAPTATION_STEPS, min=1, help="Adaptation steps.")]
SPLIT = Annotated[str, typer.Option(help="Which split of the data set.")]
TEST_SEED = Annotated[int, typer.Option(min=0, help="Seed of the test tasks, of all runs.")]

# Of commands that may import a run's own network.
TRUST = Annotated[
    bool,
    typer.Option("--trust", help="Import what a folder from elsewhere names: network, plugins."),
]
IMPORT = Annotated[
    str | None,
    typer.Option("--import", metavar="MODULE:CLASS", help="What the run imports, by name."),
]

# Of commands that read a user's own pictures.
INVERT = Annotated[
    bool | None,
    typer.Option("--invert/--no-invert", help="Black on white becomes white on black; default:"
                 " as the run's data set has it."),
]  # fmt: skip

KEYS = {
    "estimator": "estimator.name",
    "L": "estimator.L",
    "dataset": "dataset.name",
    "root": "dataset.root",
    "ways": "dataset.ways",
    "shots": "dataset.shots",
    "size": "dataset.image_size",
    "model": "model.name",
    "init": "init",
    "rule": "rule.name",
    "K": "adaptation.K",
    "alpha": "adaptation.alpha",
    "meta_batch": "training.meta_batch",
    "seed": "seed",
    "device": "device",
    "dtype": "dtype",
    "engine": "engine.kind",
    "memory": "engine.memory",
    "compile": "engine.compile",
    "trackers": "trackers",
}
"""Option -> the key it sets."""


_OPTIONS = {"trackers": "--tracker"}
"""Names of `given` that are not what is typed."""


def check_checkpoint(which: str | None) -> None:
    """Refuse a --checkpoint that is neither.

    Raises:
        ConfigError: naming the valid ones.
    """
    from binomctl.errors import ConfigError, unknown

    if which not in (None, "best", "last"):
        raise ConfigError(
            f"--checkpoint: {unknown('checkpoint', which, ['best', 'last'])}",
            "Leave it out for the one that the run's protocol says.",
        )


def given(section: str, **options: Any) -> Given:
    """Values by configuration key, None where an option was not given; and what was typed.

    Args:
        section: where options belong that no other command has: "training" for --steps, say.
        options: by name, as typed but for the dashes.
    """
    from binomctl.settings.layers import Given

    problem = options.pop("problem", None)
    options["dataset"] = _problem_or(problem, options.get("dataset"))
    out, typed = {}, {}
    for name, value in options.items():
        if isinstance(value, Path):
            path = value.expanduser().absolute()
            value = str(_weights_file(path) if name == "init" else path)
        if name == "estimators" and value is not None:
            value = [one.strip() for one in value.split(",")]
        # Of an analysis: orders to measure and not the estimator's, how theta is drawn and not a
        # file of weights.
        own = name in ("L", "init") and section != "training"
        key = f"{section}.{name}" if own else KEYS.get(name, f"{section}.{name}")
        out[key], typed[key] = value, _OPTIONS.get(name, f"--{name.replace('_', '-')}")
    if problem is not None:
        typed[KEYS["dataset"]] = "--problem"
    return Given(out, typed)


def _problem_or(problem: str | None, dataset: str | None) -> str | None:
    """The data set that a bilevel problem is, or the one that was given."""
    if problem is None:
        return dataset
    from binomctl.errors import ConfigError, unknown
    from binomctl.settings import registry

    if dataset is not None:
        raise ConfigError(
            f"--problem {problem} and --dataset {dataset}: a problem has its own data",
            "Say what it draws from by --set dataset.data=NAME.",
        )
    if registry.is_own("problem", problem):
        registry.ask("problem", problem)
    elif problem not in registry.names("problem"):
        raise ConfigError(
            f"--problem: {unknown('problem', problem, registry.names('problem'))}",
            "'binomctl plugins' says what each is.",
        )
    return problem


def _weights_file(path: Path) -> Path:
    """A file of weights, or of a run's best checkpoint, its last where there is no best."""
    if not path.is_dir():
        return path
    from binomctl.runs import RunDirectory

    saved = RunDirectory.open(path).checkpoints
    return saved.model_file("best" if saved.has_best() else "last")
