"""What an estimator offers: one required pair of methods, and abilities beside it.

Whoever has the method of an ability can do it; the core asks for the method, never for a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from binomctl.contracts.adapted import Adapted, Expansion
from binomctl.flat import Layout


class Estimator(Protocol):
    """A meta-gradient estimator: a frozen dataclass whose fields are its options.

    Pure linear algebra over `Adapted`; it never sees a model, a loss or an optimiser.
    """

    def steps(self, K: int) -> Sequence[int]:
        """The k whose H_k the estimator will ask for; the rest is never linearised.

        Raises:
            ConfigError: an option does not fit K (L > K, say).
        """
        ...

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """The estimate of the outer loss's gradient with respect to s_0 [B, D], or to its first
        part phi^0 alone [B, d]; one row per task."""
        ...


@runtime_checkable
class LearnsRule(Protocol):
    """An estimator that also serves rules with meta-parameters (Meta-SGD, Meta-Curvature)."""

    def adjoints(self, adapted: Adapted) -> Tensor:
        """w_0 .. w_K [B, K+1, D]: the estimates of d l_val / d s_k.

        w_0 is the meta-gradient; w_{k+1} weighs what the rule did at step k:
        d l_val / d m = sum over k of (dU_k / dm)^T w_{k+1}.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """An estimator that learns as it goes: its state is carried from meta-step to meta-step and
    kept in checkpoints."""

    def init_state(self, layout: Layout) -> Mapping[str, Tensor]:
        """The state before the first meta-step, by name."""
        ...

    def advance(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What `meta_gradient` gives, from a state, and the next state."""
        ...


@runtime_checkable
class RemembersAdjoints(Remembers, Protocol):
    """An estimator that learns as it goes, and serves rules with meta-parameters."""

    def advance_adjoints(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What `adjoints` gives, from a state, and the next state."""
        ...


@runtime_checkable
class EstimatesError(Protocol):
    """An estimator that can say how far from exact it is, without the exact meta-gradient."""

    def error_estimate(self, adapted: Adapted) -> Tensor:
        """An estimate of the relative error of every task, [B]; it costs products of its own."""
        ...


@runtime_checkable
class Proximal(Protocol):
    """An estimator whose inner loop stays near theta by (lambda / 2) |phi - theta|^2."""

    @property
    def proximal(self) -> float:
        """lambda; 0 for none."""
        ...


@runtime_checkable
class PlainOnly(Protocol):
    """An estimator that is derived for u = gamma and for no other rule."""

    plain_only: ClassVar[str]
    """The reason, a sentence shown to whoever asks for another rule."""


@runtime_checkable
class LinearOnly(Protocol):
    """An estimator that is derived for steps phi - alpha M gamma with one M, and no others."""

    linear_only: ClassVar[str]
    """The reason, a sentence shown to whoever asks for another inner step."""


@runtime_checkable
class FixedOnly(Protocol):
    """An estimator for parameters that are meta-learned and that no inner step moves."""

    fixed_only: ClassVar[str]
    """The reason, a sentence shown to whoever has none of them."""


@runtime_checkable
class Stationary(Protocol):
    """An estimator that holds where the inner loop has come to rest, whatever path led there."""

    stationary: ClassVar[str]
    """The reason, a sentence shown to whoever asks for an inner optimiser that rests elsewhere."""


@runtime_checkable
class Diagnosing(Protocol):
    """An estimator that can say how good its estimate is; asked at logged steps only."""

    def diagnose(self, adapted: Adapted, estimate: Tensor) -> Mapping[str, Tensor]:
        """Named figures, one per task [B], for an estimate [B, d]."""
        ...


@runtime_checkable
class ExactAtOrder(Protocol):
    """An estimator family that contains the exact meta-gradient."""

    @classmethod
    def exact(cls, K: int) -> Estimator:
        """The member that is exact after K inner steps."""
        ...


@runtime_checkable
class Expands(Protocol):
    """An estimator that is a truncated expansion, so that one pass serves many of them."""

    def expansion(self, K: int, alpha: float) -> Expansion:
        """Which one, for K inner steps whose adjoints have coefficient alpha."""
        ...


@runtime_checkable
class PseudoGradient(Protocol):
    """An estimator whose result is a direction to go, not an estimate of the meta-gradient."""

    no_estimate: ClassVar[str]
    """The reason, a sentence shown to whoever wants to measure its error."""
