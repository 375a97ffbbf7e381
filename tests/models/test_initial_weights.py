"""Weights of a file as a network's first ones."""

from __future__ import annotations

import json
import warnings

import pytest
import safetensors.torch
import torch
from command import binomctl
from torch import nn

from binomctl.errors import ConfigError
from binomctl.models import build_model
from binomctl.models.backbones import with_norm
from binomctl.models.weights import load_weights
from binomctl.runs import RunDirectory

SHAPE = (3, 84, 84)
QUICK = ["--steps", 2, "--meta-batch", 2, "--set", "training.validate_every=2", "--set",
         "training.validation_tasks=2", "--set", "dataset.image_size=16", "--set",
         "model.filters=4"]  # fmt: skip


def learn2learn_network(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports are of another age
        models = pytest.importorskip("learn2learn.vision.models", reason="learn2learn is absent")
    made = {
        "conv4": lambda: models.CNN4(5, hidden_size=8, layers=4, embedding_size=8 * 25),
        "resnet12": lambda: models.ResNet12(5, dropblock_dropout=0.0),
        "wrn28": lambda: models.WRN28(5),
    }
    return made[name]()


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [("conv4", False), ("conv4", True), ("resnet12", True),
     *(pytest.param(*pair, marks=pytest.mark.slow)
       for pair in (("resnet12", False), ("wrn28", False), ("wrn28", True)))],
)  # fmt: skip
def test_learn2learn_s_weights_say_the_same_here(tmp_path, name, wrapped):
    torch.manual_seed(1)
    theirs = learn2learn_network(name)
    for part in theirs.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    state = {("module." if wrapped else "") + n: t for n, t in theirs.state_dict().items()}
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "w.pt")
    ours = build_model(name, {"filters": 8} if name == "conv4" else {}, SHAPE, 5, 0)
    assert load_weights(ours, tmp_path / "w.pt", name) == []
    x = torch.rand(3, *SHAPE)
    with torch.no_grad():
        wanted = with_norm(theirs, "batch")(x)
        torch.testing.assert_close(ours.eval()(x), wanted, rtol=1e-4, atol=1e-5)


def test_differences_are_named_and_allowed_when_asked(tmp_path):
    other = build_model("conv4", {"filters": 8}, SHAPE, 7, 3)
    safetensors.torch.save_file(other.state_dict(), tmp_path / "w.safetensors")
    ours = build_model("conv4", {"filters": 8}, SHAPE, 5, 0)
    before = ours.head.weight.detach().clone()
    with pytest.raises(ConfigError, match=r"head.bias: \[7\] in the file, \[5\] in the network"):
        load_weights(ours, tmp_path / "w.safetensors", "conv4")
    assert torch.equal(ours.head.weight, before)
    assert not torch.equal(ours.conv1.weight, other.conv1.weight)  # nothing by halves
    said = load_weights(ours, tmp_path / "w.safetensors", "conv4", strict=False)
    assert len(said) == 2
    assert torch.equal(ours.conv1.weight, other.conv1.weight)
    assert torch.equal(ours.head.weight, before)


def test_what_is_no_weights_is_refused(tmp_path):
    ours = build_model("mlp", {}, (1,), 1, 0)
    with pytest.raises(ConfigError, match="cannot read"):
        load_weights(ours, tmp_path / "none.pt", "mlp")
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match="cannot read"):
        load_weights(ours, tmp_path / "w.safetensors", "mlp")
    torch.save(ours, tmp_path / "module.pt")
    with pytest.raises(ConfigError, match="holds no plain tensors"):
        load_weights(ours, tmp_path / "module.pt", "mlp")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ConfigError, match="is no state_dict"):
        load_weights(ours, tmp_path / "list.pt", "mlp")
    torch.save({"a": torch.zeros(2)}, tmp_path / "foreign.pt")
    with pytest.raises(ConfigError, match="does not fit mlp"):
        load_weights(ours, tmp_path / "foreign.pt", "mlp", strict=False)


def test_a_training_begins_at_them_and_is_verified(tmp_path):
    binomctl("train", *QUICK, "--out", tmp_path / "first")
    binomctl("train", *QUICK, "--init", tmp_path / "first", "--meta-lr", 1e-30, "--out",
             tmp_path / "second")  # fmt: skip
    first, second = (RunDirectory.open(tmp_path / n).checkpoints for n in ("first", "second"))
    a, b = first.load("best").model, second.load("last").model
    assert all(torch.equal(a[name], b[name]) for name in a)
    out, _ = binomctl("verify", tmp_path / "second", "--steps", 2, "--json")
    assert json.loads(out)["replayed"]["same"]
    _, err = binomctl("train", *QUICK, "--init", tmp_path / "none.pt", "--dry-run", code=2)
    assert "none.pt" in err
    _, err = binomctl("train", *QUICK, "--init", tmp_path / "first", "--ways", 7, "--dry-run",
                      code=2)  # fmt: skip
    assert "head.bias" in err
    assert "init_strict=false" in err
    _, err = binomctl("train", *QUICK, "--init", tmp_path / "first", "--ways", 7, "--dry-run",
                      "--set", "init_strict=false")  # fmt: skip
    assert "head.weight: [5, 4] in the file, [7, 4] in the network" in err
