"""Linear functions of torch, and attention with a learned bias, against double backward."""

from __future__ import annotations

import pytest
import torch
from test_layers_known import WIDE, Do, _one_thread, agree  # noqa: F401
from torch import nn
from torch.nn import functional as F

IMAGES = {
    "pad with zeros": lambda h: F.pad(h, (1, 0, 2, 1)),
    "pad with a number": lambda h: F.pad(h, (1, 0, 2, 1), value=0.7),
    "reflect": lambda h: F.pad(h, (1, 1, 1, 1), mode="reflect"),
    "replicate": lambda h: F.pad(h, (2, 1, 0, 1), mode="replicate"),
    "circular": lambda h: F.pad(h, (1, 1, 1, 1), mode="circular"),
    "cumsum": lambda h: torch.cumsum(h, 2),
    "flip": lambda h: h.flip(3),
    "roll": lambda h: torch.roll(h, 1, 2),
    "tril": torch.tril,
    "diagonal": lambda h: torch.diagonal(h, dim1=2, dim2=3),
    "pixel shuffle": lambda h: F.pixel_shuffle(h, 2),
    "pixel unshuffle": lambda h: F.pixel_unshuffle(h, 2),
    "unfold": lambda h: F.unfold(h, 2),
    "fold": lambda h: F.fold(F.unfold(h, 2), (4, 4), 2),
    "nearest": lambda h: F.interpolate(h, scale_factor=2),
    "bilinear": lambda h: F.interpolate(h, size=(3, 5), mode="bilinear", align_corners=True),
    "bicubic": lambda h: F.interpolate(h, size=(3, 5), mode="bicubic"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_functions_of_images(name):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.Tanh(), Do(IMAGES[name]), nn.Tanh(), Do(lambda h: h.flatten(1)),
        nn.LazyLinear(2),
    )  # fmt: skip
    x = torch.randn(2, 3, 2, 4, 4, dtype=WIDE)
    model.double()(x[0])
    agree(model, x)


class Biased(nn.Module):
    """Attention whose scores have a learned bias, alike for all points or made from them."""

    def __init__(self, made):
        super().__init__()
        self.project = nn.Linear(3, 12)
        self.bias = nn.Parameter(torch.randn(5, 5))
        self.made = made

    def forward(self, x):
        q, k, v = self.project(x).chunk(3, -1)
        bias = torch.tanh(q @ k.mT) + self.bias if self.made else self.bias
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).mean(1)


@pytest.mark.parametrize("made", [False, True])
def test_attention_with_a_learned_bias(made):
    torch.manual_seed(4)
    agree(Biased(made), torch.randn(2, 3, 5, 3, dtype=WIDE))
