"""A few tasks by one backward pass through the inner loop: the same numbers as by products."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import binomctl.api
from binomctl import meta_gradient
from binomctl.errors import ConfigError


class Sorted(nn.Module):
    """Sorts in the middle, which the layer algebra does not know; `reads` decides the rung."""

    def __init__(self, rung="vmap"):
        super().__init__()
        self.body, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.rung = rung

    def forward(self, x):
        if self.rung == "alone":
            return self.head(checkpoint(self.part, x, use_reentrant=False))
        if self.rung == "loop" and float(x.sum()) > 1e9:  # no vmap can read a value
            return self.head(x)
        return self.head(self.part(x))

    def part(self, x):
        return torch.tanh(self.body(x)).sort(-1).values


def episodes(B):
    torch.manual_seed(B)
    return tuple(torch.randn(B, n, width, dtype=torch.float64) for n, width in
                 ((5, 3), (5, 2), (7, 3), (7, 2)))  # fmt: skip


@pytest.fixture
def passes(monkeypatch):
    """How many calls took the one backward pass."""
    calls = []
    real = binomctl.api.unrolled
    monkeypatch.setattr(binomctl.api, "unrolled", lambda *a: calls.append(1) or real(*a))
    return calls


def both(model, B, **options):
    """The engine's own choice, and the products of autograd task by task, with losses."""
    how = {"estimator": "maml", "K": 3, "alpha": 0.1, "with_loss": True, **options}
    loss = nn.MSELoss()
    return (
        meta_gradient(model, loss, episodes(B), **how),
        meta_gradient(model, loss, episodes(B), engine="autograd", batching="alone", **how),
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("rung", "B", "once"),
    [("vmap", 1, True), ("vmap", 3, True), ("vmap", 4, False), ("loop", 6, True),
     ("alone", 2, False)],
)  # fmt: skip
def test_one_pass_and_products_agree(rung, B, once, threads, passes):
    torch.manual_seed(0)
    model, before = Sorted(rung).double(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, wanted = both(model, B, per_task=True)
    finally:
        torch.set_num_threads(before)
    assert len(passes) == once
    for name, value in wanted.gradients.items():
        torch.testing.assert_close(found.gradients[name], value, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(found.loss, wanted.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.outputs, wanted.outputs, rtol=1e-12, atol=1e-14)


def test_frozen_parameters_stay_constants(passes):
    model = Sorted().double()
    model.body.weight.requires_grad_(False)
    found, wanted = both(model, 2)
    assert len(passes) == 1
    assert list(found.gradients) == ["body.bias", "head.weight", "head.bias"]
    for name, value in wanted.gradients.items():
        torch.testing.assert_close(found.gradients[name], value, rtol=1e-11, atol=1e-13)


class Spare(Sorted):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)


def test_an_unused_parameter_is_named_or_gets_zeros(passes):
    model = Spare().double()
    with pytest.raises(ConfigError, match=r"spare\.weight"):
        both(model, 2)
    found, _ = both(model, 2, allow_unused=True)
    assert passes
    assert not found.gradients["spare.weight"].any()
    assert found.gradients["body.weight"].any()


@dataclass(frozen=True)
class Rotated:
    """A linear map that is no mask, though it keeps some entries."""

    plain = False

    def initial(self, layout):
        return torch.empty(0)

    def apply(self, m, v, layout):
        return torch.cat([v[..., :3], v[..., 3:].flip(-1)], -1)

    apply_transpose = apply


@pytest.mark.parametrize(
    "options",
    [{"estimator": "trunc", "L": 2}, {"estimator": "fomaml"}, {"rule": "anil"},
     {"estimator": "trunc", "L": 1, "rule": "boil"}],
)  # fmt: skip
def test_steps_of_some_parameters_and_over_the_last_steps_are_one_pass_too(options, passes):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.Softshrink(0.01), nn.Linear(6, 2)).double()
    found, wanted = both(model, 2, **options)
    assert len(passes) == 1
    for name, value in wanted.gradients.items():
        assert value.norm() > 0
        torch.testing.assert_close(found.gradients[name], value, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "options",
    [{"optimizer": "adam"}, {"clip_norm": 0.1}, {"weights": [0, 0.5, 0, 0.5]}, {"rule": "rotated"},
     {"estimator": "binom", "L": 1}, {"alphas": [0.1, 0.2, 0.1]}, {"outer_loss": nn.L1Loss()}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_any_other_inner_loop_goes_by_products(options, passes):
    """Each of these would get the number of plain gradient descent."""
    model = Sorted().double()
    if options.get("rule") == "rotated":
        options = {"rule": Rotated()}
    found, wanted = both(model, 2, **options)
    assert not passes
    for name, value in wanted.gradients.items():
        torch.testing.assert_close(found.gradients[name], value, rtol=1e-11, atol=1e-13)


@dataclass(frozen=True)
class Shifted:
    """Plain gradient descent from 0.5 theta."""

    plain = True

    def initial(self, layout):
        return torch.empty(0)

    def apply(self, m, v, layout):
        return v

    apply_transpose = apply

    def start(self, m, theta, x, y, layout, network):
        return 0.5 * theta


def test_a_start_elsewhere_goes_by_products(passes):
    found, wanted = both(Sorted().double(), 2, rule=Shifted())
    assert not passes
    for name, value in wanted.gradients.items():
        torch.testing.assert_close(found.gradients[name], value, rtol=1e-11, atol=1e-13)
