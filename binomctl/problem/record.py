"""The record of everything a run needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from binomctl.contracts import Adaptation, Dataset, Engine, Estimator, Proximal, Rule, Update
from binomctl.contracts.abilities import has
from binomctl.episodes import EpisodeBatch, TaskNumbers
from binomctl.noise import with_noise
from binomctl.problem.batch_norm import Statistics
from binomctl.problem.schedules import step_losses, step_sizes
from binomctl.problem.tasks import Tasks
from binomctl.settings.config import Config, Reduction


@dataclass(frozen=True)
class Problem:
    """Everything a run needs, on its device.

    `theta` [d] are the initial meta-parameters, `m` [n] those of the rule; `frozen` the constants
    of batch norm under adaptation.statistics = frozen.
    """

    config: Config
    dataset: Dataset
    estimator: Estimator
    rule: Rule
    model: nn.Module
    engine: Engine
    theta: Tensor
    m: Tensor
    frozen: Statistics | None = None
    update: Update | None = None
    stages: tuple[tuple[int, Estimator], ...] = ()
    """Other estimators, each until a meta-step: training.order_annealing."""
    learned: Tensor | None = None
    """1 where the outer loop learns theta, 0 elsewhere, [d]; None: everywhere."""

    def at_step(self, step: int) -> Problem:
        """The problem with the estimator of meta-step number `step`, from 0."""
        for until, estimator in self.stages:
            if step < until:
                return replace(self, estimator=estimator, stages=())
        return self

    @property
    def device(self) -> torch.device:
        return self.theta.device

    def inner_loop(self, m: Tensor, K: int | None = None, step: int | None = None) -> Adaptation:
        """K steps of the rule, as any batch takes them but for the scale of its loss.

        Args:
            K: None takes the training configuration's.
            step: the meta-step whose outer losses count; None for l_val(phi^K) alone.
        """
        how = self.config.adaptation
        steps = K or how.K
        return Adaptation(
            steps, how.alpha, self.rule, m, self.engine.layout,
            proximal=self.estimator.proximal if has(self.estimator, Proximal) else 0.0,
            update=self.update, alphas=step_sizes(how, steps), clip_value=how.clip_value,
            clip_norm=how.clip_norm,
            weights=None if step is None else step_losses(how, steps, step),
        )  # fmt: skip

    def adaptation(
        self, batch: EpisodeBatch, m: Tensor, K: int | None = None, step: int | None = None
    ) -> Adaptation:
        """As `inner_loop`, on a batch."""
        seen = batch.mini_batches
        n = batch.y_trn.shape[1] if seen is None else seen.shape[2]
        scale = self._factor(self.config.adaptation.loss_reduction, n)
        how = replace(self.inner_loop(m, K, step), scale=scale)
        anybody = TaskNumbers(self.config.seed, "", range(len(batch)))  # a user's own tasks
        return with_noise(how, batch.numbers or anybody)

    def query_factor(self, batch: EpisodeBatch) -> float:
        """What the reduction of the query loss makes of the meta-gradient of its mean."""
        return self._factor(self.config.training.loss_reduction, batch.y_val.shape[1])

    def _factor(self, reduction: Reduction, n: int) -> float:
        if reduction == "mean":
            return 1.0
        return float(n) if reduction == "sum" else n / getattr(self.dataset, "shots", 1)

    def tasks(self, dataset: Dataset | None = None) -> Tasks:
        """Tasks of the run's data set, or of another one on the same device."""
        return Tasks(dataset or self.dataset, self.config.seed, self.config.pixels, self.theta)

    def place(self, batch: EpisodeBatch) -> EpisodeBatch:
        """As Tasks.place."""
        return self.tasks().place(batch)

    def draw_training(self, indices: range) -> EpisodeBatch:
        """Episodes to meta-train on, not placed yet."""
        how = self.config.adaptation
        return self.tasks().draw("train", indices, how.K, how.batch)

    def training_batch(self, indices: range) -> EpisodeBatch:
        """Episodes to meta-train on."""
        return self.place(self.draw_training(indices))
