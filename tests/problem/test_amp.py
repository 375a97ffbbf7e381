"""The query pass in bfloat16."""

from __future__ import annotations

import pytest
import torch
from command import binomctl, here

from binomctl.curvature import AutogradEngine
from binomctl.errors import ConfigError
from binomctl.problem import amp
from binomctl.problem.build import build_problem
from binomctl.settings.layers import load_config


def config(**overrides):
    given = {"dataset.image_size": 16, "model.filters": 8, "training.meta_batch": 3}
    given |= {key.replace("__", "."): value for key, value in overrides.items()}
    return load_config(overrides=given)[0]


def test_its_gradient_is_the_query_gradient_rounded():
    p = build_problem(config())
    batch = p.training_batch(range(3))
    low = AutogradEngine(amp.InBFloat16(p.model), p.dataset.loss)
    _, _, error = amp.compared(p.engine, low, p.theta, batch)
    assert 1e-4 < error < amp.TOLERANCE  # neither the same pass nor another gradient
    loss, g, prediction = low.query(p.theta.expand(3, -1), batch.x_val, batch.y_val)
    assert loss.dtype == g.dtype == prediction.dtype == torch.float32


def test_it_is_taken_where_it_is_faster_and_refused_where_not(monkeypatch):
    monkeypatch.setattr(amp, "compared", lambda *args: (2e-3, 1e-3, 0.01))
    p = build_problem(config(training__amp="bf16"))
    assert isinstance(p.engine.outer.module, amp.InBFloat16)
    assert p.engine.inner.layout.names == p.engine.layout.names
    for found, said in [((1e-3, 2e-3, 0.01), "no faster here: the query pass takes 2 ms"),
                        ((2e-3, 1e-3, 0.11), "off by 11.0%, more than 10%"),
                        ((2e-3, 1e-3, float("nan")), "off by nan")]:  # fmt: skip
        monkeypatch.setattr(amp, "compared", lambda *args, found=found: found)
        with pytest.raises(ConfigError, match=said):
            build_problem(config(training__amp="bf16"))
    with pytest.raises(ConfigError, match="wants dtype = float32"):
        build_problem(config(training__amp="bf16", dtype="float64"))


def test_the_command_decides_by_measuring():
    """Whichever it is on the machine at hand, it says so."""
    done = here("train", "--amp", "bf16", "--dry-run", "--set", "model.filters=4")
    assert done.returncode == 0 or "training.amp = bf16" in done.stderr
    _, err = binomctl("train", "--amp", "fp16", "--dry-run", code=2)
    assert "--amp" in err
