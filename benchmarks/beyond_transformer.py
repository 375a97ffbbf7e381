"""A small transformer on patches of an image, for benchmarks/beyond.py."""

from __future__ import annotations

from torch import Tensor, nn


class Patches(nn.Module):
    """49 patches of 4x4 pixels of a 28x28 image, width 32, two layers, five classes."""

    def __init__(self, ways: int = 5) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 32)
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, ways)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(x.shape[0], 49, 16)
        out: Tensor = self.head(self.body(self.embed(patches)).mean(1))
        return out
