"""What the layer algebra does not know is refused by name, and which engine then computes."""

from __future__ import annotations

import logging

import pytest
import torch
from command import in_a_process
from test_analytic import agree, image_net, norm
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.curvature import AutogradEngine, choose_engine
from binomctl.curvature.analytic import native
from binomctl.curvature.analytic.engine import AnalyticEngine
from binomctl.curvature.analytic.recognise import Unsupported, recognise
from binomctl.errors import ConfigError
from binomctl.models.conv4 import Conv4
from binomctl.models.mlp import MLP


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x) if x.sum() > 0 else self.head(-x)


class Lookalike(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x)


UNKNOWN = {
    "GELU at '1'": lambda: nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3)),
    "Dropout at '1' draws": lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
    "uses running statistics": lambda: image_net(nn.BatchNorm2d(4)),
    "groups": lambda: image_net(nn.Conv2d(4, 4, 3, padding=1, groups=2)),
    "padding by name": lambda: image_net(nn.Conv2d(4, 4, 3, padding="same")),
    "not of zeros": lambda: image_net(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    "negative slope": lambda: nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(-0.1)),
    "cannot be traced": Branches,
    "0.weight": lambda: nn.Sequential(Lookalike(4, 3)),
    "does not depend on parameter 'spare": Unused,
    "LayerNorm": lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
}


@pytest.mark.parametrize("words", UNKNOWN)
def test_what_is_not_known_is_refused_by_name(words):
    with pytest.raises(Unsupported, match=words):
        recognise(UNKNOWN[words]())


class Centred(nn.Module):
    """Its gradients are not those of its outputs, which no trace shows."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        out = self.head(x)
        with torch.no_grad():
            centre = out.mean(0)
        return out - centre


def test_a_network_that_is_read_wrongly_is_found_out_and_left_to_autograd(caplog):
    x = torch.randn(4, 5)
    with caplog.at_level(logging.DEBUG, "binomctl"):
        engine = choose_engine(Centred(), F.mse_loss, x)
    assert isinstance(engine, AutogradEngine)
    assert "autograd engine:" in caplog.text
    with pytest.raises(ConfigError, match="the analytic engine cannot compute"):
        choose_engine(Centred(), F.mse_loss, x, kind="analytic")


def test_the_engine_is_chosen_by_the_network(caplog):
    conv4, x = Conv4(filters=2).build((1, 16, 16), 3), torch.rand(3, 1, 16, 16)
    assert isinstance(choose_engine(conv4, F.cross_entropy, x), AnalyticEngine)
    assert isinstance(choose_engine(conv4, F.cross_entropy, x, kind="autograd"), AutogradEngine)
    gelu = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3))
    assert isinstance(choose_engine(gelu, F.cross_entropy, torch.rand(3, 4)), AnalyticEngine)
    hooked = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3))
    hooked[1].register_forward_hook(lambda module, args, out: out.detach())
    with caplog.at_level(logging.DEBUG, "binomctl"):
        engine = choose_engine(hooked, F.cross_entropy, torch.rand(3, 4))
    assert isinstance(engine, AutogradEngine)
    assert "values are detached" in caplog.text
    half = conv4.half()
    with pytest.raises(ConfigError, match=r"parameters of type torch.float16"):
        choose_engine(half, F.cross_entropy, x.half(), kind="analytic")
    with pytest.raises(ConfigError, match=r"batch norm on constants"):
        choose_engine(conv4.float(), F.cross_entropy, x, kind="analytic", statistics=lambda k: {})


def test_from_the_command_line(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(256, 8), nn.GELU(), nn.Linear(8, 3))\n"
        "    def forward(self, x):\n"
        "        out = super().forward(x)\n"
        "        return out - out.detach().mean(0)\n"
    )
    command = [
        "train", "--steps", "1", "--ways", "3", "--meta-batch",
        "2", "--set", "dataset.image_size=16", "--set", "training.validation_tasks=2",
        "--set", "model.import=mine:Net",
    ]  # fmt: skip
    done = in_a_process(*command, "--engine", "analytic", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "values are detached inside forward" in done.stderr
    assert "Traceback" not in done.stderr
    done = in_a_process(*command, "--engine", "auto", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_the_library_s_door_takes_an_engine():
    torch.manual_seed(1)
    model = MLP(width=5).build((2,), 1).double()
    x, y = torch.randn(2, 2, 4, 2, dtype=torch.float64), torch.randn(2, 2, 4, 1).double()
    episodes = (x[0], y[0], x[1], y[1])
    one, two = (
        binomctl.meta_gradient(model, F.mse_loss, episodes, L=2, engine=e)
        for e in ("analytic", "autograd")
    )
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-10, atol=1e-12)
    with pytest.raises(ConfigError, match="Did you mean 'analytic'"):
        binomctl.meta_gradient(model, F.mse_loss, episodes, engine="analitic")


def test_without_a_compiler_the_torch_operations_serve(monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "no-such-compiler")
    native._library.cache_clear()
    try:
        with caplog.at_level(logging.DEBUG, "binomctl"):
            assert not native.compiled()
        assert "no C compiler" in caplog.text
        agree(image_net(norm(), nn.ReLU(), nn.MaxPool2d(2)), (2, 6, 6))
    finally:
        native._library.cache_clear()
