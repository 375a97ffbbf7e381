"""Drawing and augmenting few-shot tasks, all images of a task at once, on uint8 pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from binomctl.episodes import Episode


def draw(
    counts: NDArray[np.int64], ways: int, need: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes [ways] without repetition, and images [ways, need] of each without repetition.

    Args:
        counts: how many images each class has; all at least `need`.
    """
    chosen = random.choice(len(counts), ways, replace=False)
    most = int(counts[chosen].max())
    # The `need` smallest of random keys are a uniform draw without repetition.
    keys = random.random((ways, most))
    keys[np.arange(most) >= counts[chosen][:, None]] = 2.0  # rows that a smaller class lacks
    if need < most:
        first = np.argpartition(keys, need - 1, axis=1)[:, :need]
        order = np.take_along_axis(keys, first, 1).argsort(axis=1)
        return chosen, np.take_along_axis(first, order, 1)
    return chosen, keys.argsort(axis=1)[:, :need]


def turn(images: NDArray[np.uint8], turns: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Turn every class [ways] by so many quarter turns: images [ways, n, H, W, C], H = W."""
    out = images
    for quarter in (1, 2, 3):
        ways = turns % 4 == quarter
        if ways.any():
            if out is images:
                out = images.copy()
            out[ways] = np.rot90(images[ways], quarter, axes=(2, 3))
    return out


def flip(images: NDArray[np.uint8], flips: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Mirror the images [ways, n, H, W, C] that flips [ways, n] marks, left to right."""
    out = images.copy()
    out[flips] = images[flips][:, :, ::-1]
    return out


def shift(images: NDArray[np.uint8], shifts: NDArray[np.int64], reach: int) -> NDArray[np.uint8]:
    """Pad images [ways, n, H, W, C] with `reach` zeros and cut H x W at shifts [ways, n, 2] in
    0 .. 2 reach; at (reach, reach) an image stays as it is."""
    ways, n, H, W = images.shape[:4]
    edge = (reach, reach)
    padded = np.pad(images, ((0, 0), (0, 0), edge, edge, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(2, 3))
    w, i = np.ogrid[:ways, :n]
    cut = windows[w, i, shifts[..., 0], shifts[..., 1]]  # [ways, n, C, H, W]
    return np.moveaxis(cut, 2, -1)


def to_episode(images: NDArray[np.uint8], shots: int) -> Episode:
    """Images [ways, shots + queries, H, W, C] as a task: classes 0 .. ways - 1, class by class.

    The pixels stay uint8, x [ways * n, C, H, W]; whoever moves them to a device scales them there.
    """
    ways, need = images.shape[:2]
    x = torch.from_numpy(images).permute(0, 1, 4, 2, 3)
    y = torch.arange(ways).unsqueeze(1).expand(-1, need)
    return Episode(
        x[:, :shots].flatten(0, 1),
        y[:, :shots].flatten(),
        x[:, shots:].flatten(0, 1),
        y[:, shots:].flatten(),
    )
