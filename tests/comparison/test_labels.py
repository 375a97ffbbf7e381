"""What tables call a method."""

from __future__ import annotations

from pathlib import Path

from binomctl.comparison.methods import identity, labels, methods
from binomctl.settings.layers import load_config


def config(**keys):
    return load_config(overrides={"estimator.name": "maml", **keys})[0]


def test_a_label_stands_for_what_differs_beside_the_estimator():
    of = [
        config(),
        config(**{"rule.name": "meta-sgd"}),
        config(**{"rule.name": "maml++", "adaptation.step_losses": "all", "label": "MAML++"}),
        config(**{"rule.name": "maml++", "estimator.name": "binom", "estimator.L": 2,
                  "adaptation.step_losses": "all", "label": "MAML++"}),
    ]  # fmt: skip
    assert labels(of) == [
        "maml, step_losses=last, name=gd",
        "maml, step_losses=last, name=meta-sgd",
        "MAML++, maml",
        "MAML++, binom (L = 2)",
    ]


def test_a_label_is_no_part_of_what_a_method_is():
    plain, named = config(), config(label="MAML", seed=1)
    assert identity(plain) == identity(named)
    found = methods([(Path("a"), plain), (Path("b"), named)])
    assert len(found) == 1
    assert set(found[0].runs) == {0, 1}


def test_two_methods_of_one_label_are_told_apart_by_their_folders():
    of = [config(label="ours"), config(**{"label": "ours", "rule.name": "anil"})]
    found = methods([(Path("runs/one"), of[0]), (Path("runs/two"), of[1])])
    assert [m.label for m in found] == ["ours, maml [one]", "ours, maml [two]"]
