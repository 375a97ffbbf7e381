"""Random images: nothing to learn and nothing to load, for measuring what a step costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from binomctl.episodes import Episode, check_split, generator
from binomctl.images.classification import Classification
from binomctl.options import at_least, option, plugin


@plugin
@dataclass(frozen=True)
class RandomImages(Classification):
    """Random pixels under random labels; 84x84x3, 5-way 1-shot as in Figure 4 of BinomGBML."""

    ways: int = option(5, "classes per task")
    shots: int = option(1, "support images per class")
    queries: int = option(15, "query images per class")
    channels: int = option(3, "channels of an image")
    image_size: int = option(84, "height and width in pixels")
    seed: int = option(0, "seed of the task stream")

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    recommended: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"model": {"name": "conv4"}, "adaptation": {"K": 5, "alpha": 0.01}}
    )

    def __post_init__(self) -> None:
        at_least(self, ways=2, shots=1, queries=1, channels=1, image_size=1)

    @property
    def in_shape(self) -> tuple[int, ...]:
        return (self.channels, self.image_size, self.image_size)

    def episode(self, split: str, index: int) -> Episode:
        """Uniform pixels, uint8; classes in order."""
        check_split(split, self.splits)
        random = generator(self.seed, split, index)
        parts = []
        for each in (self.shots, self.queries):
            pixels = random.integers(0, 256, (self.ways * each, *self.in_shape), dtype="uint8")
            parts += [torch.from_numpy(pixels), torch.arange(self.ways).repeat_interleave(each)]
        return Episode(*parts)
