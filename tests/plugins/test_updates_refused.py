"""Inner optimisers, step sizes and options that do not fit are named."""

# ruff: noqa: F811 - the imported fixture is an argument of the tests

from __future__ import annotations

import pytest
import torch
from test_updates import case, off, ours  # noqa: F401

from binomctl.errors import ConfigError


class _Foreign:
    """An optimiser that a user wrote, wrong in one way."""

    slots, plain, shifts, calls = 0, False, "", 0

    def __init__(self, wrong):
        self.wrong = wrong

    def step(self, k, s, u, alpha):
        if self.wrong == "random":
            return s - alpha * u * torch.rand(())
        if self.wrong == "impure":
            type(self).calls += 1
            return s - alpha * u * type(self).calls
        if self.wrong == "shape":
            return s[0] - alpha * u
        if self.wrong == "infinite":
            return s / 0.0
        return s - alpha * u if u.sum() > 0 else s


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("impure", "two answers"), ("shape", "returns shape"), ("infinite", "not finite"),
        ("decides", "data-dependent control flow"), ("random", "(fails|two answers)"),
    ],
)  # fmt: skip
def test_an_unfit_step_is_named_before_it_is_used(case, wrong, said):
    with pytest.raises(ConfigError, match=said):
        ours(case, "maml", 2, optimizer=_Foreign(wrong))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": [1.0]}, "1 weights of outer losses for K = 2"),
        ({"weights": [0.0, 0.0, 0.0]}, "must not be 0"),
        ({"alphas": [0.1]}, "alphas must be K = 2"),
        ({"clip_norm": -1.0}, "clip_norm = -1.0 must be positive"),
        ({"optimizer": "adm"}, "Did you mean 'adam'"),
        ({"optimizer": "adam", "optimizer_options": {"beta1": 1.0}}, r"beta1 = 1.0 is outside"),
        ({"optimizer": "sgd", "optimizer_options": {"nesterov": True}}, "has none"),
    ],
)
def test_wrong_options_are_named(case, options, said):
    with pytest.raises(ConfigError, match=said):
        ours(case, "maml", 2, **options)


def test_implicit_estimators_take_optimisers_that_rest_where_the_gradient_vanishes(case):
    rows, _ = ours(case, "imaml", 40, optimizer="sgd", optimizer_options={"momentum": 0.5}, L=12)
    slow, _ = ours(case, "imaml", 300, L=12)
    assert off(rows, slow) < 1e-3
    with pytest.raises(ConfigError, match="weight decay moves its resting point"):
        ours(case, "imaml", 2, optimizer="adamw")
