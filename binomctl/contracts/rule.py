"""What an adaptation rule offers: one required pair of methods, and abilities beside it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from binomctl.contracts.engine import Forward
from binomctl.flat import Layout


class Rule(Protocol):
    """An adaptation rule: which direction u [d] a gradient gamma [d] becomes.

    One of two abilities says how: `Linear`, u = M gamma with one map for every step, or `Directs`.
    """

    def initial(self, layout: Layout) -> Tensor:
        """The rule's own meta-parameters m [n] before meta-training; n may be 0."""
        ...

    @property
    def plain(self) -> bool:
        """Whether u = gamma, as in MAML."""
        ...


@runtime_checkable
class Linear(Protocol):
    """A rule that is one linear map M for every step."""

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """M v for v [..., d]."""
        ...

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """M^T v for v [..., d]."""
        ...


@runtime_checkable
class Directs(Protocol):
    """A rule whose direction depends on the step, on phi, or on gamma in any smooth way."""

    def direction(self, k: int, m: Tensor, phi: Tensor, gamma: Tensor, layout: Layout) -> Tensor:
        """u [d] of one task from phi^k [d] and gamma_k [d]: pure, torch operations only."""
        ...


@runtime_checkable
class Starts(Protocol):
    """A rule whose tasks start elsewhere than at theta."""

    def start(
        self, m: Tensor, theta: Tensor, x: Any, y: Any, layout: Layout, network: Forward
    ) -> Tensor:
        """phi^0 [d] of one task from theta [d] and its support set: pure, torch operations only.
        It may call the network, at theta alone."""
        ...


@runtime_checkable
class Regularises(Starts, Protocol):
    """A rule whose tasks add a term of their own to the outer loss."""

    def penalty(
        self,
        m: Tensor,
        theta: Tensor,
        phi: Tensor,
        x: Any,
        y: Any,
        layout: Layout,
        network: Forward,
    ) -> Tensor:
        """A scalar function of m and theta; phi [d] is phi^K, a constant. As `start` otherwise."""
        ...


@runtime_checkable
class Draws(Protocol):
    """A rule that is another for every task by something random, which is the task's own."""

    def noise(self, layout: Layout, random: torch.Generator, training: bool) -> Tensor:
        """What one task draws, [r]; the generator is seeded by the task alone. training: whether it
        is one to meta-train on."""
        ...

    def with_noise(self, noise: Tensor) -> Rule:
        """The rule of a task that drew this [r]: with its `direction`, unless this one is `Linear`,
        and with its `start` and `penalty`, if this one has them."""
        ...


@runtime_checkable
class WantsHead(Protocol):
    """A rule that treats the network's head apart; whoever builds it for a network names it."""

    head: Any
    """None until it is known; what a user gave stays."""

    def with_head(self, names: tuple[str, ...]) -> Rule:
        """The same rule for a head with these parameters."""
        ...
