"""Every registered plugin keeps its contract; the checks catch those that break one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import layouts
import pytest
import torch
from binomctl_datasets.glyphs import Glyphs
from binomctl_datasets.random_images import RandomImages
from binomctl_datasets.sinusoid import Sinusoid
from binomctl_estimators.binomial import BinomMAML
from binomctl_estimators.fomaml import FOMAML
from binomctl_rules.meta_sgd import MetaSGD
from binomctl_updates.sgd import SGD

from binomctl.episodes import Metric
from binomctl.errors import ConfigError
from binomctl.images.contract import FromFiles
from binomctl.images.prepare import prepare
from binomctl.models.latent import Latent
from binomctl.models.mlp import MLP
from binomctl.options import has_option, option
from binomctl.settings import registry
from binomctl.testing import check_dataset, check_estimator, check_rule, check_update


@pytest.mark.parametrize("name", registry.names("estimator"))
def test_every_estimator(name):
    check_estimator(registry.load("estimator", name))


NEEDS = {
    "cavia": {"context": ["0.bias"]},
    "maml++": {"norms": ["0.bias"]},
    "leo": {"latent_steps": 2, "hidden": 4, "weights_rate": 0.5, "kl": 0.1, "encoder": 0.3},
}
"""Options of rules that look for parameters the checks' network calls otherwise."""


@pytest.mark.parametrize("name", registry.names("rule"))
def test_every_rule(name):
    networks = {"leo": Latent(latent=2), "ibaml": MLP(width=3, depth=1, bayesian=2, std=0.3)}
    network = networks[name].build((2,), 3) if name in networks else None
    check_rule(registry.load("rule", name), NEEDS.get(name, {}), network)


@pytest.mark.parametrize("name", registry.names("update"))
def test_every_update(name):
    check_update(registry.load("update", name))


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("rule", "gd", {"fixed": ["0.*"]}),
        ("rule", "anil", {"head": ["2.*"]}),
        ("rule", "rates", {"steps": 2, "per_layer": False}),
        ("update", "sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("update", "adam", {"epsilon_root": 1e-6, "weight_decay": 0.1}),
        ("update", "rmsprop", {"momentum": 0.5}),
    ],
)
def test_rules_and_updates_with_options(kind, name, options):
    check = check_rule if kind == "rule" else check_update
    check(registry.load(kind, name), options)


@pytest.mark.parametrize("name", registry.names("dataset"))
def test_every_dataset(name, tmp_path):
    cls = registry.load("dataset", name)
    if hasattr(cls, "composed_of"):
        members = (Glyphs(), RandomImages())
        check_dataset(cls, {"of": members, "image_size": 16, "mode": "L", "queries": 2})
        return
    if has_option(cls, "path"):
        layouts.features(tmp_path / "features.npz")
        check_dataset(cls, {"path": str(tmp_path / "features.npz")})
        return
    if not has_option(cls, "root"):
        check_dataset(cls)
        return
    layouts.ONE_OF_EACH[name](tmp_path)
    options = {"root": str(tmp_path), "queries": 3}
    dataset = cls(**options)
    if isinstance(dataset, FromFiles):
        prepare(dataset.recipe, tmp_path)
    check_dataset(cls, options | ({"ways": 2} if name == "omniglot" else {}))


@pytest.mark.parametrize("name", registry.names("problem"))
def test_every_problem(name):
    check_dataset(registry.load("problem", name), {"data": Glyphs(image_size=16)})


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


@dataclass(frozen=True)
class Determination(Sinusoid):
    """A metric that grows with quality under the name and direction of an error."""

    def metric(self, prediction, y):
        return 1 - (prediction - y).square().mean() / y.var()


def test_a_metric_of_the_other_direction_is_caught():
    with pytest.raises(AssertionError, match="'mse' is declared better when lower"):
        check_dataset(Determination)
    declared = broken(Determination, scored_by=Metric("r2", "number", True))
    check_dataset(declared)


def test_a_metric_without_a_declaration_is_caught():
    with pytest.raises(AssertionError, match="scored_by is no Metric"):
        check_dataset(broken(Sinusoid, scored_by="mse"))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"apply": lambda s, m, v, layout: v * v}, "not linear"),
        ({"apply_transpose": lambda s, m, v, layout: 2 * v * m}, "not the transpose"),
        ({"initial": lambda s, layout: torch.full((layout.d,), float("nan"))}, "not finite"),
        ({"initial": lambda s, layout: torch.rand(layout.d)}, "elsewhere the second time"),
        ({"plain": True}, "declared plain"),
    ],
)
def test_a_broken_rule_is_caught(changes, word):
    with pytest.raises(AssertionError, match=word):
        check_rule(broken(MetaSGD, **changes))


class Neither:
    plain = False

    def initial(self, layout):
        return torch.empty(0)


def test_a_rule_without_a_direction_is_caught():
    with pytest.raises(AssertionError, match="neither apply"):
        check_rule(dataclass(frozen=True)(Neither))


def rough_root(self, k, s, u, alpha):
    return torch.stack([s[0] - alpha * u / (u.square().sqrt() + 1e-8)])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"step": rough_root, "plain": False}, "derivative at a gradient of 0 is not finite"),
        ({"step": lambda s, k, x, u, a: x - 2 * a * u}, "it is not plain"),
        ({"slots": -1}, "slots = -1"),
    ],
)
def test_a_broken_update_is_caught(changes, word):
    with pytest.raises(AssertionError, match=word):
        check_update(broken(SGD, **changes))


def test_an_unpure_update_is_refused_in_words():
    calls = iter(range(100))
    with pytest.raises(ConfigError, match="two answers"):
        check_update(broken(SGD, plain=False, step=lambda s, k, x, u, a: x - a * u * next(calls)))
