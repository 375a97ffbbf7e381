"""The library's door: meta-gradients of any nn.Module under any loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from binomctl.adapt import adapt_and_validate, estimate
from binomctl.asked import Asked
from binomctl.contracts import Adaptation, Engine, Estimator, Rule, Update
from binomctl.curvature.autograd import AutogradEngine, Batching
from binomctl.curvature.autograd_curvature import Memory
from binomctl.curvature.choose import Kind
from binomctl.curvature.criterion import Loss, check_outside
from binomctl.curvature.handed_in import Part, batches, numbered
from binomctl.curvature.outputs import rows
from binomctl.curvature.prepared import Schedule, prepared
from binomctl.curvature.traits import threads_for
from binomctl.curvature.unrolled import unrolled, unrolls
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError, NonFiniteError, unknown
from binomctl.noise import with_noise


@dataclass(frozen=True)
class MetaGradients:
    """What a training loop needs of one batch.

    gradients: by name, as `meta_gradient` returns them. loss [B]: l_val(phi^K) of each task.
    outputs: of the query sets, [B, M, ...], or a list of the B tasks' where they are no tensor.
    """

    gradients: dict[str, Tensor]
    loss: Tensor
    outputs: Any


class MetaGradient:
    """The meta-gradient of a model under a loss, as an object to call in a loop.

    What is learned about the model (which engine can compute it, and that it says what plain
    autograd says) is kept; parameters and buffers are read anew at every call.

    Args:
        model: any module without running statistics or active dropout. It is only read: calls
            go to a copy, and what a forward assigns to buffers or attributes happens there and
            is dropped. Parameters with requires_grad = False are constants.
        loss: maps one task's outputs, whatever the module returns, and targets [N, ...] to a
            scalar. With a third argument it gets the task's parameters by name.
        estimator, K, alpha, alphas, rule, rule_parameters, optimizer, optimizer_options,
            clip_value, clip_norm, weights: as `binomctl.asked.Asked` has them; the estimator's
            options follow by keyword (L=2, say).
        outer_loss: of the query sets, where it is another than the inner loss.
        per_task: return one gradient per task, with a leading axis B, instead of their mean.
        memory: "store" the linearisations of the inner loop, or "recompute" them.
        engine: "analytic", the layer algebra; "autograd", any module; "auto", the first where it
            knows the network and agrees with autograd.
        batching: how autograd runs the tasks: "vmap", "loop" (threads), "alone"; "auto" takes the
            first that agrees with the last.
        order: in which order expansions are evaluated, "rows" or "columns".
        allow_unused: parameters that a loss does not depend on get zeros instead of an error.
        with_loss: return MetaGradients, with losses and outputs, instead of the gradients alone.

    Raises:
        ConfigError: an unknown name or option, L > K, K < 1, alpha <= 0, an unfit model or loss,
            an estimator that is not derived for the rule.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        estimator: str | Estimator = "binom",
        K: int = 5,
        alpha: float = 0.01,
        alphas: Sequence[float] | None = None,
        rule: str | Rule = "gd",
        rule_parameters: Tensor | None = None,
        optimizer: str | Update = "sgd",
        optimizer_options: Mapping[str, Any] | None = None,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        weights: Sequence[float] | None = None,
        outer_loss: Loss | None = None,
        per_task: bool = False,
        memory: Memory = "store",
        engine: Kind = "auto",
        batching: Batching = "auto",
        order: Schedule = "auto",
        allow_unused: bool = False,
        with_loss: bool = False,
        **estimator_options: Any,
    ) -> None:
        for name, value, known in (
            ("memory", memory, Memory),
            ("engine", engine, Kind),
            ("batching", batching, Batching),
            ("order", order, Schedule),
        ):
            if value not in get_args(known):
                raise ConfigError(unknown(name, str(value), get_args(known)))
        self._asked = Asked(
            estimator=estimator, K=K, alpha=alpha, alphas=alphas, rule=rule,
            rule_parameters=rule_parameters, optimizer=optimizer,
            optimizer_options=optimizer_options, clip_value=clip_value, clip_norm=clip_norm,
            weights=weights, estimator_options=estimator_options,
        )  # fmt: skip
        if not isinstance(model, nn.Module):
            raise ConfigError(f"the model is {type(model).__name__}, not a torch.nn.Module")
        for one in filter(None, (loss, outer_loss)):
            check_outside(one, model)
        self.model = model
        self._per_task, self._with_loss = per_task, with_loss
        self._free = (engine, batching, order) == ("auto", "auto", "auto")
        how = (engine, memory, batching, order, allow_unused)
        self._prepared = prepared(model, loss, *how, len(self._asked.steps) > 0)
        self._outer = None if outer_loss is None else prepared(model, outer_loss, *how, False)
        self.state: Mapping[str, Tensor] | None = None
        """Of an estimator that remembers; None before its first call."""

    @property
    def rung(self) -> str:
        """What computed the last call: "algebra", "vmap", "loop" or "alone"."""
        return self._prepared.rung

    def __call__(
        self, episodes: Sequence[Part], tasks: Sequence[int] | None = None
    ) -> dict[str, Tensor] | MetaGradients:
        """The meta-gradient of mean l_val(phi^K(theta)) at the model's present parameters.

        Args:
            episodes: (x_trn [B, N, ...], y_trn, x_val [B, M, ...], y_val). Each part is a tensor,
                a tuple of tensors that the module takes by position, a dict of those it takes by
                keyword, or a list of the B tasks' parts where their sizes differ.
            tasks: a number for each task, the noise of a rule that draws: same number, same noise.

        Raises:
            ConfigError: episodes that do not fit, or a network that no engine can compute.
            NonFiniteError: the result is not finite.
        """
        groups = list(numbered(batches(episodes), tasks))
        with self._prepared.threads(max(map(len, groups))):
            parts = [self._part(group) for group in groups]
            gradients, m_rows = (self._result([part[i] for part in parts]) for i in (0, 1))
        layout = parts[0][4]
        result: dict[str, Tensor] = layout.unflatten(gradients)
        if m_rows.shape[-1]:
            result["rule.m"] = m_rows
        if not self._with_loss:
            return result
        outputs = parts[0][3] if len(parts) == 1 else [o for part in parts for o in part[3]]
        return MetaGradients(result, torch.cat([part[2] for part in parts]), outputs)

    def _result(self, parts: list[Tensor]) -> Tensor:
        """Estimates [B, n] of parts of the tasks, as they are returned: finite, or refused."""
        tasks = parts[0] if len(parts) == 1 else torch.cat(parts)
        found = tasks if self._per_task else tasks.mean(0)
        # In one pass and without a copy: the extremes of a tensor with a NaN are NaN.
        if found.numel() and not torch.stack(found.aminmax()).isfinite().all():
            raise NonFiniteError("the meta-gradient is not finite", "Lower alpha or K.")
        return found

    def _part(self, batch: EpisodeBatch) -> tuple[Tensor, Tensor, Tensor, Any, Any]:
        def compute(engine: Engine, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Any, Any]:
            self._asked.of(self.model, lambda: rows(batch.x_trn, 0))
            how = with_noise(self._asked.adaptation(engine.layout, theta), batch.numbers)
            if self._outer is None:
                return self._computed(engine, theta, batch, how, None)
            return self._outer.compute(  # type: ignore[no-any-return]
                self.model, batch, lambda outer, _: self._computed(engine, theta, batch, how, outer)
            )

        found: tuple[Tensor, Tensor, Tensor, Any, Any] = self._prepared.compute(
            self.model, batch, compute
        )
        return found

    def _computed(
        self, engine: Engine, theta: Tensor, batch: EpisodeBatch, how: Adaptation, outer: Any
    ) -> tuple[Tensor, Tensor, Tensor, Any, Any]:
        last = self._asked.exact_over if self._free and outer is None else None
        if last is not None and unrolls(engine, how, len(batch)):
            assert isinstance(engine, AutogradEngine)
            rows, loss, outputs = unrolled(engine, theta, batch, how, last)
            return rows, how.m.new_zeros(len(batch), 0), loss, outputs, engine.layout
        with threads_for(engine, len(batch)):
            keep = self._asked.steps
            adapted, loss, outputs = adapt_and_validate(engine, theta, batch, how, keep, outer)
            found = estimate(self._asked.made, adapted, self.state)
        self.state = found.state
        return found.theta, found.m, loss, outputs, engine.layout


def meta_gradient(
    model: nn.Module,
    loss: Loss,
    episodes: Sequence[Part],
    tasks: Sequence[int] | None = None,
    **options: Any,
) -> Any:
    """The meta-gradient of mean l_val(phi^K(theta)) at the model's current parameters theta.

    Args:
        model, loss, options: as MetaGradient has them (estimator="binom", K=5, alpha=0.01,
            rule="gd", per_task=False, engine="auto", batching="auto", ...).
        episodes: (x_trn [B, N, ...], y_trn [B, N, ...], x_val [B, M, ...], y_val [B, M, ...]).
        tasks: their numbers, for a rule that draws, as MetaGradient's call has them.

    Returns:
        Gradients by name, as `model.named_parameters()` names them; "rule.m" [n] besides, when the
        rule has meta-parameters. MetaGradients with with_loss=True.

    Raises:
        ConfigError, NonFiniteError: as MetaGradient.
    """
    return MetaGradient(model, loss, **options)(episodes, tasks)
