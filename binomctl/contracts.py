"""The small protocols that hold the house together, and the records passed between its parts.

B tasks in a meta-batch, K inner steps, d adapted parameters; all vectors are flat tensors.
phi^0 = theta; phi^{k+1} = phi^k - alpha M grad l_trn(phi^k), equation (2b) of BinomGBML with a
linear map M (the identity in MAML); H_k is the Hessian of l_trn at phi^k; g = grad l_val(phi^K).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from binomctl.episodes import Episode
from binomctl.flat import Layout
from binomctl.images.recipe import Recipe


class Dataset(Protocol):
    """A source of episodes; a frozen dataclass whose fields are its options.

    `recommended` is a partial configuration (model, adaptation, ...) laid under the user's own:
    what a run on this dataset needs to make sense.
    """

    recommended: ClassVar[Mapping[str, Any]]

    @property
    def in_shape(self) -> tuple[int, ...]: ...
    @property
    def out_dim(self) -> int: ...
    @property
    def kind(self) -> Literal["classification", "regression"]: ...
    @property
    def splits(self) -> tuple[str, ...]: ...
    @property
    def metric_name(self) -> Literal["accuracy", "mse"]: ...

    def episode(self, split: str, index: int) -> Episode:
        """The episode number `index` of a split: pure in (seed, split, index).

        Images are uint8 [N, C, H, W], 0..255, which the run scales on its device, or floats in
        [0, 1].

        Raises:
            DataError: the split is missing or holds too few classes or examples.
        """
        ...

    def loss(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The loss of one task: a scalar from predictions [N, out_dim] and y [N, ...].

        `loss = staticmethod(torch.nn.functional.cross_entropy)` (or mse_loss) lets engines use
        its closed form.
        """
        ...

    def metric(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Accuracy in [0, 1] or mean squared error of one task: a scalar."""
        ...


class Rule(Protocol):
    """An adaptation rule: the linear map M in phi^{k+1} = phi^k - alpha M grad l_trn(phi^k)."""

    def initial(self, layout: Layout) -> Tensor:
        """The rule's own meta-parameters m [n] before meta-training; n may be 0."""
        ...

    def apply(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """M v for v [..., d]."""
        ...

    def apply_transpose(self, m: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """M^T v for v [..., d]."""
        ...

    @property
    def plain(self) -> bool:
        """Whether M is the identity, as in MAML."""
        ...


@dataclass(frozen=True)
class Adaptation:
    """How tasks adapt: K steps of size alpha under a rule with meta-parameters m [n].

    scale: what the reduction of the support loss makes of its mean; g and H_k are scaled by it.
    proximal: lambda of the term (lambda / 2) |phi - theta|^2 added to l_trn in the inner loop.
    adam: (beta1, beta2) of Adam in place of the plain step; not a linear map, so it goes only
    with estimators that ask for no Hessian.
    """

    K: int
    alpha: float
    rule: Rule
    m: Tensor
    layout: Layout
    _: KW_ONLY
    scale: float = 1.0
    proximal: float = 0.0
    adam: tuple[float, float] | None = None


@dataclass(frozen=True)
class Trajectory:
    """The path of B tasks through the inner loop.

    theta [d]; phi [B, K+1, d] from phi^0 = theta to phi^K; loss [B, K], l_trn at phi^0..phi^{K-1};
    gradients [B, K, d], grad l_trn at the same points, kept only for a rule that learns.
    """

    theta: Tensor
    phi: Tensor
    loss: Tensor
    adaptation: Adaptation
    gradients: Tensor | None = None


class Curvature(Protocol):
    """An engine at work on the support sets of B tasks: gradients and H_k v of l_trn."""

    order: Literal["rows", "columns"]
    """Which order of evaluation suits it: by rows one linearisation is alive at a time and takes
    many vectors; by columns one level applies many different H_k at once."""

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        """l_trn [B] and its gradient [B, d] at phi^k [B, d].

        keep: H_k will be asked for later; what that needs may be left behind now.
        """
        ...

    def hvp(self, phi: Tensor, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p of the result is H_{ks[p]} V[:, p]: phi [B, K+1, d], V [B, P, d] -> the same."""
        ...


class Engine(Protocol):
    """Computes losses, gradients and curvature of one model under one loss, for B tasks at once."""

    layout: Layout

    def curvature(self, x: Tensor, y: Tensor) -> Curvature:
        """Curvature of the loss on x [B, N, ...], y [B, N, ...]."""
        ...

    def query(self, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss [B], gradient [B, d] and outputs [B, N, out_dim] at phi [B, d]; first order only."""
        ...

    def predict(self, phi: Tensor, x: Tensor) -> Tensor:
        """The model's outputs [B, N, out_dim] at phi [B, d]; builds no graph."""
        ...


@dataclass(frozen=True)
class Adapted:
    """All that an estimator sees: the trajectory, g [B, d] = grad l_val(phi^K), and products
    with the Hessians along the way."""

    trajectory: Trajectory
    g: Tensor
    curvature: Curvature

    @property
    def K(self) -> int:
        return self.trajectory.adaptation.K

    @property
    def alpha(self) -> float:
        return self.trajectory.adaptation.alpha

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is H_{ks[p]} M^T V[:, p], so that A_k v = v - alpha hvp([k], v).

        V [B, P, d] -> [B, P, d]. Under gradient descent M is the identity and this is H_k v.
        """
        how = self.trajectory.adaptation
        directions = how.rule.apply_transpose(how.m, V, how.layout)
        products = self.curvature.hvp(self.trajectory.phi, ks, directions)
        return products if how.scale == 1 else how.scale * products


class Estimator(Protocol):
    """A meta-gradient estimator: a frozen dataclass whose fields are its options.

    Pure linear algebra over `Adapted`; it never sees a model, a loss or an optimiser.
    """

    def steps(self, K: int) -> range:
        """The k whose H_k the estimator will ask for; the rest is never linearised.

        Raises:
            ConfigError: an option does not fit K (L > K, say).
        """
        ...

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """The estimate [B, d] of d l_val(phi^K) / d theta, one row per task."""
        ...


@dataclass(frozen=True)
class Expansion:
    """Order L of the binomial expansion over the last C inner steps, with coefficient alpha:
    equation (39) of BinomGBML. C = K is (8), L = C truncation, L = C = K exact, L = 0 g."""

    L: int
    C: int
    alpha: float


# What an estimator may offer besides, each a protocol of its own: whoever has the method can do it.


@runtime_checkable
class LearnsRule(Protocol):
    """An estimator that also serves rules with meta-parameters (Meta-SGD, Meta-Curvature)."""

    def adjoints(self, adapted: Adapted) -> Tensor:
        """w_0 .. w_K [B, K+1, d]: the estimates of d l_val / d phi^k.

        w_0 is the meta-gradient; w_{k+1} weighs what the rule did at step k:
        d l_val / d m = -alpha sum over k of d/dm <M grad l_trn(phi^k), w_{k+1}>.
        """
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
    """An estimator that is derived for plain gradient descent, M = I, and for no other rule."""

    plain_only: ClassVar[str]
    """The reason, a sentence shown to whoever asks for another rule."""


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
        """Which one, for K inner steps of size alpha."""
        ...


@runtime_checkable
class PseudoGradient(Protocol):
    """An estimator whose result is a direction to go, not an estimate of the meta-gradient."""

    no_estimate: ClassVar[str]
    """The reason, a sentence shown to whoever wants to measure its error."""


# The same for data sets.


@runtime_checkable
class FromFiles(Protocol):
    """A data set that is made of the user's files, converted once to a prepared form."""

    learn2learn: ClassVar[str]
    """The class of learn2learn.vision.datasets that knows where to fetch them; "" for none."""

    @property
    def recipe(self) -> Recipe:
        """How the files are read."""
        ...

    def folder(self) -> Path:
        """Where the files are; raises DataError when nobody said."""
        ...


@runtime_checkable
class NamesClasses(Protocol):
    """A data set that knows what its classes are called."""

    def class_names(self, split: str, index: int) -> list[str]:
        """The names of the classes 0 .. ways - 1 of an episode."""
        ...
