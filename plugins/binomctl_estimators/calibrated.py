"""Weights of the orders that are refitted on the exact meta-gradient now and then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from binomctl.contracts import Adapted, Expansion
from binomctl.errors import ConfigError
from binomctl.expansion import (
    binomial_expansion,
    check_order,
    deflated,
    elementary_sums,
    weighed,
    weighed_adjoints,
)
from binomctl.expansion.deflation import check_rank
from binomctl.flat import Layout
from binomctl.options import option, plugin
from binomctl.ranges import check_count


@plugin
@dataclass(frozen=True)
class CalibratedMAML:
    """Orders 0..L with weights fitted to exact MAML every so many meta-steps.

    sum over j of c_j (-alpha)^j e_j; c by least squares over the tasks of a batch, drawn towards
    Taylor's 1 by a ridge, and kept until the next fit. One c for all parameters, or one for each
    parameter tensor.
    """

    L: int = option(2, "highest order")
    every: int = option(20, "meta-steps between two fits, K more products each")
    ridge: float = option(1e-3, "weight of c = 1 in the fit, relative to the data's")
    groups: Literal["all", "layers"] = option("all", "what shares its weights")
    r: int = option(0, "Lanczos steps; the orders are those of what this low rank leaves")

    def __post_init__(self) -> None:
        check_order(self.L)
        check_count("every", self.every, "estimator.every")
        check_rank(self.r)
        if not 0 <= self.ridge < float("inf"):
            raise ConfigError(
                f"ridge = {self.ridge} is negative or infinite",
                "0 is none; 0.001 as a rule.",
                key="estimator.ridge",
            )

    def steps(self, K: int) -> range:
        check_order(self.L, K)
        check_rank(self.r, K)
        return range(K)

    def init_state(self, layout: Layout) -> Mapping[str, Tensor]:
        groups = len(layout.names) if self.groups == "layers" else 1
        weights = torch.ones(groups, self.L + 1, dtype=torch.float64)
        return {"calls": torch.tensor(0), "weights": weights}

    def advance(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        calls, c = int(state["calls"]), state["weights"]
        parts = self._parts(adapted)
        if calls % self.every == 0:
            c = self._fit(adapted, parts, self._exact(adapted))
        rows = weighed(parts, adapted.alpha, self._spread(adapted, c))
        return rows, {"calls": torch.tensor(calls + 1), "weights": c}

    def advance_adjoints(
        self, adapted: Adapted, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Of a tail of n steps the weights lie between 1, n = 0, and those of all K."""
        _, after = self.advance(adapted, state)
        return self._adjoints(adapted, self._spread(adapted, after["weights"])), after

    def meta_gradient(self, adapted: Adapted) -> Tensor:
        """[B, D], with weights fitted on each of these very tasks alone: the best of this span."""
        parts = self._parts(adapted)
        return weighed(parts, adapted.alpha, self._own(adapted, parts))

    def adjoints(self, adapted: Adapted) -> Tensor:
        return self._adjoints(adapted, self._own(adapted, self._parts(adapted)))

    def _parts(self, adapted: Adapted) -> Tensor:
        return elementary_sums(deflated(adapted, self.r), self.L)

    def _adjoints(self, adapted: Adapted, c: Tensor) -> Tensor:
        def weights(n: int) -> Tensor:
            return 1 + (c - 1) * (n / adapted.K)

        left = deflated(adapted, self.r)
        return weighed_adjoints(left, self.L, weights)

    def _own(self, adapted: Adapted, parts: Tensor) -> Tensor:
        """Weights of every task, fitted on it alone."""
        exact = self._exact(adapted)
        tasks = (slice(b, b + 1) for b in range(len(parts)))
        fitted = (self._fit(adapted, parts[b], exact[b]) for b in tasks)
        return torch.cat([self._spread(adapted, c) for c in fitted])

    def _exact(self, adapted: Adapted) -> Tensor:
        return binomial_expansion(adapted, Expansion(adapted.K, adapted.K, adapted.alpha))

    def _fit(self, adapted: Adapted, parts: Tensor, exact: Tensor) -> Tensor:
        """c [groups, L+1] in float64."""
        powers = parts.new_tensor([(-adapted.alpha) ** j for j in range(self.L + 1)])
        X = (parts * powers[:, None]).double()
        rest = exact.double() - X.sum(1)  # what Taylor's weights leave
        out = []
        for where in self._slices(adapted):
            A, b = X[..., where], rest[..., where]
            gram = torch.einsum("bid,bjd->ij", A, A)
            right = torch.einsum("bid,bd->i", A, b)
            size = torch.diagonal(gram).clamp_min(torch.finfo(gram.dtype).tiny)
            # Orders differ by powers of alpha H: each is measured in its own size.
            scale = size.sqrt()
            unit = gram / scale[:, None] / scale[None, :]
            eye = torch.eye(len(unit), dtype=unit.dtype, device=unit.device)
            solved = torch.linalg.solve(unit + max(self.ridge, 1e-12) * eye, right / scale) / scale
            out.append(1 + solved)
        return torch.stack(out).cpu()

    def _spread(self, adapted: Adapted, c: Tensor) -> Tensor:
        """Weights of the groups, as every entry of the state has them."""
        if len(c) == 1:
            return c
        sizes = torch.tensor(self._layout(adapted).sizes)
        every = c.repeat_interleave(sizes, 0)
        slots = adapted.g.shape[-1] // len(every)
        return every.repeat(slots, 1).T.unsqueeze(0)

    @staticmethod
    def _layout(adapted: Adapted) -> Layout:
        return adapted.trajectory.adaptation.layout

    def _slices(self, adapted: Adapted) -> list[slice]:
        layout = self._layout(adapted)
        if self.groups == "all":
            return [slice(0, layout.d)]
        ends = torch.tensor(layout.sizes).cumsum(0).tolist()
        return [slice(end - size, end) for end, size in zip(ends, layout.sizes, strict=True)]
