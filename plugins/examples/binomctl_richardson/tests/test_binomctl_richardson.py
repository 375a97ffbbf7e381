"""Richardson keeps its contract, and is nearer to exact than what it is made of."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from binomctl_richardson import Richardson, middles, pulled_back
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.errors import ConfigError
from binomctl.testing import check_estimator


def test_it_keeps_its_contract():
    check_estimator(Richardson)
    check_estimator(Richardson, {"segments": 2})


@dataclasses.dataclass(frozen=True)
class Coarse:
    """What is extrapolated: one Hessian for each segment."""

    n: int

    def steps(self, K):
        return sorted(set(middles(K, self.n)))

    def meta_gradient(self, adapted):
        return pulled_back(adapted, self.n)[:, 0]


@pytest.mark.parametrize("K", [16, 17, 32])
def test_it_is_nearer_to_exact_than_its_parts(K):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    x = torch.randn(2, 4, 10, 2, dtype=torch.float64)
    y = torch.sin(3 * x.sum(-1, keepdim=True))

    def gradient(estimator):
        rows = binomctl.meta_gradient(
            model, F.mse_loss, (x[0], y[0], x[1], y[1]), estimator=estimator, K=K, alpha=0.8 / K
        )
        return torch.cat([row.flatten() for row in rows.values()])

    exact = gradient(Coarse(K))
    error = {e: float((gradient(e) - exact).norm()) for e in (Coarse(2), Coarse(4))}
    one, two = (float((gradient(Richardson(n)) - exact).norm()) for n in (1, 2))
    assert one < error[Coarse(2)] / 2
    assert two < error[Coarse(4)] / 1.5


def test_an_even_segment_has_two_middles():
    assert middles(6, 2) == [1, 1, 1, 4, 4, 4]
    assert middles(8, 2) == [1, 1, 2, 2, 5, 5, 6, 6]
    assert Richardson(1).steps(24) == [5, 6, 11, 12, 17, 18]


def test_no_segments_are_refused():
    with pytest.raises(ConfigError, match="segments = 0 is below 1"):
        Richardson(0)
