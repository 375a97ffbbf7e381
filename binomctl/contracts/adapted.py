"""All that an estimator sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.func import vjp, vmap

from binomctl.contracts.abilities import has
from binomctl.contracts.engine import Curvature
from binomctl.contracts.inner import Trajectory
from binomctl.contracts.rule import Linear


@dataclass(frozen=True)
class Expansion:
    """Order L of the binomial expansion over the last C inner steps, with coefficient alpha:
    equation (39) of BinomGBML. C = K is (8), L = C truncation, L = C = K exact, L = 0 g."""

    L: int
    C: int
    alpha: float


@dataclass(frozen=True)
class Adapted:
    """The trajectory, the gradient g at its end, and what pulls vectors back along it.

    The adjoint of one inner step is A_k v = carry([k], v) - alpha hvp([k], v): the part that passes
    by the Hessian and is cheap, and the part through it. Under gradient descent carry is the
    identity and A_k = I - alpha H_k M^T.

    g [B, D]: c_K grad l_val(phi^K), with zeros for the slots of an inner optimiser. sources: by k,
    c_k grad l_val(phi^k) [B, d] of the outer losses before the last.
    """

    trajectory: Trajectory
    g: Tensor
    curvature: Curvature
    sources: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def K(self) -> int:
        return self.trajectory.adaptation.K

    @property
    def alpha(self) -> float:
        """The coefficient of `hvp`: the inner step size; 1 where the step is not linear."""
        how = self.trajectory.adaptation
        return how.alpha if how.linear else 1.0

    @property
    def rate(self) -> float:
        """The inner step size, by which curvatures are made dimensionless."""
        return self.trajectory.adaptation.alpha

    @property
    def g_phi(self) -> Tensor:
        """g [B, d] without the slots."""
        return self.g[:, : self.trajectory.phi.shape[-1]]

    @property
    def moved(self) -> Tensor:
        """Which parameters the last step moves, [B, d]; the others are meta-learned only."""
        ones = torch.ones_like(self.g).unsqueeze(1)
        return self.onto_gradients([self.K - 1], ones)[:, 0] != 0

    @property
    def still(self) -> bool:
        """Whether every step is phi - alpha M gamma: it has a closed form, and carries nothing."""
        return self.trajectory.adaptation.linear

    @property
    def sums(self) -> bool:
        """Whether carry is the identity, so that all orders of an expansion are sums."""
        return self.still

    @property
    def plain(self) -> bool:
        """Whether A_k is I - alpha H_k of the curvature itself."""
        return self.sums and self.trajectory.adaptation.bare(self.g)

    def carry(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is V[:, p] pulled back through step ks[p] with gamma held fixed: V [B, P, D]."""
        return V if self.still else self._pull(ks, V, _STATE)

    def hvp(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is V[:, p] pulled back through gamma of step ks[p]: V [B, P, D] -> the same.

        H_k M^T v under a linear rule; -H_k J^T v with J = d U_k / d gamma otherwise.
        """
        products = self.hessian(ks, self.into_hessians(ks, V))
        if products.shape == V.shape:
            return products
        out = torch.zeros_like(V)
        out[..., : products.shape[-1]] = products
        return out

    def into_hessians(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """What `hvp` applies H_{ks[p]} to: V [B, P, D] -> [B, P, d]."""
        how = self.trajectory.adaptation
        if not self.still:
            return -self._pull(ks, V, _GAMMA)
        assert has(how.rule, Linear)
        return how.rule.apply_transpose(how.m, V, how.layout)

    def hessian(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is H_{ks[p]} V[:, p] of the support loss as the inner loop scales it: V
        [B, P, d] -> the same. ks may hold K, the Hessian at phi^K."""
        how = self.trajectory.adaptation
        products = self.curvature.hvp(ks, V)
        return products if how.scale == 1 else how.scale * products

    def onto_gradients(self, ks: Sequence[int], V: Tensor) -> Tensor:
        """Column p is (dU_k / dgamma)^T V[:, p] of step k = ks[p]: V [B, P, D] -> [B, P, d]; what
        reaches everything that gamma_k was computed with."""
        how = self.trajectory.adaptation
        if not self.still:
            return self._pull(ks, V, _GAMMA)
        assert has(how.rule, Linear)
        return -how.alpha * how.rule.apply_transpose(how.m, V, how.layout)

    def rule_gradient(self, w: Tensor) -> Tensor:
        """d l_val / d m [B, n]: the sum over k of (dU_k / dm)^T w_{k+1}, w_1 .. w_K [B, K, D]."""
        trajectory, how = self.trajectory, self.trajectory.adaptation
        gradients = trajectory.gradients
        assert gradients is not None
        if self.still:
            rule = how.rule
            assert has(rule, Linear)

            def weighed(m: Tensor, gradients: Tensor, w: Tensor) -> Tensor:
                return -how.alpha * (rule.apply(m, gradients, how.layout) * w).sum()

            # phi^{k+1} depends on m through M alone.
            per_task = vmap(torch.func.grad(weighed), in_dims=(None, 0, 0))
            linear: Tensor = per_task(how.m, gradients, w)
            return linear
        parts = [self._pulled(k, w[:, k : k + 1], _M) for k in range(how.K)]
        return torch.stack(parts).sum(0)[:, 0]

    def _pull(self, ks: Sequence[int], V: Tensor, through: int) -> Tensor:
        """Column p is V[:, p] pulled back through step ks[p] to one of the step's arguments."""
        columns: list[Tensor] = [V[:, 0]] * len(ks)
        for k in sorted(set(ks)):
            mine = [p for p, kp in enumerate(ks) if kp == k]
            for p, column in zip(mine, self._pulled(k, V[:, mine], through).unbind(1), strict=True):
                columns[p] = column
        return torch.stack(columns, 1)

    def _pulled(self, k: int, V: Tensor, through: int) -> Tensor:
        """V [B, P, D] pulled back through step k to one of its arguments, [B, P, its size], by
        automatic differentiation of the step alone."""
        trajectory, how = self.trajectory, self.trajectory.adaptation
        assert trajectory.gradients is not None

        def one(s: Tensor, gamma: Tensor, noise: Tensor, W: Tensor) -> Tensor:
            arguments = [how.m, s, gamma]

            def step(moving: Tensor) -> Tensor:
                at = list(arguments)
                at[through] = moving
                return how.step(k, at[_M], at[_STATE], at[_GAMMA], noise)

            back = vjp(step, arguments[through])[1]
            out: Tensor = vmap(back)(W.view(len(W), *s.shape))[0]
            return out

        noise = how.noise_of(len(V))
        found: Tensor = vmap(one)(trajectory.state(k), trajectory.gradients[:, k], noise, V)
        return found.flatten(2)


_M, _STATE, _GAMMA = range(3)
"""The arguments of a step, in its order."""
