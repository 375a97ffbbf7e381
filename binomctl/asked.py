"""What a caller of the library asks of the inner loop and the estimator, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from torch import Tensor, nn

from binomctl.contracts import (
    Adaptation,
    Estimator,
    Proximal,
    Rule,
    Update,
)
from binomctl.errors import ConfigError
from binomctl.flat import Layout
from binomctl.heads import with_head
from binomctl.pairs import check_pair, exact_over
from binomctl.ranges import check_count, check_positive
from binomctl.settings import registry


@dataclass(kw_only=True)
class Asked:
    """An estimator and an inner loop, by names or constructed.

    Args:
        estimator: a registered estimator or "package.module:Class", as rule and optimizer, with
            its estimator_options; or one constructed with options of its own.
        K: inner gradient steps, at least 1.
        alpha: inner step size, positive; alphas: the K steps' own.
        rule: a registered adaptation rule, or one constructed with options of its own.
        rule_parameters: the rule's meta-parameters m [n]; None: those it starts with.
        optimizer: a registered inner optimiser ("sgd", "adam", ...) with its optimizer_options, or
            one constructed: every task starts with empty slots.
        clip_value, clip_norm: bounds of the inner gradient's entries and of its norm.
        weights: c_0 .. c_K of the outer loss sum c_k l_val(phi^k); None: l_val(phi^K).

    Raises:
        ConfigError: an unknown name or option, L > K, K < 1, alpha <= 0, a bound <= 0.
    """

    estimator: str | Estimator
    K: int
    alpha: float
    alphas: Sequence[float] | None = None
    rule: str | Rule = "gd"
    rule_parameters: Tensor | None = None
    optimizer: str | Update = "sgd"
    optimizer_options: Mapping[str, Any] | None = None
    clip_value: float | None = None
    clip_norm: float | None = None
    weights: Sequence[float] | None = None
    estimator_options: Mapping[str, Any] = field(default_factory=dict)

    made: Estimator = field(init=False)
    made_rule: Rule = field(init=False)
    update: Update | None = field(init=False)
    steps: Sequence[int] = field(init=False)
    """The k whose Hessians the estimator asks for."""
    exact_over: int | None = field(init=False)
    """The last steps over which the estimator is exact, and before which it is first order."""
    _kept: Adaptation | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        K, alpha, alphas = self.K, self.alpha, self.alphas
        check_count("K", K)
        check_positive("alpha", alpha)
        if alphas is not None and (len(alphas) != K or not all(0 < a < inf for a in alphas)):
            raise ConfigError(f"alphas must be K = {K} positive step sizes, not {list(alphas)}")
        for name in ("clip_value", "clip_norm"):
            bound = getattr(self, name)
            if bound is not None:
                check_positive(name, bound)
        self.made = _made("estimator", self.estimator, self.estimator_options)
        self.made_rule = _made("rule", self.rule, {})
        self.update = _update(self.optimizer, self.optimizer_options or {})
        self.steps = self.made.steps(K)
        self.exact_over = exact_over(self.made, K, alpha)

    def of(self, model: nn.Module, inputs: Callable[[], Any]) -> None:
        """Tell a rule that wants one what the head of its network is; once."""
        self.made_rule = with_head(self.made_rule, model, inputs)

    def adaptation(self, layout: Layout, like: Tensor) -> Adaptation:
        """The inner loop on parameters of a layout, its m of like's type and device.

        Raises:
            ConfigError: rule_parameters of another length, or an estimator that is not derived for
                this inner loop.
        """
        kept = self._kept  # a training loop asks at every step
        fits = kept is not None and kept.layout == layout
        if (
            kept is not None
            and fits
            and self.rule_parameters is None
            and kept.m.dtype == like.dtype
            and kept.m.device == like.device
        ):
            return kept
        m = self.made_rule.initial(layout).to(like)
        if self.rule_parameters is not None:
            if self.rule_parameters.shape != m.shape:
                raise ConfigError(
                    f"rule_parameters has shape {list(self.rule_parameters.shape)}, the rule has"
                    f" {len(m)} meta-parameters for this model"
                )
            m = self.rule_parameters.detach().to(like)
        made = self.made
        how = Adaptation(
            self.K, self.alpha, self.made_rule, m, layout,
            proximal=made.proximal if isinstance(made, Proximal) else 0.0,
            update=self.update,
            alphas=None if self.alphas is None else tuple(self.alphas),
            clip_value=self.clip_value,
            clip_norm=self.clip_norm,
            weights=None if self.weights is None else tuple(map(float, self.weights)),
        )  # fmt: skip
        if not fits:
            check_pair(made, _name(self.estimator), how, _name(self.rule))
        self._kept = how
        return how


def _made(kind: Literal["estimator", "rule"], one: Any, options: Mapping[str, Any]) -> Any:
    """A plugin by its name, or one that was constructed already."""
    if isinstance(one, str):
        registry.ask(kind, one)
        return registry.create(kind, one, dict(options))
    if options:
        raise ConfigError(
            f"options {sorted(options)} beside an {kind} that is constructed already",
            f"Give them to {type(one).__name__}.",
        )
    if isinstance(one, type):
        raise ConfigError(f"{kind} = {one.__name__} is a class", f"Construct it: {one.__name__}()")
    return one


def _name(one: Any) -> str:
    return one if isinstance(one, str) else type(one).__name__


def _update(one: str | Update, options: Mapping[str, Any]) -> Update | None:
    if isinstance(one, str):
        registry.ask("update", one)
        made: Update | None = registry.create_update(one, dict(options))
        return made
    if options:
        raise ConfigError(
            f"optimizer_options {sorted(options)} beside an optimiser that is constructed already",
            f"Give them to {type(one).__name__}.",
        )
    return None if one.plain else one
