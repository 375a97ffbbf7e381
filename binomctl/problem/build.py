"""A configuration made real: data set, model, engine, rule and estimator, checked to fit."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from binomctl import dotted
from binomctl.contracts import (
    Adaptation,
    Engine,
    Estimator,
    MadeOfOthers,
    Proximal,
    Remembers,
    Rule,
    Update,
)
from binomctl.curvature import AutogradEngine
from binomctl.curvature.analytic.precision import ieee_on_gpus
from binomctl.curvature.outputs import rows
from binomctl.errors import CheckpointError, ConfigError
from binomctl.flat import initial_parameters
from binomctl.heads import with_head
from binomctl.machine.allocator import tune_allocator
from binomctl.machine.devices import choose_device, run_deterministically
from binomctl.models import MODELS, build_model
from binomctl.models.weights import load_weights
from binomctl.options import build
from binomctl.pairs import check_pair
from binomctl.problem.amp import in_bfloat16
from binomctl.problem.batch_norm import Statistics, norm_layers
from binomctl.problem.checks import check_network, check_runs, check_start
from binomctl.problem.datasets import build_dataset, choice_of, default_of, evaluation_dataset
from binomctl.problem.engines import freeze, with_engine, with_frozen
from binomctl.problem.outer import learned_mask, with_outer_variables
from binomctl.problem.record import Problem as Problem
from binomctl.problem.tasks import Tasks
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.own import own
from binomctl.settings.section import Choice

_NOTES = logging.getLogger("binomctl.notes")
LARGE = 250_000
"""Pixels of a query set from which its activations (32 channels, 4 bytes) near 64 MB."""


def build_problem(
    config: Config,
    constants: Mapping[str, Tensor] | None = None,
    frozen: Statistics | None = None,
    *,
    from_start: bool | None = None,
) -> Problem:
    """Construct and check all parts; nothing is trained yet.

    Args:
        from_start: whether the weights of config.init are wanted; None: where no constants are.
        constants: a checkpoint's buffers and frozen parameters, by name: what was drawn when the
            network was made would be another draw today.
        frozen: of a checkpoint, what batch norm was frozen to; None: it is measured.

    Raises:
        ConfigError: an unknown name or option, L > K, a model the data do not fit, no such device,
            an estimator that is not derived for the rule.
        DataError: a split too small for the tasks asked for.
    """
    if config.engine.allocator == "tuned":
        tune_allocator()
    if config.engine.deterministic:
        run_deterministically()
    dataset = build_dataset(config)
    estimator, rule, update = plugins_of(config)
    estimator.steps(config.adaptation.K)
    device, dtype = choose_device(config.device), getattr(torch, config.dtype)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # streams and events are the current device's
        ieee_on_gpus()
    model = build_model(
        config.model.name, config.model.options, dataset.in_shape, dataset.out_dim, config.seed
    )
    model = with_outer_variables(model, dataset).to(device, dtype)
    if config.init is not None and (constants is None if from_start is None else from_start):
        _initialise(model, config)
    load_constants(model, constants or {})
    if config.pixels == "raw" and len(dataset.in_shape) != 3:
        raise ConfigError("pixels = raw, but the data set has no images", key="pixels")
    if config.adaptation.statistics != "batch" and not norm_layers(model):
        raise ConfigError(
            f"adaptation.statistics = {config.adaptation.statistics}, but the model has no batch"
            " norm",
            key="adaptation.statistics",
        )
    engine: Engine = AutogradEngine(model, dataset.loss)
    theta = initial_parameters(model)
    tasks = Tasks(dataset, config.seed, config.pixels, theta)
    rule = with_head(rule, model, lambda: _inputs(tasks))
    m = rule.initial(engine.layout)
    learned = learned_mask(config.training.learned, engine.layout, m, theta)
    problem = Problem(
        config, dataset, estimator, rule, model, engine, theta, m.to(theta), update=update,
        learned=learned,
    )  # fmt: skip
    batch = problem.training_batch(range(1))
    if config.engine.allocator == "tuned" and batch.x_val.dim() == 5:
        tune_allocator(one_arena=batch.x_val[0, :, 0].numel() > LARGE)
    check_runs(problem, batch)
    problem = with_engine(problem, batch)
    for split in ("validation", "test"):  # better told now than after the training
        evaluation_dataset(config, dataset).episode(split, 0)
    check_network(problem, batch)
    check_start(problem, batch)
    how = problem.inner_loop(problem.m, step=0)
    check_pair(estimator, config.estimator.name, how, config.rule.name)
    problem = dataclasses.replace(problem, stages=_stages(problem, how))
    if config.adaptation.statistics == "frozen":
        problem = freeze(problem) if frozen is None else with_frozen(problem, frozen.to(theta))
    if config.training.amp == "bf16":
        problem = dataclasses.replace(problem, engine=in_bfloat16(problem, tried=constants is None))
    return problem


def plugins_of(config: Config) -> tuple[Estimator, Rule, Update | None]:
    """The estimator, the rule and the inner optimiser of a configuration; None is the plain step.

    Raises:
        ConfigError: an unknown name or option.
    """
    chosen = config.adaptation.optimizer
    return (
        registry.create("estimator", config.estimator.name, config.estimator.options),
        registry.create("rule", config.rule.name, config.rule.options),
        registry.create_update(chosen.name, chosen.options),
    )


def _stages(problem: Problem, how: Adaptation) -> tuple[tuple[int, Estimator], ...]:
    """The estimators of training.order_annealing, in order.

    Raises:
        ConfigError: one that does not fit, that has a state, or whose end is not after the last's.
    """
    key, out, before = "training.order_annealing", [], 0
    for stage in problem.config.training.order_annealing:
        name = stage.estimator.name
        made: Estimator = registry.create("estimator", name, stage.estimator.options)
        made.steps(how.K)
        check_pair(made, name, how, problem.config.rule.name)
        if isinstance(made, Remembers | Proximal):
            raise ConfigError(
                f"'{name}' cannot be a stage: it has a state, or an inner loop of its own",
                "Use an expansion without a state: those of order 0 are first order.",
                key=key,
            )
        if stage.until <= before:
            raise ConfigError(
                f"the stage of '{name}' ends at {stage.until}, the one before it at {before}",
                "Give them in order.",
                key=key,
            )
        before = stage.until
        out.append((stage.until, made))
    return tuple(out)


def _inputs(tasks: Tasks) -> Any:
    """What the network sees of the first task."""
    return rows(tasks.place(tasks.draw("train", range(1), 1, None)).x_trn, 0)


def _initialise(model: nn.Module, config: Config) -> None:
    """Give a network the first weights that a configuration names."""
    path = Path(str(config.init))
    for line in load_weights(model, path, config.model.name, strict=config.init_strict):
        _NOTES.info("%s: %s", path.name, line)


def load_constants(model: nn.Module, constants: Mapping[str, Tensor]) -> None:
    """Give a network's buffers and frozen parameters these values.

    Raises:
        CheckpointError: the network has no such tensor, or one of another shape.
    """
    known = {**model.state_dict(keep_vars=True), **dict(model.named_buffers())}
    for name, value in constants.items():
        target = known.get(name)
        if not isinstance(target, Tensor) or target.shape != value.shape:
            raise CheckpointError(
                f"the checkpoint's '{name}' {list(value.shape)} does not fit the run's model",
                "The network was changed after training.",
            )
        with torch.no_grad():
            target.copy_(value)


def _written_out(choice: Choice, part: Any) -> dict[str, Any]:
    """A choice with every option; the data sets within one as choices, too."""
    out = {"name": choice.name, **dataclasses.asdict(part)}
    if isinstance(part, MadeOfOthers):
        given = choice.options.get(part.composed_of, default_of(type(part), part.composed_of))
        several = isinstance(given, list | tuple)
        named = [choice_of(member) for member in (given if several else [given])]
        pairs = zip(named, part.members(), strict=True)
        written = [_written_out(own, member) for own, member in pairs]
        out[part.composed_of] = written if several else written[0]
    return out


def resolved(config: Config) -> Config:
    """The configuration with every plugin's and the model's defaults written out; as it stands
    where it is a run's with plugins that were not imported: there, everything is."""
    if not all(dotted.loaded(target) for _, target in own(config.model_dump(mode="json"))):
        return config
    parts: dict[str, Any] = {
        "dataset": build_dataset(config),
        "estimator": registry.create("estimator", config.estimator.name, config.estimator.options),
        "rule": registry.create("rule", config.rule.name, config.rule.options),
    }
    if config.model.name in MODELS:  # a user's own network has no defaults to write out
        parts["model"] = build(MODELS[config.model.name], config.model.options, "model")
    chosen = config.adaptation.optimizer
    optimizer = registry.create("update", chosen.name, chosen.options)
    full = {"name": chosen.name, **dataclasses.asdict(optimizer)}
    adaptation = {**config.adaptation.model_dump(), "optimizer": full}
    update: dict[str, Any] = {"adaptation": adaptation} | {
        key: _written_out(getattr(config, key), part) for key, part in parts.items()
    }
    return Config.model_validate({**config.model_dump(), **update})
