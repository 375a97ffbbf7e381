"""Steps that are kept exactly, against dense matrices."""

from __future__ import annotations

import pytest
from dense_factors import K, expanded, ours, wanted


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "kept", "L"),
    [
        *[("head", {"m": m, "L": L}, range(m), L) for m in range(K + 1) for L in range(K - m + 1)],
        ("steps", {"kept": (0, 3), "L": 0}, (0, 3), 0),
        ("steps", {"kept": (1, 4), "L": 1}, (1, 4), 1),
        ("steps", {"kept": (2,), "L": 2}, (2,), 2),
        ("steps", {"kept": (3, 4), "L": 0}, (3, 4), 0),
        ("steps", {"kept": (), "L": 3}, (), 3),
        ("steps", {"kept": (4, 0, 2), "L": 2}, (0, 2, 4), 2),
    ],
)
def test_kept_steps_are_exact_in_their_places(case, name, options, kept, L, velocity, order):
    found = ours(case, name, options, velocity, order)
    right = wanted(case, velocity, lambda steps, g: expanded(steps, g, L, kept))
    assert float((found - right).norm() / right.norm()) < 1e-12
