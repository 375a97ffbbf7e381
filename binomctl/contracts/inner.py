"""The inner loop: what an inner optimiser offers, how tasks adapt, the path they take.

One step is s_{k+1} = U_k(s_k, gamma_k; m): the gradient is clipped, the rule makes a direction u
of it, the inner optimiser makes the step. Only gamma_k sees the model; everything else is cheap.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from binomctl.contracts.abilities import has
from binomctl.contracts.engine import Forward
from binomctl.contracts.rule import Directs, Draws, Linear, Rule
from binomctl.errors import ConfigError
from binomctl.flat import Layout


class Update(Protocol):
    """An inner optimiser with S slots: a frozen dataclass whose fields are its options."""

    @property
    def slots(self) -> int:
        """S: the vectors it carries beside phi, all zero at the first step."""
        ...

    @property
    def plain(self) -> bool:
        """Whether the step is phi - alpha u, the one with a closed form."""
        ...

    @property
    def shifts(self) -> str:
        """Why it comes to rest elsewhere than where the gradient vanishes; "" where it does not."""
        ...

    def step(self, k: int, s: Tensor, u: Tensor, alpha: float) -> Tensor:
        """s' [S+1, d] of one task from s [S+1, d], s[0] = phi^k, and the direction u [d]: pure,
        torch operations only. alpha is the step size of step k."""
        ...


@dataclass(frozen=True)
class Adaptation:
    """How tasks adapt: K steps of size alpha under a rule with meta-parameters m [n].

    scale: what the reduction of the support loss makes of its mean; g and H_k are scaled by it.
    proximal: lambda of the term (lambda / 2) |phi - theta|^2 added to l_trn in the inner loop.
    update: the inner optimiser; None is the plain step phi - alpha u.
    alphas: step sizes of the K steps, where they differ from alpha.
    clip_value, clip_norm: bounds of every entry of gamma, and of its norm, before the rule.
    weights: c_0 .. c_K of the outer loss sum c_k l_val(phi^k); None: l_val(phi^K).
    noise: [B, r], what the tasks drew for a rule that draws.
    """

    K: int
    alpha: float
    rule: Rule
    m: Tensor
    layout: Layout
    _: KW_ONLY
    scale: float = 1.0
    proximal: float = 0.0
    update: Update | None = None
    alphas: tuple[float, ...] | None = None
    clip_value: float | None = None
    clip_norm: float | None = None
    weights: tuple[float, ...] | None = None
    noise: Tensor | None = None
    linear: bool = field(init=False)
    """Whether every step is phi - alpha M gamma with one M: no state, one rate, no clipping."""

    def __post_init__(self) -> None:
        changed = self.update or self.alphas or self.clip_value or self.clip_norm
        # Asked at every product, and a look at a protocol takes microseconds.
        object.__setattr__(self, "linear", not changed and has(self.rule, Linear))

    def bare(self, v: Tensor) -> bool:
        """Whether a step subtracts alpha times the gradient of the support loss itself, as under
        gradient descent: nothing is scaled, and M v is v. v: vectors [..., d]."""
        if not self.linear or self.scale != 1 or self.m.numel():
            return False
        assert has(self.rule, Linear)
        return self.rule.apply(self.m, v, self.layout) is v

    @property
    def slots(self) -> int:
        """S, of the inner optimiser."""
        return self.update.slots if self.update else 0

    def noise_of(self, B: int) -> Tensor:
        """The noise of B tasks, [B, 0] where nothing is drawn.

        Raises:
            ConfigError: the rule draws, and nobody said which tasks these are.
        """
        if self.noise is not None:
            return self.noise
        if has(self.rule, Draws):
            raise ConfigError(
                f"the rule {type(self.rule).__name__} draws something random for every task, and"
                " the tasks have no numbers",
                "Give them: tasks=range(0, 4) at the first batch of four, range(4, 8) at the next.",
            )
        return self.m.new_zeros(B, 0)

    def rule_of(self, noise: Tensor) -> Rule:
        """The rule of a task that drew `noise` [r]."""
        return self.rule.with_noise(noise) if has(self.rule, Draws) else self.rule

    def step(self, k: int, m: Tensor, s: Tensor, gamma: Tensor, noise: Tensor) -> Tensor:
        """U_k: s' [S+1, d] of one task from s [S+1, d] and gamma_k [d]; noise [r] is its own."""
        u, rule = self._clipped(gamma), self.rule
        if has(rule, Linear):
            u = rule.apply(m, u, self.layout)
        else:
            rule = self.rule_of(noise)
            assert has(rule, Directs)
            u = rule.direction(k, m, s[0], u, self.layout)
        alpha = self.alphas[k] if self.alphas else self.alpha
        if self.update is None:
            return torch.sub(s, u, alpha=alpha)  # without slots s is phi alone
        return self.update.step(k, s, u, alpha)

    def _clipped(self, gamma: Tensor) -> Tensor:
        if self.clip_value is not None:
            gamma = gamma.clamp(-self.clip_value, self.clip_value)
        if self.clip_norm is not None:
            # A gradient of zero has no direction: it stays zero, and so does its derivative.
            square = (gamma * gamma).sum()
            norm = torch.where(square > 0, square, 1.0).sqrt()
            gamma = gamma * (self.clip_norm / norm).clamp(max=1.0)
        return gamma


@dataclass(frozen=True)
class Support:
    """The support sets x [B, N, ...], y [B, N, ...] of B tasks, and the network that they meet."""

    x: Any
    y: Any
    network: Forward


@dataclass(frozen=True)
class Trajectory:
    """The path of B tasks through the inner loop.

    theta [d]; phi [B, K+1, d] from phi^0 to phi^K; loss [B, K], l_trn at phi^0..phi^{K-1};
    gradients [B, K, d], grad l_trn at the same points, kept for rules that learn and steps that
    are not linear; slots [B, K, S, d] of the inner optimiser before each step; support, what a rule
    made phi^0 of.
    """

    theta: Tensor
    phi: Tensor
    loss: Tensor
    adaptation: Adaptation
    gradients: Tensor | None = None
    slots: Tensor | None = None
    support: Support | None = None

    def state(self, k: int) -> Tensor:
        """s_k [B, S+1, d]."""
        phi = self.phi[:, k].unsqueeze(1)
        return phi if self.slots is None else torch.cat([phi, self.slots[:, k]], 1)
