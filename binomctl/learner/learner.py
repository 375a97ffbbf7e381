"""A meta-learned network as it was saved, to be adapted to a task of any number of classes."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from binomctl.adapt import adapt, support_curvature, support_of
from binomctl.contracts import Starts
from binomctl.curvature.outputs import rows
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError, DataError, NonFiniteError
from binomctl.flat import initial_parameters
from binomctl.heads import with_head
from binomctl.learner.adapted import Adapted, module_at
from binomctl.machine.devices import choose_device
from binomctl.models import build_model
from binomctl.problem.build import load_constants, plugins_of
from binomctl.problem.datasets import build_dataset
from binomctl.problem.engines import engine_of, evaluation_engine
from binomctl.problem.record import Problem
from binomctl.problem.tasks import Tasks
from binomctl.runs import Checkpoint, RunDirectory
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.trust import require_trust
from binomctl.training.head import restored
from binomctl.training.score import chosen
from binomctl.training.state import constants
from binomctl.words import number_of

ANEW = 4
"""So many times the steps where all rows of the head start alike and must first part: letters of an
unseen script, 7 classes with a 5-way network of 5 steps, benchmarks/georgian.py."""


def load(
    run: str | Path,
    *,
    checkpoint: str | None = None,
    device: str | None = None,
    trust: bool = False,
) -> Learner:
    """The network of a training run.

    Args:
        checkpoint: best or last; None for what the run's protocol says.
        device: auto, cpu, cuda or cuda:N; None for the run's own.
        trust: whether to import a network that a folder from elsewhere names.

    Raises:
        CheckpointError: no run, or a damaged one. ConfigError: no such device.
    """
    directory = RunDirectory.open(Path(run))
    config = directory.config()
    require_trust(directory.path, config, trust=trust)
    trained, _, _ = chosen(directory, config, checkpoint)
    if device is not None:
        config = config.model_copy(update={"device": device})
    kept = directory.facts.get("task")
    if kept is not None:
        return Learner(config, trained, tuple(kept["in_shape"]), kept["out_dim"], kept["kind"])
    data = build_dataset(config)  # what runs of before 0.2 do not say, only their data know
    return Learner(config, trained, tuple(data.in_shape), data.out_dim, data.kind)


@dataclass(frozen=True)
class Learner:
    """A meta-learned network as it was saved.

    in_shape: of one example. out_dim: classes it was trained for, or targets. kind:
    "classification" or "regression".
    """

    config: Config
    checkpoint: Checkpoint
    in_shape: tuple[int, ...]
    out_dim: int
    kind: str

    def adapt(
        self, x: Tensor, y: Tensor | Sequence[Hashable], *, steps: int | None = None
    ) -> Adapted:
        """Adapt to a task, as at test: first order, all examples in every step.

        For another number of classes than it was trained for, every row of the head starts at the
        mean of the trained rows, as all classes are alike before adaptation (Ye and Chao 2022);
        a rule that makes the head of the support set, proto-maml, needs none of it.

        Args:
            x: [N, *in_shape], images in [0, 1] or uint8.
            y: a label an example, of any kind, or indices [N]; for regression targets [N, out_dim].
            steps: adaptation steps; None for the run's own at test, `ANEW` times as many where the
                head starts anew.

        Raises:
            DataError: shapes that do not fit, fewer than two classes. ConfigError: the rule has
                parameters of its own for each class.
        """
        if tuple(x.shape[1:]) != self.in_shape or not len(x):
            raise DataError(
                f"x is {list(x.shape)}, and the network takes examples of {list(self.in_shape)}"
            )
        if steps is not None and steps < 1:
            raise ConfigError(f"steps = {steps} must be at least 1", "Leave it out for the run's.")
        classes, targets = self._targets(y, len(x))
        task = EpisodeBatch(x[None], targets[None], x[None], targets[None])
        problem, batch = self._problem(len(classes) or self.out_dim, task)
        theta, m, statistics = restored(problem, self.checkpoint, self.out_dim)
        engine = evaluation_engine(problem, statistics)
        K = steps or self.default_steps(len(classes))
        how, support = problem.adaptation(batch, m, K), support_of(engine, batch)
        path = adapt(support_curvature(engine, batch), theta, how, 1, support=support)
        phi = path.phi[0, -1]
        if not bool(torch.isfinite(phi).all()):
            raise NonFiniteError("adaptation to this task diverges", "Take fewer steps.")
        module, averages = module_at(problem, phi, statistics), statistics is not None
        out_dim = problem.dataset.out_dim
        return Adapted(module, self.config, self.in_shape, tuple(classes), out_dim, K, averages)

    @property
    def _classifies(self) -> bool:
        return self.kind == "classification"

    def default_steps(self, classes: int) -> int:
        """Adaptation steps where nobody says how many."""
        own = self.config.evaluation.steps or self.config.adaptation.K
        return own * ANEW if self._head_anew(classes) else own

    def _head_anew(self, classes: int) -> bool:
        """Whether the rows of the head start alike, for want of trained ones."""
        if not self._classifies or classes == self.out_dim:
            return False
        return not issubclass(registry.load("rule", self.config.rule.name), Starts)

    def head_note(self, classes: int) -> str:
        """How the head comes by another number of classes, in words; empty for its own."""
        if not self._classifies or classes == self.out_dim:
            return ""
        if not self._head_anew(classes):
            return f"{classes} classes: {self.config.rule.name} makes the head of the support set"
        return (
            f"{classes} classes, and it was trained for {self.out_dim}: every row of the head"
            " starts at the mean of the trained ones"
        )

    def _targets(self, y: Tensor | Sequence[Hashable], n: int) -> tuple[list[Hashable], Tensor]:
        """The classes in their order, and indices [N]; no classes and the targets in regression."""
        if isinstance(y, Tensor) and (y.dim() == 0 or (y.dim() > 1 and self._classifies)):
            raise DataError(
                f"y is {list(y.shape)}, expected a label for each example, [{n}]",
                "Squeeze it: y.squeeze(-1).",
            )
        if len(y) != n:
            raise DataError(f"{number_of(n, 'example')} and {number_of(len(y), 'label')}")
        if not self._classifies:
            targets = torch.as_tensor(y)
            targets = targets[:, None] if targets.dim() == 1 else targets
            if targets.shape[1:] != (self.out_dim,):
                raise DataError(f"y is {list(targets.shape)}, expected [{n}, {self.out_dim}]")
            return [], targets.float()
        labels: list[Any] = y.tolist() if isinstance(y, Tensor) else list(y)
        classes = sorted(set(labels), key=lambda one: (str(type(one)), one))
        if len(classes) < 2:
            raise DataError(
                f"one class, {classes[0]!r}: there is nothing to tell apart", "Give two at least."
            )
        return classes, torch.tensor([classes.index(label) for label in labels])

    def _problem(self, out_dim: int, task: EpisodeBatch) -> tuple[Problem, EpisodeBatch]:
        """A problem of this task alone, and the task placed as it takes it."""
        config, n = self.config, task.y_trn.shape[1]
        loss = self._loss()
        shots = n / out_dim if self._classifies else n
        given: Any = SimpleNamespace(out_dim=out_dim, shots=shots, loss=loss)
        device, dtype = choose_device(config.device), getattr(torch, config.dtype)
        model = build_model(
            config.model.name, config.model.options, self.in_shape, out_dim, config.seed
        ).to(device, dtype)
        load_constants(model, constants(self.checkpoint))
        theta = initial_parameters(model)
        batch = Tasks(given, config.seed, config.pixels, theta).place(task)
        engine = engine_of(config, model, loss, batch.x_trn[0], batch.y_trn[0], products=False)
        estimator, rule, update = plugins_of(config)
        rule = with_head(rule, model, lambda: rows(batch.x_trn, 0))
        m = rule.initial(engine.layout).to(theta)
        problem = Problem(config, given, estimator, rule, model, engine, theta, m, update=update)
        return problem, batch

    def _loss(self) -> Any:
        """The data set's loss, without its data where it needs none."""
        cls: Any = registry.load("dataset", self.config.dataset.name)
        found: Any = inspect.getattr_static(cls, "loss", None)
        if isinstance(found, staticmethod):
            return cls.loss
        return build_dataset(self.config).loss
