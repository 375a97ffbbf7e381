"""The configuration: a schema, and its layers (defaults < data set < file < command line)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from binomctl.errors import ConfigError
from binomctl.files.yaml_source import parse_value, read_yaml
from binomctl.options import IMPORT
from binomctl.settings import registry


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Choice(_Section):
    """A plugin or model by name; every other key is one of its own options."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


Reduction = Literal["mean", "sum", "sum_per_shot"]
"""mean over a set's N examples; their sum; their sum over shots, as Finn et al.'s code has it."""


class AdaptationSection(_Section):
    """The inner loop, equation (2b)."""

    K: int = Field(5, ge=1, description="inner gradient steps in meta-training")
    alpha: float = Field(0.01, gt=0, description="inner step size")
    loss_reduction: Reduction = Field("mean", description="of the support loss over examples")
    batch: int | None = Field(
        None, ge=1, description="examples per inner step, all where a task has fewer; null: all"
    )
    optimizer: Choice = Field(
        Choice(name="sgd"), description="the inner optimiser by name, with its options beside it"
    )
    alpha_schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="of the inner step size over the K steps, down towards 0"
    )
    clip_value: float | None = Field(None, gt=0, description="clip gamma's entries to [-c, c]")
    clip_norm: float | None = Field(None, gt=0, description="clip gamma's norm")
    step_losses: Literal["last", "all", "annealed"] | list[float] = Field(
        "last",
        description="outer losses: at phi^K; at phi^1..phi^K alike; alike at first and then more"
        " and more at phi^K alone (MAML++); or weights c_0..c_K",
    )
    annealing_steps: int = Field(
        1000, ge=1, description="meta-steps until step_losses = annealed is last"
    )
    statistics: Literal["batch", "per-step", "frozen"] = Field(
        "batch", description="what batch norm normalises with; see binomctl/problem/batch_norm.py"
    )


class EngineSection(_Section):
    """How gradients and Hessian-vector products are computed."""

    kind: Literal["auto", "analytic", "autograd"] = Field(
        "auto", description="the layer algebra, autograd, or the first where it knows the network"
    )
    memory: Literal["store", "recompute"] = Field(
        "store", description="keep the linearisations of the inner loop, or make them anew"
    )
    order: Literal["auto", "rows", "columns"] = Field(
        "auto",
        description="one linearisation at a time, or one level of the cascade at a time; auto:"
        " rows on a CPU; columns on a GPU where the layer algebra runs",
    )
    batching: Literal["auto", "vmap", "loop", "alone"] = Field(
        "auto",
        description="autograd: the tasks of a meta-batch as one, one by one in threads, or alone"
        " (parameters in place in backward passes too); auto: the first that agrees with the last",
    )
    convolution: Literal["auto", "blocks", "per-task", "together", "grouped", "products"] = Field(
        "auto", description="of the layer algebra; auto: measured once per machine and shape"
    )
    precision: Literal["full", "tf32", "bf16"] = Field(
        "full", description="of Hessian-vector products alone; error-analysis prints its cost"
    )
    task_chunk: int | None = Field(
        None, ge=1, description="tasks through the layer algebra together; null: by their size"
    )
    threads: int | None = Field(
        None, ge=1, description="chunks of tasks side by side on a CPU; null: as it suits them"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="torch.compile the meta-step of a network without convolutions; auto: from"
        " 20,000 meta-steps on, when it pays for itself",
    )
    capture: Literal["auto", "on", "off"] = Field(
        "auto",
        description="the meta-step as a CUDA graph; auto: where the layer algebra runs on a GPU",
    )
    allocator: Literal["tuned", "system"] = Field(
        "tuned", description="tuned: glibc keeps freed blocks; see binomctl/machine/allocator.py"
    )

    @field_validator("compile", "capture", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        """YAML reads on and off as true and false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class TrainingSection(_Section):
    """The outer loop."""

    steps: int = Field(250, ge=1, description="meta-steps")
    meta_batch: int = Field(4, ge=1, description="tasks per meta-step")
    meta_lr: float = Field(1e-3, gt=0, description="outer learning rate")
    optimizer: Literal["adam", "sgd"] = Field("adam", description="the outer optimiser")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="of the outer learning rate, down to 0 after the last step"
    )
    reduction: Literal["mean", "sum"] = Field("mean", description="over the tasks of a meta-batch")
    loss_reduction: Reduction = Field("mean", description="of the query loss over examples")
    clip_value: float | None = Field(None, gt=0, description="clip every entry to [-c, c]")
    clip_norm: float | None = Field(None, gt=0, description="clip the meta-gradient's norm")
    queries: int | None = Field(
        None, ge=1, description="query examples in meta-training; null: the data set's"
    )
    workers: int = Field(1, ge=0, description="threads that draw tasks ahead; 0: none")
    log_every: int = Field(10, ge=1, description="meta-steps per line of metrics.jsonl")
    validate_every: int = Field(50, ge=1, description="meta-steps between validations")
    keep_all: bool = Field(False, description="keep every validated checkpoint, not best and last")
    validation_tasks: int = Field(50, ge=2, description="tasks per validation")


class AnalysisSection(_Section):
    """What `binomctl error-analysis` measures."""

    estimators: list[str] = Field(
        ["fomaml", "trunc", "binom"],
        description="registered names; name:option=value:... for a variant",
    )
    L: str = Field("0-5", description="orders: a number, a range, or several with commas")
    C: int | None = Field(None, ge=0, description="reach of the hybrid; null: all K")
    alpha_scaling: Literal["none", "paper", "both"] | None = Field(
        None, description="of estimators that have the option; null: as they say themselves"
    )
    batches: int = Field(200, ge=1, description="meta-batches")
    init: str = Field("model", description="model: its own; a number: N(0, number^2) weights")


class ProfileSection(_Section):
    """What `binomctl profile` measures."""

    estimators: list[str] = Field(
        ["maml", "fomaml", "trunc", "binom", "imaml"], description="as in analysis.estimators"
    )
    L: str = Field("0-5", description="orders: a number, a range, or several with commas")
    C: int | None = Field(None, ge=0, description="reach of the hybrid; null: all K")
    seconds: float = Field(
        5.0,
        gt=0,
        description="of measuring, for every cell; the command's own default on a CPU is 2",
    )


class EvaluationSection(_Section):
    """Validation and test."""

    tasks: int = Field(600, ge=2, description="test tasks")
    steps: int | None = Field(None, ge=1, description="adaptation steps; null: K")
    queries: int | None = Field(None, ge=1, description="query examples; null: as in training")
    shots: int | None = Field(None, ge=1, description="support examples; null: as in training")
    batch: int | None = Field(None, ge=1, description="examples per inner step; null: all")
    checkpoint: Literal["best", "last"] = Field("best", description="which one is tested")
    interval: Literal["student", "normal"] = Field(
        "student", description="of 95%: Student t, or 1.96 std / sqrt(n) as in Finn et al.'s code"
    )


class Config(_Section):
    """Everything that determines a run."""

    seed: int = Field(0, ge=0, description="of the weights and the task stream")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["float32", "float64"] = "float32"
    pixels: Literal["unit", "raw"] = Field("unit", description="images in [0, 1] or [0, 255]")
    dataset: Choice = Choice(name="glyphs")
    model: Choice = Choice(name="conv4")
    estimator: Choice = Choice(name="binom")
    rule: Choice = Choice(name="gd")
    adaptation: AdaptationSection = AdaptationSection()
    engine: EngineSection = EngineSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()
    analysis: AnalysisSection = AnalysisSection()
    profile: ProfileSection = ProfileSection()

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class Places(dict[str, str]):
    """Where each dotted key of a configuration came from: "file.yaml:12", "--L", "--set ..."."""

    def locate(self, error: ConfigError) -> ConfigError:
        """The error with the place of its key in front, when it has one."""
        place = self.get(error.key)
        return ConfigError(f"{place}: {error}", error.hint) if place else error


def load_config(
    file: Path | Sequence[Path] | None = None,
    overrides: Mapping[str, Any] | None = None,
    assignments: list[str] | None = None,
    below: Mapping[str, Any] | None = None,
) -> tuple[Config, Places]:
    """The configuration of a run.

    Args:
        file: a YAML file, several of them (a later one wins), or None.
        overrides: values by dotted key, from named command-line options; None values are skipped.
        assignments: "key.path=value" strings, from --set.
        below: a layer under the file, for commands with defaults of their own.

    Returns:
        The validated configuration and where its keys came from.

    Raises:
        ConfigError: an unknown key or a wrong value, with its place and the nearest valid key.
    """
    places = Places()
    layers: list[dict[str, Any]] = []
    for path in [file] if isinstance(file, Path) else file or []:
        data, found = read_yaml(path)
        layers.append(data)
        places.update(found)
    for key, (value, place) in _typed(overrides or {}, assignments or []).items():
        layers.append(_nested(key, value))
        places[key] = place
    user: dict[str, Any] = {}
    for layer in layers:
        user = merge(user, layer)
    try:
        user = merge(below or {}, user)
        recommended: dict[str, Any] = {}
        for kind in ("dataset", "estimator"):
            plugin = registry.load(kind, _chosen(kind, user))
            recommended = merge(recommended, getattr(plugin, "recommended", {}))
        return _validate(merge(recommended, user)), places
    except ConfigError as error:
        raise places.locate(error) from error


def merge(below: Mapping[str, Any], above: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Two layers, the upper one winning; another plugin's name drops the lower one's options."""
    out = dict(below)
    for key, value in above.items():
        place = f"{at}{key}"
        if place in _CHOICES:
            value = _choice(place, value)
        old = out.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if place in _CHOICES and _renamed(old, value):
                old = {}
            out[key] = merge(old, value, f"{place}.")
        else:
            out[key] = merge({}, value, f"{place}.") if isinstance(value, Mapping) else value
    return out


def _choice(key: str, value: Any) -> Any:
    """A choice with its name taken apart, "learn2learn:fc100" say."""
    if isinstance(value, str):
        value = {"name": value}
    name = value.get("name") if isinstance(value, Mapping) else None
    if isinstance(name, str) and key in registry.KINDS:
        return {**value, **registry.split_name(key, name)}
    return value


def _renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether `new` chooses another plugin or model than `old`."""
    if IMPORT in new:
        return old.get("name") != IMPORT
    return "name" in new and old.get("name", new["name"]) != new["name"]


_INNER = "adaptation.optimizer"
_CHOICES = {name for name, f in Config.model_fields.items() if f.annotation is Choice} | {_INNER}


def _typed(overrides: Mapping[str, Any], assignments: list[str]) -> dict[str, tuple[Any, str]]:
    values: dict[str, tuple[Any, str]] = {}
    for key, value in overrides.items():
        if value is not None:
            option = key.removesuffix(".name").rpartition(".")[2].replace("_", "-")
            values[key] = (value, f"--{option}")
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--set {text}: expected key.path=value", "For example --set training.steps=100"
            )
        values[key] = (parse_value(value, f"--set {text}"), f"--set {text}")
    # A name first: choosing a plugin drops the options of the one it replaces.
    return dict(sorted(values.items(), key=lambda kv: not kv[0].endswith(".name")))


def _nested(key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {head: _nested(rest, value) if rest else value}


def _chosen(kind: Literal["dataset", "estimator"], user: Mapping[str, Any]) -> str:
    section = user.get(kind, {})
    name = section.get("name") if isinstance(section, Mapping) else None
    default: Choice = getattr(Config(), kind)
    return name if isinstance(name, str) else default.name


def _validate(data: dict[str, Any]) -> Config:
    inner = data.get("adaptation", {})
    if isinstance(inner, dict) and isinstance(inner.get("optimizer"), dict):
        inner["optimizer"].setdefault("name", AdaptationSection().optimizer.name)
    for name in _CHOICES - {_INNER}:  # an option without a name belongs to the default plugin
        section = data.get(name)
        if isinstance(section, dict):
            own = name == "model" and IMPORT in section  # a user's network needs no name
            section.setdefault("name", IMPORT if own else getattr(Config(), name).name)
    try:
        return Config.model_validate(data)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(_unknown_key(key), key=key) from invalid
        raise ConfigError(f"{key} is {first['input']!r}: {first['msg']}.", key=key) from invalid


def _unknown_key(key: str) -> str:
    section, _, name = key.rpartition(".")
    fields = {s: _fields_of(f.annotation) for s, f in Config.model_fields.items()}
    valid = sorted(fields[section]) if section else sorted(fields)
    elsewhere = [f"'{s}.{name}'" for s, names in fields.items() if name in names]
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    guess = f" Did you mean '{f'{section}.' if section else ''}{near[0]}'?" if near else ""
    if not near and elsewhere:
        guess = f" Did you mean {' or '.join(elsewhere)}?"
    return f"unknown key '{key}'.{guess} Valid: {', '.join(valid)}."


def _fields_of(annotation: Any) -> list[str]:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return list(annotation.model_fields) if is_model else []
