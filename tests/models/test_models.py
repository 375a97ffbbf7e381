"""The networks: shapes, what they are made of, a user's own by dotted path."""

from __future__ import annotations

import json

import pytest
import torch
from command import in_a_process
from dense_oracle import backpropagated, flat_loss
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.errors import ConfigError
from binomctl.models import MODELS, build_model

IMAGES = (3, 32, 32)
SMALL = {
    "mlp": {"width": 4},
    "conv4": {"filters": 2},
    "resnet12": {"filters": [2, 3, 4, 5]},
    "wrn28": {"widen": 1},
    "latent": {"body": "conv4", "filters": 2},
    "siren": {"width": 4},
    "timm": {"timm": "test_resnet"},
    "torchvision": {"torchvision": "shufflenet_v2_x0_5"},
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_seeded_weights(name):
    before = torch.get_rng_state()
    model = build_model(name, SMALL[name], IMAGES, 5, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert model(torch.rand(4, *IMAGES)).shape == (4, 5)
    for p, q in zip(
        model.parameters(), build_model(name, SMALL[name], IMAGES, 5, 3).parameters(), strict=True
    ):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["resnet12", pytest.param("wrn28", marks=pytest.mark.slow)])
def test_residual_networks_have_the_exact_meta_gradient(name):
    model = build_model(name, SMALL[name], IMAGES, 2, seed=0).double()
    x = torch.rand(2, 1, 4, *IMAGES, dtype=torch.float64)
    y = torch.tensor([[0, 1, 0, 1]])
    rows = binomctl.meta_gradient(
        model, F.cross_entropy, (x[0], y, x[1], y), estimator="maml", K=2, alpha=0.01
    )
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    trn, val = (flat_loss(model, F.cross_entropy, x[i, 0], y[0]) for i in (0, 1))
    expected = backpropagated(trn, val, theta, 2, 0.01)
    found = torch.cat([rows[n].reshape(-1) for n, _ in model.named_parameters()])
    assert (found - expected).norm() <= 1e-10 * expected.norm()


def test_conv4_variants():
    plain = build_model("conv4", {"filters": 2, "affine": False, "init": "xavier"}, IMAGES, 5, 0)
    assert "norm1.weight" not in dict(plain.named_parameters())
    assert "norm1.bias" in dict(plain.named_parameters())
    assert plain.conv1.bias.abs().max() == 0
    gamma = build_model("conv4", {"filters": 64, "init": "learn2learn"}, IMAGES, 5, 0).norm1.weight
    assert 0 <= gamma.min() < 0.2 < 0.8 < gamma.max() <= 1
    first = build_model("conv4", {"downsample": "pool-first"}, (3, 84, 84), 5, 0)
    assert [n for n, _ in first.named_children()][:4] == ["conv1", "pool1", "norm1", "relu1"]
    assert first(torch.rand(2, 3, 84, 84)).shape == (2, 5)  # 84, 42, 21, 11, 6: odd edges kept
    assert first.head.in_features == 32 * 6 * 6
    strided = build_model("conv4", {"filters": 64, "downsample": "stride"}, (1, 28, 28), 5, 0)
    assert strided.head.in_features == 64 * 2 * 2
    assert not any(isinstance(m, nn.MaxPool2d) for m in strided.modules())


@pytest.mark.parametrize("name", ["conv4", "resnet12", "wrn28"])
def test_what_is_no_image_or_too_small_is_refused(name):
    with pytest.raises(ConfigError, match="needs images"):
        build_model(name, {}, (3,), 5, 0)
    with pytest.raises(ConfigError, match="too small"):
        build_model(name, {}, (3, 7, 7), 5, 0)


OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width, out_dim):
        super().__init__()
        self.body = nn.Linear(1, width)
        self.head = nn.Linear(width, out_dim)

    def forward(self, x):
        return self.head(self.body(x).relu())

def nothing():
    return 3
"""
CONFIG = """
dataset: {name: sinusoid}
model: {import: "own_nets:Net", width: 7}
training: {steps: 3, meta_batch: 2, validation_tasks: 2}
rule: {name: anil}
"""


def test_a_user_s_own_network_by_dotted_path(tmp_path):
    (tmp_path / "own_nets.py").write_text(OWN)
    (tmp_path / "c.yaml").write_text(CONFIG)

    def run(*args):
        return in_a_process(*args, cwd=tmp_path)

    done = run("train", "--config", "c.yaml", "--out", "r", "--json")
    assert done.returncode == 0, done.stderr
    assert "22 parameters" in done.stderr
    tested = run("eval", "r", "--tasks", "3", "--json")
    assert tested.returncode == 0, tested.stderr
    assert json.loads(tested.stdout)["statistics"] is None
    assert "width: 7" in (tmp_path / "r" / "config.yaml").read_text()
    for value, word in (
        ("own_nets:Nett", "no 'Nett'"),
        ("own_netz:Net", "cannot import 'own_netz'"),
        ("own_nets", "not of the form"),
        ("own_nets:nothing", "own_nets:nothing is no network but a function"),
    ):
        failed = run("train", "--config", "c.yaml", "--set", f"model.import={value}")
        assert failed.returncode == 2
        assert word in failed.stderr
        assert "Traceback" not in failed.stderr
    failed = run("train", "--config", "c.yaml", "--set", "model.widht=3")
    assert failed.returncode == 2
    assert "--set model.widht=3: " in failed.stderr
    assert "Did you mean 'width'?" in failed.stderr


def test_a_loss_is_named_for_its_own_errors_and_told_what_it_is_given():
    def of_outputs_alone(outputs):
        return outputs.square().mean()

    x, y = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 1)
    for loss, word in (
        (of_outputs_alone, "the loss of_outputs_alone fails: TypeError"),
        (lambda o, y: (o @ y).mean(), "the loss <lambda> fails: RuntimeError: mat1 and mat2"),
    ):
        with pytest.raises(ConfigError, match=word) as told:
            binomctl.meta_gradient(nn.Linear(5, 1), loss, (x[0], y[0], x[1], y[1]))
        assert "one task's outputs, [4, 1], and targets, [4, 1]" in told.value.hint


def test_integer_inputs_go_to_networks_that_take_them():
    x = torch.randint(0, 5, (2, 2, 6, 3))
    y = torch.rand(2, 2, 6, 1)
    model = nn.Linear(3, 1)
    with pytest.raises(ConfigError, match="Linear fails: RuntimeError: mat1 and mat2"):
        binomctl.meta_gradient(model, F.mse_loss, (x[0], y[0], x[1], y[1]))
    embeds = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 1))
    found = binomctl.meta_gradient(embeds, F.mse_loss, (x[0], y[0], x[1], y[1]), K=2)
    assert set(found) == {"0.weight", "2.weight", "2.bias"}


class Scattering(torch.autograd.Function):
    """Has no deterministic backward pass on any device."""

    @staticmethod
    def forward(ctx, h):
        return h.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient).put(torch.arange(gradient.numel()), gradient)


class Scattered(nn.Linear):
    def forward(self, x):
        return Scattering.apply(super().forward(x))


def test_an_operation_that_is_not_deterministic_is_told_with_what_to_do():
    x, y = torch.randn(2, 1, 3, 4), torch.randn(2, 1, 3, 2)
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(
            ConfigError, match="Scattered fails: RuntimeError: put_ does not"
        ) as told:
            binomctl.meta_gradient(Scattered(4, 2), F.mse_loss, (x[0], y[0], x[1], y[1]))
    finally:
        torch.use_deterministic_algorithms(False)
    assert "engine.deterministic=false" in told.value.hint
