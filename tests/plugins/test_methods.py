"""Methods of the field on one inner loop: each against a dense float64 oracle of its own equations.

The oracle writes out a method's start and step, takes dense Jacobians of both and dense Hessians,
and sums the products of an expansion; exact MAML is checked by unrolled automatic differentiation
besides, for the rule's meta-parameters too.
"""

from __future__ import annotations

import pytest
import torch
from written_methods import (
    ALPHA,
    ESTIMATORS,
    METHODS,
    HeadFirst,
    K,
    at_theta,
    data,
    expansion,
    model_of,
    ours,
    parameters_of,
    unrolled,
    written,
)

from binomctl.errors import ConfigError
from binomctl.settings import registry

SLOW = ("trunc", "hybrid", "fomaml")

CASES = [
    # A normal distribution for every weight: twice the parameters in every dense Jacobian.
    pytest.param(name, e, marks=[pytest.mark.slow] if name == "ibaml" and e in SLOW else [])
    for name in METHODS for e in ESTIMATORS
]  # fmt: skip


@pytest.mark.parametrize("engine", ["auto", pytest.param("autograd", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "estimator"), CASES)
def test_every_method_under_every_expansion(name, estimator, engine):
    cls, plugin, options, write = METHODS[name]
    model, episodes = model_of(cls), data()
    rule = registry.create("rule", plugin, options)
    m = parameters_of(rule, model)
    given, L, C = ESTIMATORS[estimator]
    found, found_m = ours(model, rule, m, episodes, estimator, engine=engine, **given)
    tasks = [(written(write, model, rule, b), m, task)
             for b, task in enumerate(zip(*episodes, strict=True))]  # fmt: skip
    wanted = torch.stack([expansion(model, *task, L, C) for task in tasks])
    assert float((found - wanted).norm() / wanted.norm()) < 1e-9
    if estimator == "maml":
        exact, exact_m = (torch.stack(v) for v in zip(
            *(unrolled(model, *task) for task in tasks), strict=True))  # fmt: skip
        assert float((found - exact).norm() / exact.norm()) < 1e-9
        if len(m):
            assert exact_m.norm() > 0
            assert float((found_m - exact_m).norm() / exact_m.norm()) < 1e-9


def test_unicorn_does_not_know_the_order_of_classes():
    model, (x, y, x_val, y_val) = model_of(HeadFirst), data()
    turned = torch.tensor([2, 0, 1])
    rule = registry.create("rule", "unicorn", {})
    empty = torch.zeros(0)
    one, _ = ours(model, rule, empty, (x, y, x_val, y_val), "maml")
    two, _ = ours(model, rule, empty, (x, turned[y], x_val, turned[y_val]), "maml")
    assert torch.allclose(one, two, atol=1e-13)
    gd = registry.create("rule", "gd", {})
    three, _ = ours(model, gd, empty, (x, turned[y], x_val, turned[y_val]), "maml")
    four, _ = ours(model, gd, empty, (x, y, x_val, y_val), "maml")
    assert not torch.allclose(three, four, atol=1e-6)


def test_methods_begin_at_plain_maml():
    model, episodes, empty = model_of(HeadFirst), data(), torch.zeros(0)
    plain, _ = ours(model, "gd", empty, episodes, "binom", L=2)
    for name, options in (("alfa", {}), ("maml++", {"steps": K, "norms": ()})):
        same, _ = ours(model, registry.create("rule", name, options), empty, episodes, "binom", L=2)
        assert torch.allclose(same, plain, rtol=1e-12, atol=1e-14), name


def test_sign_steps_are_exact_at_first_order():
    model, episodes = model_of(HeadFirst), data()
    exact, _ = ours(model, "gd", torch.zeros(0), episodes, "maml", optimizer="sign")
    first, _ = ours(model, "gd", torch.zeros(0), episodes, "fomaml", optimizer="sign")
    assert torch.equal(exact, first)
    sign = at_theta(model), lambda k, m, phi, gamma: phi - ALPHA * gamma.sign(), None
    tasks = zip(*episodes, strict=True)
    wanted = torch.stack([unrolled(model, sign, torch.zeros(0), task)[0] for task in tasks])
    assert torch.allclose(exact, wanted, atol=1e-13)


def test_what_a_method_needs_is_named():
    model, episodes = model_of(HeadFirst), data()
    for name, options, said in [
        ("cavia", {}, "adapts parameters named context, .*the network has none"),
        ("maml++", {"norms": ("*batchnorm*",)}, "the network has no norm"),
        ("unicorn", {"head": ("head.weight", "body.weight")}, "begin with the axis of classes"),
        ("boil", {"head": ("haed*",)}, "'haed\\*' matches no parameter"),
        ("boil", {"head": ("*",)}, "nothing is left to adapt"),
        ("gd", {"fixed": ("*",)}, "nothing is left to adapt"),
    ]:
        rule = registry.create("rule", name, options)
        with pytest.raises(ConfigError, match=said):
            ours(model, rule, torch.zeros(0), episodes, "maml")
