"""Networks and losses that the project did not design, against plain double backward.

Each is called as a user would; the worst parameter's relative error is held to 1e-8 in float64 and
to 1e-4 in float32.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from binomctl.errors import ConfigError
from zoo.call import product
from zoo.catalogue import ENTRIES
from zoo.entry import Entry
from zoo.oracle import ESTIMATORS, oracle, worst_error

RIGHT = [e for e in ENTRIES.values() if e.refused is None]
REFUSED = [e for e in ENTRIES.values() if e.refused is not None]
RUNGS: dict[str, dict[str, Any]] = {
    "analytic": {"engine": "analytic"},
    "vmap": {"engine": "autograd", "batching": "vmap"},
    "loop": {"engine": "autograd", "batching": "loop"},
}


SLOW = ("densenet121", "efficientnet_b0", "convnext_tiny", "mobilenet_v3_small",
        "shufflenet_v2_x0_5", "resnet18")  # fmt: skip
"""Networks that `make test-slow` alone runs; of the others it runs every estimator, and `make test`
the exact one and every other."""


def absent(entry: Entry) -> pytest.MarkDecorator:
    """Skips an entry whose package is not installed, which `entry.missing` names."""
    return pytest.mark.skipif(bool(entry.missing), reason=entry.missing)


def together(entry: Entry) -> pytest.MarkDecorator:
    """One worker runs all tests of an entry: its oracle and its engine are made once."""
    return pytest.mark.xdist_group(entry.name)


def cases() -> list[Any]:
    out = []
    for entry in RIGHT:
        labels = ("maml",) if entry.heavy else tuple(ESTIMATORS)
        for i, label in enumerate(labels):
            marks = [absent(entry), together(entry)]
            if entry.name in SLOW or (i > 0 and i % 2 != entry.seed % 2):
                marks.append(pytest.mark.slow)
            out.append(pytest.param(entry, label, id=f"{entry.name}-{label}", marks=marks))
    return out


def by_name(entries: list[Entry], half: bool = False) -> list[Any]:
    """The entries as parameters.

    Args:
        half: every other one, by its own number, is slow.
    """
    out = []
    for entry in entries:
        marks = [absent(entry), together(entry)]
        marks += [pytest.mark.slow] if half and entry.seed % 2 else []
        out.append(pytest.param(entry, id=entry.name, marks=marks))
    return out


@lru_cache(maxsize=4)  # the tests of one entry follow one another
def expected(name: str) -> dict[str, dict[str, Tensor]]:
    entry = ENTRIES[name]
    return oracle(entry, ("maml",) if entry.heavy else tuple(ESTIMATORS))


@lru_cache(maxsize=2)
def shared(name: str) -> nn.Module:
    """One network for an entry's estimators, as in a program that compares them."""
    return ENTRIES[name].build()


def check(entry: Entry, label: str, may_refuse: bool, **how: Any) -> None:
    try:
        found = product(entry, label, **how)
    except ConfigError:
        if may_refuse:
            return
        raise
    assert worst_error(found, expected(entry.name)[label]) < entry.allowed


def test_size_of_the_zoo():
    assert len(ENTRIES) >= 200
    assert len({e.kind for e in ENTRIES.values()}) >= 15


@pytest.mark.parametrize(("entry", "label"), cases())
def test_meta_gradient(entry, label):
    check(entry, label, entry.may_refuse, model=shared(entry.name))


def ways() -> list[Any]:
    """Every light entry on every rung; two of the three are slow, by the entry's own number."""
    out = []
    for entry in (e for e in RIGHT if not e.heavy):
        for i, rung in enumerate(RUNGS):
            marks = [absent(entry), together(entry)]
            marks += [pytest.mark.slow] if i != entry.seed // 4 % len(RUNGS) else []
            out.append(pytest.param(entry, rung, id=f"{entry.name}-{rung}", marks=marks))
    return out


@pytest.mark.parametrize(("entry", "rung"), ways())
def test_every_way_is_right_or_refused(entry, rung):
    label = ("maml", "binom2", "binom1", "trunc1")[entry.seed % 4]
    if entry.kind in ("recurrent", "loss"):
        torch.set_num_threads(2)  # the tasks side by side
    check(entry, label, True, **RUNGS[rung])


@pytest.mark.parametrize("entry", by_name(REFUSED))
def test_refused_in_words(entry):
    with pytest.raises(ConfigError) as caught:
        product(entry, "binom1")
    text = f"{caught.value} {caught.value.hint}"
    missing = [word for word in entry.refused if not re.search(word, text)]
    assert not missing, text
