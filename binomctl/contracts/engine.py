"""What an engine offers: gradients and Hessian-vector products of one model under one loss."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from binomctl.flat import Layout


class Curvature(Protocol):
    """An engine at work on the support sets of B tasks: gradients and H_k v of l_trn.

    It knows where every phi^k is, by `gradient` or `place`, and answers there alone."""

    order: Literal["rows", "columns"]
    """Which order of evaluation suits it: by rows one linearisation is alive at a time and takes
    many vectors; by columns one level applies many different H_k at once."""

    def gradient(self, phi: Tensor, k: int, keep: bool) -> tuple[Tensor, Tensor]:
        """l_trn [B] and its gradient [B, d] at phi^k [B, d].

        H_k is that of this phi^k from now on.

        keep: H_k will be asked for later; what that needs may be left behind now.
        """
        ...

    def place(self, k: int, phi: Tensor) -> None:
        """H_k is that of phi [B, d] from now on; nothing is computed."""
        ...

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p of the result is H_{ks[p]} V[:, p]: V [B, P, d] -> the same."""
        ...


@runtime_checkable
class Descends(Curvature, Protocol):
    """A curvature that makes a whole inner loop of plain gradient descent by itself."""

    def descend(self, path: Tensor, alpha: float, keep: Container[int]) -> Tensor:
        """l_trn [K, B] at phi^0 .. phi^(K-1) of path [K+1, B, d], whose phi^0 is given and whose
        other points are filled; H_k is that of its point k from now on.

        keep: the k whose H_k will be asked for later.
        """
        ...


@runtime_checkable
class PullsBack(Curvature, Protocol):
    """A curvature that makes a whole binomial expansion under gradient descent by itself."""

    def pull_back(self, ks: range, g: Tensor, L: int, alpha: float) -> Tensor:
        """S_L [B, d]: order L of prod_k (I - alpha H_k) g over the points ks, 1 <= L <= len(ks);
        g [B, d]."""
        ...


class Forward(Protocol):
    """The network of one task as a pure function of its parameters theta [d]."""

    def __call__(self, theta: Tensor, x: Any) -> Any:
        """The network's outputs, differentiable with respect to theta."""
        ...

    def entering(self, layer: str, theta: Tensor, x: Any) -> Tensor:
        """What enters a layer, by its name in the model: the features before a head, say."""
        ...

    def holding(self, theta: Tensor) -> AbstractContextManager[None]:
        """Derivatives of both at theta are taken inside this block."""
        ...


class Engine(Protocol):
    """Computes losses, gradients and curvature of one model under one loss, for B tasks at once."""

    layout: Layout

    @property
    def forward(self) -> Forward:
        """The network itself, by plain autograd; batch norm as at the first inner step."""
        ...

    def curvature(self, x: Any, y: Any) -> Curvature:
        """Curvature of the loss on x [B, N, ...], y [B, N, ...]."""
        ...

    def query(self, phi: Tensor, x: Any, y: Any) -> tuple[Tensor, Tensor, Any]:
        """Loss [B], gradient [B, d] and outputs [B, N, out_dim] at phi [B, d]; first order only."""
        ...

    def predict(self, phi: Tensor, x: Any) -> Any:
        """The model's outputs [B, N, out_dim] at phi [B, d]; builds no graph."""
        ...
