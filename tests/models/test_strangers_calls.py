"""What strangers hand over: models, losses, episodes; each is taken, or refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from command import binomctl as binomctl_here
from torch import nn
from torch.nn import functional as F

import binomctl
from binomctl.curvature.adjusted import _bag
from binomctl.errors import ConfigError


class Asking(nn.Linear):
    """Reads a number in forward, which no vmap allows."""

    def forward(self, x):
        out = super().forward(x)
        return out if out.sum().item() == out.sum().item() else 2 * out


def test_vmap_is_tried_with_as_many_tasks_as_it_takes_together():
    x, y = torch.randn(2, 8, 5, 4), torch.randn(2, 8, 5, 1)
    meta = binomctl.MetaGradient(Asking(4, 1), F.mse_loss, K=2)
    meta((x[0], y[0], x[1], y[1]))
    assert meta.rung == "loop"


def test_a_network_that_vmap_cannot_run_is_trained(tmp_path, monkeypatch):
    """A run has no second way once it has begun: it is found before."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "asking_net.py").write_text("""
from torch import nn
class Net(nn.Linear):
    def __init__(self, in_shape, out_dim):
        super().__init__(in_shape[0], out_dim)
    def forward(self, x):
        return super().forward(x) * (1 if x.sum().item() > -1e9 else 2)
""")
    binomctl_here("train", "--dataset", "sinusoid", "--steps", 1, "--meta-batch", 6, "--set",
                  "training.validation_tasks=2", "--set", "model.import=asking_net:Net", "--out",
                  "run")  # fmt: skip


@pytest.mark.parametrize("model", [lambda x: x, "a name", nn.Linear])
def test_what_is_no_model_is_named(model):
    x = torch.randn(2, 3, 1)
    with pytest.raises(ConfigError, match=r"not a torch\.nn\.Module"):
        binomctl.meta_gradient(model, F.mse_loss, (x, x, x, x))


@pytest.mark.parametrize(
    "x", [np.zeros((2, 3, 4)), [1, 2], [np.zeros((3, 4))] * 2, 3.0, [], None], ids=str
)
def test_episodes_of_no_tensors_are_named(x):
    y = torch.zeros(2, 3, 1)
    with pytest.raises(ConfigError, match=r"x_trn is|no task|number of tasks"):
        binomctl.meta_gradient(nn.Linear(4, 1), F.mse_loss, (x, y, torch.zeros(2, 3, 4), y))


class Decaying(nn.Module):
    """A loss of the outputs and the parameters, as a module."""

    def forward(self, prediction, y, parameters):
        return F.mse_loss(prediction, y) + 0.1 * sum(p.square().sum() for p in parameters.values())


def test_a_loss_that_is_a_module_gets_the_parameters_it_asks_for():
    x, y = torch.randn(2, 2, 5, 4), torch.randn(2, 2, 5, 1)
    sets, net, module = (x[0], y[0], x[1], y[1]), nn.Linear(4, 1), Decaying()
    as_module = binomctl.meta_gradient(net, module, sets, estimator="maml", K=2)
    as_function = binomctl.meta_gradient(net, module.forward, sets, estimator="maml", K=2)
    for name, gradient in as_function.items():
        torch.testing.assert_close(as_module[name], gradient)


def test_indices_of_an_embedding_have_no_axis_of_features():
    x, y = torch.randint(0, 9, (3, 6)), torch.randn(3, 6)
    net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 1), nn.Flatten(0))
    binomctl.meta_gradient(net, F.mse_loss, (x, y, x, y), K=2)  # warnings are errors here


def test_a_bag_that_is_all_padding_is_zero_as_torch_has_it():
    rows = torch.tensor([[1, 2, 0], [0, 0, 0]])
    bag = nn.EmbeddingBag(4, 3, mode="max", padding_idx=0)
    torch.testing.assert_close(_bag(bag, rows), bag(rows))


def test_a_lack_of_memory_is_raised_as_it_is():
    def hungry(prediction, y):
        raise torch.OutOfMemoryError("CUDA out of memory")

    x, y = torch.randn(2, 5, 4), torch.randn(2, 5, 1)
    with pytest.raises(torch.OutOfMemoryError):
        binomctl.meta_gradient(nn.Linear(4, 1), hungry, (x, y, x, y))
