"""Layers put together by chance: the same ones at every run, from fixed seeds."""

from __future__ import annotations

import random
from collections.abc import Callable

from torch import nn

from zoo.entry import ce, normal, registrar, three

add = registrar("by chance", loss=ce, x=normal(2, 8, 8), y=three)

Step = tuple[str, Callable[[int, int], nn.Module | None]]


def steps(choice: random.Random) -> Callable[[int], tuple[nn.Module, int]]:
    """channels -> (a layer, its channels)."""

    def activation(c: int) -> tuple[nn.Module, int]:
        kinds = (nn.ReLU, nn.GELU, nn.Tanh, nn.ELU, nn.SiLU, nn.Softplus, nn.PReLU, nn.Hardswish)
        return choice.choice(kinds)(), c

    def convolution(c: int) -> tuple[nn.Module, int]:
        out = choice.choice((2, 4))
        return nn.Conv2d(
            c, out, choice.choice((1, 3)), padding=1, groups=choice.choice((1, 2))
        ), out

    def normalisation(c: int) -> tuple[nn.Module, int]:
        return choice.choice((
            nn.BatchNorm2d(c, track_running_stats=False), nn.GroupNorm(2, c),
            nn.InstanceNorm2d(c, affine=True), nn.BatchNorm2d(c).eval(),
        )), c  # fmt: skip

    def pooling(c: int) -> tuple[nn.Module, int]:
        return choice.choice((nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 1))), c

    def nested(c: int) -> tuple[nn.Module, int]:
        first, width = convolution(c)
        second, width = activation(width)
        return nn.Sequential(first, second), width

    kinds = (activation, convolution, normalisation, pooling, nested)
    return lambda c: choice.choice(kinds)(c)


def composed(seed: int, length: int) -> nn.Module:
    step, channels, layers = steps(random.Random(seed)), 2, []
    for _ in range(length):
        made, channels = step(channels)
        layers.append(made)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


for seed in range(20):
    add(f"by_chance_{seed}", lambda seed=seed: composed(seed, 3 + seed % 5))
