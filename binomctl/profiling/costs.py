"""What a training step costs, as a model of a few numbers.

Time. One exact step, with the tasks in one chunk and one by one, gives what an inner gradient, the
query gradient and a Hessian-vector product cost, and what another chunk adds to each. An estimator
is then K gradients, one query gradient, its products, and a gradient for every linearisation it has
to make anew.

Memory, beyond what is there before a step: first order in one chunk and one by one gives a constant
and the query set's share Q of a task; the exact step with everything stored the share S of one
linearisation. Stored: constant + B n S + c Q for chunks of c tasks and n stored steps. Made anew:
constant + c max(Q, S + the gradient of the support set). Where all P points of a level go together
(columns), P of them are alive at a time, or copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Memory = Literal["store", "recompute"]


@dataclass(frozen=True)
class Linear:
    """A quantity for chunks of c tasks out of B: `whole` for all, `extra` for every chunk more."""

    whole: float
    extra: float

    @classmethod
    def through(cls, together: float, one_by_one: float, B: int) -> Linear:
        return cls(together, (one_by_one - together) / (B - 1) if B > 1 else 0.0)

    def at(self, chunks: int) -> float:
        return max(0.0, self.whole + (chunks - 1) * self.extra)


@dataclass(frozen=True)
class Model:
    """Fitted costs: seconds of a gradient, the query gradient, a product, all else; bytes."""

    gradient: Linear
    query: Linear
    product: Linear
    rest: float
    constant: float
    query_bytes: float
    stored_bytes: float
    support_share: float

    def seconds(self, K: int, products: int, anew: int, chunks: int) -> float:
        g, q, h = (part.at(chunks) for part in (self.gradient, self.query, self.product))
        return self.rest + (K + anew) * g + q + products * h

    def bytes(self, B: int, kept: int, chunk: int, memory: Memory, together: int) -> float:
        """kept: steps whose linearisations are asked for; together: points in one pass."""
        one = self.stored_bytes + self.support_share * self.query_bytes
        if memory == "store":  # several points in one pass are joined: copies of what is kept
            joined = together * self.stored_bytes if together > 1 else 0.0
            working = max(self.query_bytes, joined)
            return self.constant + B * kept * self.stored_bytes + chunk * working
        return self.constant + chunk * max(self.query_bytes, together * one if kept else 0.0)
