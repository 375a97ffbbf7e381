"""The configuration: a schema, and its layers (defaults < data set < file < command line)."""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from binomctl.settings.engine_section import EngineSection
from binomctl.settings.section import Choice, Named, Section

Reduction = Literal["mean", "sum", "sum_per_shot"]
"""mean over a set's N examples; their sum; their sum over shots, as Finn et al.'s code has it."""


class AdaptationSection(Section):
    """The inner loop, equation (2b)."""

    K: int = Field(5, ge=1, description="inner gradient steps in meta-training")
    alpha: float = Field(0.01, gt=0, description="inner step size")
    loss_reduction: Reduction = Field("mean", description="of the support loss over examples")
    batch: int | None = Field(
        None, ge=1, description="examples per inner step, all where a task has fewer; null: all"
    )
    optimizer: Named = Field(
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

    @model_validator(mode="before")
    @classmethod
    def _betas(cls, data: Any) -> Any:
        """Runs of before 0.2 have Adam's options beside its name."""
        if not isinstance(data, dict) or not {"beta1", "beta2"} & set(data):
            return data
        data = dict(data)
        options = {name: data.pop(name) for name in ("beta1", "beta2") if name in data}
        chosen = data.get("optimizer", "sgd")
        name = chosen.get("name") if isinstance(chosen, dict) else chosen
        if isinstance(name, str):  # anything else is refused as it stands
            data["optimizer"] = {"name": name} | (options if name == "adam" else {})
        return data


class Stage(Section):
    """An estimator for the first meta-steps."""

    until: int = Field(ge=1, description="the meta-step, from 0, at which it ends")
    estimator: Named = Field(description="by name, or with its options")


class TrainingSection(Section):
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
    error_estimate: bool = Field(False, description="log the estimator's own estimate of its error")
    validate_every: int = Field(50, ge=1, description="meta-steps between validations")
    validation_tasks: int = Field(50, ge=1, description="tasks per validation")
    patience: int | None = Field(
        None, ge=1, description="stop after so many validations without a better one; null: never"
    )
    checkpoint_every: int | None = Field(
        None, ge=1, description="meta-steps between checkpoints; null: one at every validation"
    )
    keep_last: int = Field(2, ge=1, description="checkpoints kept, the latest, beside the best")
    keep_every: int | None = Field(
        None, ge=1, description="checkpoints of multiples of this step are kept besides; null: none"
    )
    on_nonfinite: Literal["raise", "skip"] = Field(
        "raise", description="at a loss or meta-gradient that is not finite: stop, or leave it out"
    )
    task_chunk: int | None = Field(
        None, ge=1, description="tasks in memory together, of a meta-batch; null: all"
    )
    learned: list[str] | None = Field(
        None,
        description="patterns of the parameters that the outer loop learns, outer_* of a bilevel"
        " problem; []: a rule's own alone; null: all",
    )
    order_annealing: list[Stage] = Field(
        [],
        description="other estimators first, fomaml or a low L say: [{until: 1000, estimator:"
        " fomaml}]; the run's own from then on (MAML++)",
    )
    amp: Literal["off", "bf16"] = Field(
        "off",
        description="bf16: the query pass in bfloat16, refused where it is no faster on this"
        " machine or the query gradient is off by more than 10%",
    )


class AnalysisSection(Section):
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
    estimates: bool = Field(False, description="ask each for an estimate of its own error too")


class ProfileSection(Section):
    """What `binomctl profile` measures."""

    estimators: list[str] = Field(
        ["maml", "fomaml", "trunc", "binom", "imaml"], description="as in analysis.estimators"
    )
    L: str = Field("0-5", description="orders: a number, a range, or several with commas")
    C: int | None = Field(None, ge=0, description="reach of the hybrid; null: all K")
    seconds: float = Field(
        5.0, gt=0, description="of measuring, for every cell; the command's own is 2 on a CPU"
    )


class EvaluationSection(Section):
    """Validation and test."""

    tasks: int = Field(600, ge=1, description="test tasks")
    steps: int | None = Field(None, ge=1, description="adaptation steps; null: K")
    queries: int | None = Field(None, ge=1, description="query examples; null: as in training")
    shots: int | None = Field(None, ge=1, description="support examples; null: as in training")
    batch: int | None = Field(None, ge=1, description="examples per inner step; null: all")
    checkpoint: Literal["best", "last"] = Field("best", description="which one is tested")
    interval: Literal["student", "normal"] = Field(
        "student", description="of 95%: Student t, or 1.96 std / sqrt(n) as in Finn et al.'s code"
    )


class Config(Section):
    """Everything that determines a run."""

    seed: int = Field(0, ge=0, lt=2**63, description="of the weights and the task stream")
    label: str | None = Field(
        None, description="what tables call the method, beside its estimator; null: what differs"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["float32", "float64"] = Field("float32", description="of all that is computed")
    pixels: Literal["unit", "raw"] = Field("unit", description="images in [0, 1] or [0, 255]")
    dataset: Choice = Choice(name="glyphs")
    model: Choice = Choice(name="conv4")
    init: str | None = Field(
        None, description="a file of the first weights: safetensors, or a plain state_dict"
    )
    init_strict: bool = Field(
        True, description="refuse weights that do not fit; false: what does not stays as drawn"
    )
    estimator: Choice = Choice(name="binom")
    rule: Choice = Choice(name="gd")
    adaptation: AdaptationSection = AdaptationSection()
    engine: EngineSection = EngineSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()
    analysis: AnalysisSection = AnalysisSection()
    profile: ProfileSection = ProfileSection()
    trackers: list[Named] = Field(
        [], description="who is told what metrics.jsonl is told: names, with their options"
    )

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
