"""The head of a network is the layer that its output is computed with."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from written_methods import (
    WAYS,
    HeadFirst,
    WithContext,
)

from binomctl.heads import head_of
from binomctl.models import build_model


class Tied(nn.Module):
    """A head without a module of its own, scaled by a temperature."""

    def __init__(self):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(WAYS, 4))
        self.body = nn.Linear(5, 4)
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.temperature * F.linear(F.normalize(self.body(x)), self.prototypes)


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(4, WAYS))
        self.body = nn.Linear(5, 4)

    def forward(self, x):
        return {"logits": self.head(F.relu(self.body(x)))}


@pytest.mark.parametrize(
    ("cls", "wanted"),
    [
        (HeadFirst, {"head.weight", "head.bias"}),
        (WithContext, {"head.weight", "head.bias"}),
        (Tied, {"prototypes"}),
        (Normed, {"head.bias", "head.parametrizations.weight.original0",
                  "head.parametrizations.weight.original1"}),
        (lambda: build_model("conv4", {"filters": 4}, (1, 16, 16), 3, 0),
         {"head.weight", "head.bias"}),
        (lambda: build_model("resnet12", {"filters": [2, 2, 2, 2]}, (1, 16, 16), 3, 0),
         {"head.weight", "head.bias"}),
    ],
)  # fmt: skip
def test_the_head_is_what_the_output_comes_from(cls, wanted):
    model = cls()
    images = isinstance(model, nn.Sequential) or hasattr(model, "layers")
    x = torch.randn(3, *((1, 16, 16) if images else (5,)))
    before = {n: v.clone() for n, v in model.state_dict().items()}
    assert set(head_of(model, x)) == wanted
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
