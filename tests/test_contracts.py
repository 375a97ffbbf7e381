"""Every registered plugin keeps its contract; the checks catch those that break one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import layouts
import pytest
import torch
from binomctl_datasets.sinusoid import Sinusoid
from binomctl_estimators.binomial import BinomMAML
from binomctl_estimators.fomaml import FOMAML

from binomctl.images.contract import FromFiles
from binomctl.images.prepare import prepare
from binomctl.options import has_option, option
from binomctl.settings import registry
from binomctl.testing import check_dataset, check_estimator


@pytest.mark.parametrize("name", registry.names("estimator"))
def test_every_estimator(name):
    check_estimator(registry.load("estimator", name))


@pytest.mark.parametrize("name", registry.names("dataset"))
def test_every_dataset(name, tmp_path):
    cls = registry.load("dataset", name)
    if not has_option(cls, "root"):
        check_dataset(cls)
        return
    layouts.ONE_OF_EACH[name](tmp_path)
    options = {"root": str(tmp_path), "queries": 3}
    dataset = cls(**options)
    if isinstance(dataset, FromFiles):
        prepare(dataset.recipe, tmp_path)
    check_dataset(cls, options | ({"ways": 2} if name == "omniglot" else {}))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("imaml", {"variant": "authors"}),
        ("binom", {"L": 3, "alpha_scaling": "paper"}),
        ("hybrid", {"L": 1, "C": 3}),
        ("trunc", {"L": 0}),
    ],
)
def test_estimators_with_options(name, options):
    check_estimator(registry.load("estimator", name), options)


def broken(base, **changes):
    """A subclass with some methods replaced."""
    return dataclass(frozen=True)(type("Broken", (base,), changes))


@dataclass(frozen=True)
class Undocumented(FOMAML):
    factor: float = 1.0


@pytest.mark.parametrize(
    ("cls", "word"),
    [
        (broken(FOMAML, meta_gradient=lambda s, a: a.g.mean(0)), "has shape"),
        (broken(FOMAML, meta_gradient=lambda s, a: a.g * float("nan")), "not finite"),
        (broken(FOMAML, meta_gradient=lambda s, a: a.g.add_(0.1)), "changed what it was"),
        (broken(FOMAML, meta_gradient=lambda s, a: a.g.mul_(-1).abs()), "changed what it was"),
        (broken(FOMAML, meta_gradient=lambda s, a: a.g + a.g.mean(0)), "depends on the others"),
        (broken(FOMAML, meta_gradient=lambda s, a: torch.rand_like(a.g)), "two calls"),
        (broken(BinomMAML, steps=lambda s, K: range(1)), "outside steps"),
        (broken(BinomMAML, exact=classmethod(lambda c, K: c(L=K - 1))), "backpropagation"),
        (broken(BinomMAML, adjoints=lambda s, a: FOMAML().adjoints(a)), "adjoint 0"),
        (
            broken(FOMAML, meta_gradient=lambda s, a: a.g * (1 + (a.g.dtype == torch.float32))),
            "float32",
        ),
        (Undocumented, "no sentence"),
    ],
)
def test_a_broken_estimator_is_caught(cls, word):
    with pytest.raises(AssertionError, match=word):
        check_estimator(cls)


@dataclass(frozen=True)
class Impure(Sinusoid):
    def episode(self, split, index):
        e = super().episode(split, index)
        return dataclasses.replace(e, x_trn=e.x_trn + torch.rand(1))


@dataclass(frozen=True)
class Constant(Sinusoid):
    def episode(self, split, index):
        return super().episode(split, 0)


@dataclass(frozen=True)
class Unreduced(Sinusoid):
    def loss(self, prediction, y):
        return (prediction - y) ** 2


@dataclass(frozen=True)
class Nameless(Sinusoid):
    noise: float = option(0.0, "")


@pytest.mark.parametrize(
    ("cls", "word"),
    [
        (Impure, "not the same twice"),
        (Constant, "0 and 1"),
        (Unreduced, "expected a scalar"),
        (Nameless, "no sentence"),
    ],
)
def test_a_broken_dataset_is_caught(cls, word):
    with pytest.raises(AssertionError, match=word):
        check_dataset(cls)
