"""What methods add to a network: contexts, T layers."""

from __future__ import annotations

import pytest
import torch
from command import binomctl

from binomctl.errors import ConfigError
from binomctl.models import build_model

SHAPES = {"mlp": ((3,), {"width": 6}), "conv4": ((1, 16, 16), {"filters": 4})}


@pytest.mark.parametrize("name", SHAPES)
def test_t_layers_are_the_identity_at_first_and_change_no_other_name(name):
    shape, options = SHAPES[name]
    plain = build_model(name, options, shape, 3, 0)
    with_t = build_model(name, {**options, "t_layers": True}, shape, 3, 0)
    own = dict(with_t.named_parameters())
    assert {n for n in own if not n.startswith("t")} == {n for n, _ in plain.named_parameters()}
    with_t.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(4, *shape)
    assert torch.allclose(with_t(x), plain(x), atol=1e-6)
    own[next(n for n in own if n.startswith("t"))].data.mul_(2)
    if name == "mlp":  # a norm after a convolution undoes the scale
        assert not torch.allclose(with_t(x), plain(x), atol=1e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_a_context_of_zeros_does_nothing_and_others_do(name):
    shape, options = SHAPES[name]
    model = build_model(name, {**options, "context": 5}, shape, 3, 0)
    x = torch.randn(4, *shape)
    before = model(x)
    (context,) = [p for n, p in model.named_parameters() if n.endswith("context")]
    assert context.shape == (5,)
    assert not context.any()
    context.data.normal_()
    assert not torch.allclose(model(x), before, atol=1e-4)
    context.data.zero_()
    assert torch.equal(model(x), before)
    with pytest.raises(ConfigError, match="context = -1 is negative"):
        build_model(name, {**options, "context": -1}, shape, 3, 0)


@pytest.mark.parametrize("options", [
    ["--rule", "cavia", "--set", "model.context=4"],
    ["--set", "model.t_layers=true", "--set", 'rule.fixed=["t?.*"]'],
    ["--rule", "maml++"], ["--rule", "alfa"], ["--rule", "boil"], ["--rule", "unicorn"],
])  # fmt: skip
def test_methods_train_and_evaluate_and_leave(options, tmp_path):
    run = tmp_path / "run"
    few = ["--steps", 2, "--meta-batch", 2, "--K", 2, "--set", "model.filters=4", "--size", 16]
    few += ["--set", "training.validate_every=1", "--set", "training.validation_tasks=2"]
    binomctl("train", *options, *few, "--out", run)
    out, _ = binomctl("eval", run, "--tasks", 4)
    assert "accuracy" in out
    binomctl("export", run, "--format", "state-dict", "-o", tmp_path / "net.pt")
    spaces: dict[str, object] = {}
    exec(compile((tmp_path / "net.py").read_text(), "net.py", "exec"), spaces)
    own = torch.load(tmp_path / "net.pt", weights_only=True)
    spaces["network"]().load_state_dict(own, strict=False)
