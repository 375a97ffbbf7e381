"""A low rank carried, and one Hessian a segment: against explicit Krylov bases."""

from __future__ import annotations

import itertools

import pytest
import torch
from dense_factors import K, expanded, ours, trajectory, wanted

from binomctl.errors import ConfigError, NonFiniteError
from binomctl.expansion.deflation import middles
from binomctl.expansion.quadrature import nodes
from binomctl.settings import registry


def krylov_matrix(steps, g, k, r, two_sided):
    """low(H_k) by an explicit Krylov basis of what H_k meets of g."""
    _, _, H, _, into = steps[k]
    start = into @ g
    basis = torch.stack([torch.linalg.matrix_power(H, i) @ start for i in range(r)], 1)
    Q = torch.linalg.qr(basis / basis.norm(dim=0))[0]
    T = Q @ Q.T @ H @ Q @ Q.T
    return H @ Q @ Q.T + Q @ Q.T @ H - T if two_sided else T


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize("form", ["two-sided", "projected"])
@pytest.mark.parametrize(("r", "L"), [(1, 0), (2, 0), (2, 1), (3, 2), (2, 5)])
def test_deflation_takes_a_krylov_part_out_of_the_expansion(case, r, L, form, velocity, order):
    found = ours(case, "deflated", {"r": r, "L": L, "form": form}, velocity, order)

    def right(steps, g):
        low = krylov_matrix(steps, g, (K - 1) // 2, r, form == "two-sided")
        return expanded(steps, g, L, low=low)

    error = found - wanted(case, velocity, right)
    assert float(error.norm() / found.norm()) < (
        1e-9 if r < 3 else 1e-7
    )  # the explicit basis is ill


@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize(
    ("segments", "s"), [(1, 2), (1, 3), (2, 1), (2, 2), (3, 1), (3, 2), (1, 5)]
)
def test_segments_are_powers_in_a_krylov_space(case, segments, s, velocity):
    """With an explicit basis of w, A w, ..., A^{s-1} w; (1, 5) is the power itself."""
    edges = [-(-i * K // segments) for i in range(segments + 1)]

    def right(steps, g):
        w = g
        for lo, hi in reversed(list(itertools.pairwise(edges))):
            P, through = steps[(lo + hi - 1) // 2][:2]
            A, n = P - through, hi - lo
            if n <= s:
                w = torch.linalg.matrix_power(A, n) @ w
                continue
            basis = torch.stack([torch.linalg.matrix_power(A, i) @ w for i in range(s)], 1)
            Q = torch.linalg.qr(basis)[0]
            w = Q @ torch.linalg.matrix_power(Q.T @ A @ Q, n) @ (Q.T @ w)
        return w

    found = ours(case, "krylov", {"segments": segments, "s": s}, velocity)
    error = found - wanted(case, velocity, right)
    assert float(error.norm() / found.norm()) < 1e-9


def test_segments_know_the_last_outer_loss_alone(case):
    weights = [0.0, 0.0, 0.0, 0.5, 0.0, 0.5]
    with pytest.raises(ConfigError, match="phi\\^K alone"):
        ours(case, "krylov", {}, weights=weights)
    for name in ("auto", "head", "deflated"):  # the others know them all
        ours(case, name, {}, weights=weights)


def test_nodes_and_segments():
    assert nodes(5, 5) == [0, 1, 2, 3, 4]
    assert nodes(100, 3) == [7, 50, 92] or len(nodes(100, 3)) == 3
    assert middles(10, 1) == [4]
    assert middles(10, 2) == [2, 7]
    assert middles(5, 5) == [0, 1, 2, 3, 4]


def test_a_spectrum_that_is_not_finite_is_named(case):
    at = trajectory(case)
    broken = type(at)(at.trajectory, at.g * float("inf"), at.curvature)
    with pytest.raises(NonFiniteError, match="spectrum of H_2 cannot be measured"):
        registry.create("estimator", "deflated", {"L": 0}).meta_gradient(broken)
