"""Transformers for benchmarks/beyond.py and benchmarks/speed.py."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def encoder(width: int, layers: int, units: int) -> nn.TransformerEncoder:
    """Layers of four heads, normalised first, without dropout."""
    layer = nn.TransformerEncoderLayer(
        width, 4, units, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class Patches(nn.Module):
    """49 patches of 4x4 pixels of a 28x28 image, width 32, two layers, five classes."""

    def __init__(self, ways: int = 5) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 32)
        self.body = encoder(32, 2, 64)
        self.head = nn.Linear(32, ways)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(x.shape[0], 49, 16)
        out: Tensor = self.head(self.body(self.embed(patches)).mean(1))
        return out


class Transformer(nn.Module):
    """Sequences [N, tokens, 32], learned places, width 128, four layers; the mean token's class."""

    def __init__(self, tokens: int, ways: int) -> None:
        super().__init__()
        self.embed = nn.Linear(32, 128)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, 128))
        self.body = encoder(128, 4, 512)
        self.head = nn.Linear(128, ways)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(self.embed(x) + self.place).mean(1))
        return out


class ViT(nn.Module):
    """A small vision transformer: 8x8 patches by a convolution, a class token, width 128, four
    layers."""

    def __init__(self, channels: int, size: int, ways: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, 128, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 128))
        self.place = nn.Parameter(0.02 * torch.randn((size // 8) ** 2 + 1, 128))
        self.body = encoder(128, 4, 512)
        self.norm = nn.LayerNorm(128)
        self.head = nn.Linear(128, ways)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).mT
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.place
        out: Tensor = self.head(self.norm(self.body(tokens))[:, 0])
        return out


NETWORKS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "transformer": lambda shape, ways: Transformer(shape[0], ways),
    "vit": lambda shape, ways: ViT(shape[0], shape[1], ways),
}
"""By the name of a workload's model: the module for inputs of a shape and so many classes."""
