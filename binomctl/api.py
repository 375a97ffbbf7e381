"""The library's door: meta-gradients of any nn.Module under any loss."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from binomctl.adapt import adapt_and_validate, check_pair, estimate
from binomctl.contracts import Adaptation, Engine, Estimator, Proximal, Rule
from binomctl.curvature.autograd import Batching, Memory, rows
from binomctl.curvature.choose import Kind
from binomctl.curvature.criterion import Loss, check_outside
from binomctl.curvature.prepared import Prepared, plain
from binomctl.episodes import EpisodeBatch
from binomctl.errors import ConfigError, NonFiniteError, unknown
from binomctl.settings import registry

Part = Any
"""Tensors [B, N, ...]: one, a tuple or a dict of them; or a list of B tasks' of unequal N."""
Schedule = Literal["auto", "rows", "columns"]


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
        estimator: a registered estimator; its options follow by keyword (L=2, say).
        K: inner gradient steps, at least 1.
        alpha: inner step size, positive.
        rule: a registered adaptation rule, or one constructed with options of its own.
        rule_parameters: the rule's meta-parameters m [n] (Meta-SGD, Meta-Curvature); None: those
            it starts with.
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
        estimator: str = "binom",
        K: int = 5,
        alpha: float = 0.01,
        rule: str | Rule = "gd",
        rule_parameters: Tensor | None = None,
        per_task: bool = False,
        memory: Memory = "store",
        engine: Kind = "auto",
        batching: Batching = "auto",
        order: Schedule = "auto",
        allow_unused: bool = False,
        with_loss: bool = False,
        **estimator_options: Any,
    ) -> None:
        if not isinstance(K, int) or isinstance(K, bool) or K < 1:
            raise ConfigError(f"K = {K!r} must be a whole number, at least 1")
        if not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
            raise ConfigError(f"alpha = {alpha!r} must be positive and finite")
        for name, value, known in (
            ("memory", memory, Memory),
            ("engine", engine, Kind),
            ("batching", batching, Batching),
            ("order", order, Schedule),
        ):
            if value not in get_args(known):
                raise ConfigError(unknown(name, str(value), get_args(known)))
        self._estimator: Estimator = registry.create("estimator", estimator, estimator_options)
        self._rule: Rule = registry.create("rule", rule, {}) if isinstance(rule, str) else rule
        self._names = (estimator, rule if isinstance(rule, str) else type(rule).__name__)
        self._steps = self._estimator.steps(K)
        check_outside(loss, model)
        self.model = model
        self._K, self._alpha, self._m = K, alpha, rule_parameters
        self._per_task, self._with_loss = per_task, with_loss
        self._prepared = _prepared(
            model, loss, engine, memory, batching, order, allow_unused, len(self._steps) > 0
        )

    @property
    def rung(self) -> str:
        """What computed the last call: "algebra", "vmap", "loop" or "alone"."""
        return self._prepared.rung

    def __call__(self, episodes: Sequence[Part]) -> dict[str, Tensor] | MetaGradients:
        """The meta-gradient of mean l_val(phi^K(theta)) at the model's present parameters.

        Args:
            episodes: (x_trn [B, N, ...], y_trn, x_val [B, M, ...], y_val). Each part is a tensor,
                a tuple of tensors that the module takes by position, a dict of those it takes by
                keyword, or a list of the B tasks' parts where their sizes differ.

        Raises:
            ConfigError: episodes that do not fit, or a network that no engine can compute.
            NonFiniteError: the result is not finite.
        """
        parts = [self._part(group) for group in _groups(episodes)]
        gradients = torch.cat([part[0] for part in parts])
        m_rows = torch.cat([part[1] for part in parts])
        if not (torch.isfinite(gradients).all() and torch.isfinite(m_rows).all()):
            raise NonFiniteError("the meta-gradient is not finite", "Lower alpha or K.")
        layout = parts[0][4]
        result: dict[str, Tensor] = layout.unflatten(
            gradients if self._per_task else gradients.mean(0)
        )
        if m_rows.shape[1]:
            result["rule.m"] = m_rows if self._per_task else m_rows.mean(0)
        if not self._with_loss:
            return result
        outputs = parts[0][3] if len(parts) == 1 else [o for part in parts for o in part[3]]
        return MetaGradients(result, torch.cat([part[2] for part in parts]), outputs)

    def _part(self, batch: EpisodeBatch) -> tuple[Tensor, Tensor, Tensor, Any, Any]:
        def compute(engine: Engine, theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Any, Any]:
            m = self._rule.initial(engine.layout).to(theta)
            if self._m is not None:
                if self._m.shape != m.shape:
                    raise ConfigError(
                        f"rule_parameters has shape {list(self._m.shape)}, the rule has {len(m)}"
                        " meta-parameters for this model"
                    )
                m = self._m.detach().to(theta)
            proximal = self._estimator.proximal if isinstance(self._estimator, Proximal) else 0.0
            how = Adaptation(self._K, self._alpha, self._rule, m, engine.layout, proximal=proximal)
            check_pair(self._estimator, self._names[0], how, self._names[1])
            adapted, loss, outputs = adapt_and_validate(engine, theta, batch, how, self._steps)
            gradients, m_rows = estimate(self._estimator, adapted)
            return gradients, m_rows, loss, outputs, engine.layout

        found: tuple[Tensor, Tensor, Tensor, Any, Any] = self._prepared.compute(
            self.model, batch, compute
        )
        return found


def meta_gradient(
    model: nn.Module,
    loss: Loss,
    episodes: Sequence[Part],
    **options: Any,
) -> Any:
    """The meta-gradient of mean l_val(phi^K(theta)) at the model's current parameters theta.

    Args:
        model, loss, options: as MetaGradient has them (estimator="binom", K=5, alpha=0.01,
            rule="gd", per_task=False, engine="auto", batching="auto", ...).
        episodes: (x_trn [B, N, ...], y_trn [B, N, ...], x_val [B, M, ...], y_val [B, M, ...]).

    Returns:
        Gradients by name, as `model.named_parameters()` names them; "rule.m" [n] besides, when the
        rule has meta-parameters. MetaGradients with with_loss=True.

    Raises:
        ConfigError, NonFiniteError: as MetaGradient.
    """
    return MetaGradient(model, loss, **options)(episodes)


_KEPT: weakref.WeakKeyDictionary[nn.Module, dict[Any, Prepared]] = weakref.WeakKeyDictionary()
_FEW = 4  # (loss, options) per model; a loss made anew at every call must not grow the store


def _prepared(
    model: nn.Module,
    loss: Loss,
    engine: Kind,
    memory: Memory,
    batching: Batching,
    order: Schedule,
    allow_unused: bool,
    products: bool,
) -> Prepared:
    if not isinstance(model, nn.Module):
        raise ConfigError(f"the model is {type(model).__name__}, not a torch.nn.Module")
    kept = _KEPT.setdefault(model, {})
    key = (id(loss), engine, memory, batching, order, allow_unused, products)
    found = kept.pop(key, None)
    if found is None or found.loss is not loss:
        found = Prepared(
            loss, kind=engine, memory=memory, batching=batching, order=order,
            allow_unused=allow_unused, products=products,
        )  # fmt: skip
    kept[key] = found
    while len(kept) > _FEW:
        kept.pop(next(iter(kept)))
    return found


def _groups(episodes: Sequence[Part]) -> list[EpisodeBatch]:
    """The episodes as batches of tasks of equal shapes: one, unless tasks come as lists."""
    if not isinstance(episodes, tuple | list) or len(episodes) != 4:
        raise ConfigError("episodes must be four tensors: (x_trn, y_trn, x_val, y_val)")
    names = ("x_trn", "y_trn", "x_val", "y_val")
    if any(isinstance(part, list) for part in episodes):
        lengths = {len(part) if isinstance(part, list) else _tasks(part) for part in episodes}
        if len(lengths) != 1:
            raise ConfigError(f"the parts of episodes differ in their number of tasks: {lengths}")
        tasks = [
            [part[b] if isinstance(part, list) else rows(part, b) for part in episodes]
            for b in range(lengths.pop())
        ]
        batches = [[tree_map(lambda t: t.unsqueeze(0), part) for part in task] for task in tasks]
    else:
        batches = [list(episodes)]
    out = []
    for parts in batches:
        for name, part in zip(names, parts, strict=True):
            leaves = tree_leaves(part)
            if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
                raise ConfigError(
                    f"episodes must be four tensors (or tuples, dicts of them): {name} is"
                    f" {type(part).__name__}"
                )
            if any(leaf.dim() == 0 for leaf in leaves):
                raise ConfigError(f"{name} has no leading axis of tasks")
        sizes = {len(leaf) for part in parts for leaf in tree_leaves(part)}
        if sizes == {0}:
            raise ConfigError("episodes hold no task: their leading axis is 0")
        if len(sizes) != 1:
            raise ConfigError(
                f"the four parts of episodes differ in their number of tasks: {sizes}"
            )
        for name, part in zip(names, parts, strict=True):
            if any(leaf.dim() > 1 and leaf.shape[1] == 0 for leaf in tree_leaves(part)):
                raise ConfigError(f"{name} is empty: its tasks have no example")
        out.append(EpisodeBatch(*map(plain, parts)))
    if not out:
        raise ConfigError("episodes hold no task")
    return out


def _tasks(part: Part) -> int:
    leaves = tree_leaves(part)
    return len(leaves[0]) if leaves else 0
