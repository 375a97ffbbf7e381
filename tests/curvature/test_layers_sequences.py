"""Layers of sequences, attention and embeddings, against double backward of the module itself."""

from __future__ import annotations

import math

import pytest
import torch
from test_layers_known import WIDE, _one_thread, agree  # noqa: F401
from torch import nn
from torch.nn import functional as F

SEQUENCES = {
    "layer norm": lambda: [nn.LayerNorm(4), nn.Linear(4, 3)],
    "layer norm, plain": lambda: [nn.Linear(4, 4), nn.LayerNorm(4, elementwise_affine=False)],
    "rms norm": lambda: [nn.Linear(4, 4), nn.RMSNorm(4)],
    "over two axes": lambda: [nn.Linear(4, 4), nn.LayerNorm((3, 4))],
    "batch norm": lambda: [nn.Linear(4, 4), nn.BatchNorm1d(3, track_running_stats=False)],
    "encoder": lambda: [nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)],
    "encoder, eval": lambda: [nn.TransformerEncoderLayer(4, 2, 6, batch_first=True).eval()],
    "encoder, norm first": lambda: [
        nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True, norm_first=True,
                                   activation="gelu")],
    "encoder, sequence first": lambda: [nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0)],
    "two encoders": lambda: [nn.TransformerEncoder(
        nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True), 2,
        enable_nested_tensor=False)],
    "flatten": lambda: [nn.Flatten(), nn.Linear(12, 3)],
    "unflatten": lambda: [nn.Linear(4, 6), nn.Unflatten(-1, (2, 3)), nn.Tanh(), nn.Flatten(2),
                          nn.Linear(6, 2)],
    "bilinear": lambda: [Two()],
}  # fmt: skip


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.both = nn.Bilinear(4, 4, 3)

    def forward(self, x):
        return self.both(x, x.sin())


@pytest.mark.parametrize("name", SEQUENCES)
def test_layers_of_sequences(name):
    torch.manual_seed(5)
    agree(nn.Sequential(*SEQUENCES[name]()), torch.randn(2, 4, 3, 4, dtype=WIDE))


class Attending(nn.Module):
    """A class token, positions, a temperature, masks and attention by hand."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.position = nn.Parameter(torch.randn(4, 4))
        self.temperature = nn.Parameter(torch.tensor(0.7))
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.register_buffer("mask", torch.ones(4, 4).tril().bool())

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position[: x.shape[1] + 1]
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.how == "by hand":
            scores = q @ k.transpose(-2, -1) * self.temperature / math.sqrt(q.size(-1))
            y = scores.masked_fill(~self.mask, -math.inf).softmax(-1) @ v
        elif self.how == "causal":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True) * self.temperature.exp()
        elif self.how == "masked":
            y = F.scaled_dot_product_attention(q, k, v, self.mask, scale=0.3) / self.temperature
        elif self.how == "einsum":
            scores = torch.einsum("nqe,nke->nqk", q, k) * self.temperature
            y = torch.einsum("nqk,nke->nqe", scores.softmax(-1), v)
        else:
            y = self.attention(q, k, v, need_weights=self.how == "weights")[0] * self.temperature
            return y.mean(1)
        return self.attention.out_proj(y)[:, 0] * self.attention.in_proj_weight.mean() + (
            self.attention.in_proj_bias.sum()
        )


@pytest.mark.parametrize("how", ["by hand", "causal", "masked", "einsum", "module", "weights"])
def test_attention(how):
    torch.manual_seed(6)
    agree(Attending(how), torch.randn(2, 4, 3, 4, dtype=WIDE))


class Words(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.words = nn.Embedding(7, 4, **options)
        self.places = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 7)

    def forward(self, x):
        return self.head((self.words(x) + self.places(torch.arange(x.shape[1]))).tanh())


@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}], ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_of_whole_numbers(options, tied):
    torch.manual_seed(7)
    model = Words(**options)
    if tied:
        model.head.weight = model.words.weight
    agree(model, torch.randint(0, 7, (2, 4, 5)))
