"""What a call leaves behind: nothing. And what it reads anew: everything."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from binomctl.errors import BinomctlError
from zoo.call import product
from zoo.catalogue import ENTRIES
from zoo.entry import Entry
from zoo.oracle import worst_error
from zoo.purity import anatomy, differences
from zoo.test_zoo import by_name

LIGHT = [e for e in ENTRIES.values() if not e.heavy]
RIGHT = [e for e in LIGHT if e.refused is None and not e.may_refuse]


def copies(model: nn.Module) -> bool:
    try:
        copy.deepcopy(model)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("entry", by_name(LIGHT))
def test_the_module_is_as_it_was(entry):
    """Parameters, buffers, attributes, hooks and flags; it copies and saves as before."""
    copied = copies(entry.build())
    model = entry.build()
    with contextlib.suppress(BinomctlError):
        product(entry, "fomaml", model)
    assert copies(model) == copied
    if any(isinstance(p, nn.UninitializedParameter) for p in model.parameters()):
        return
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    read, fresh = torch.load(file, weights_only=True), entry.build().state_dict()
    assert list(read) == list(fresh)
    assert all(torch.equal(read[name], fresh[name]) for name in fresh)


@pytest.mark.parametrize("entry", by_name(RIGHT))
def test_the_module_is_as_it_was_after_an_error(entry):
    """The loss raises, at its first call or a later one."""
    calls, last = 0, 1 + entry.seed % 4

    def failing(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= last:
            raise KeyError("label")
        return entry.loss(*args)

    parameters = {"with_parameters": failing} if entry.with_parameters else {}
    broken = Entry(**{**entry.__dict__, "loss": three(failing) if parameters else two(failing)})
    model = entry.build()
    with pytest.raises((BinomctlError, KeyError)):
        product(broken, "binom1", model)


def two(function: Any) -> Any:
    return lambda prediction, y: function(prediction, y)


def three(function: Any) -> Any:
    return lambda prediction, y, parameters: function(prediction, y, parameters)


@pytest.mark.parametrize("entry", by_name(RIGHT, half=True))
def test_values_are_read_anew(entry):
    """After a step in place the same module gives what a fresh one with these weights gives."""
    used, fresh = entry.build(), entry.build()
    product(entry, "binom1", used)
    with torch.no_grad():
        for net in (used, fresh):
            for p in net.parameters():
                p.mul_(0.9)
            for b in net.buffers():
                if b.is_floating_point():
                    b.mul_(1.1)
    again = product(entry, "binom1", used)
    assert worst_error(again, product(entry, "binom1", fresh)) < entry.allowed


def test_the_watch_sees_changes():
    """Of a weight's bits, an attribute, a hook, a flag, a list, the order of parts."""

    def changed(act: Any) -> list[str]:
        model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        model.kept = [1]
        before = anatomy(model)
        act(model)
        return differences(before, anatomy(model))

    def nudge(model: nn.Module) -> None:
        with torch.no_grad():
            model[0].weight[0, 0].add_(1e-16)
            model[0].weight[0, 0].mul_(1 + 1e-6)

    assert changed(lambda m: None) == []
    assert changed(nudge)
    assert changed(lambda m: setattr(m, "extra", 1))
    assert changed(lambda m: m.kept.append(2))
    assert changed(lambda m: m[1].register_forward_hook(lambda *a: None))
    assert changed(lambda m: m.eval())
    assert changed(lambda m: m[0].requires_grad_(False))
    assert changed(lambda m: setattr(m[0], "weight", nn.Parameter(m[0].weight.detach().clone())))
    assert changed(lambda m: m._modules.update({"0": m._modules.pop("0")}))
