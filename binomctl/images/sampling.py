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


def support_first(ways: int, need: int, shots: int) -> NDArray[np.int64]:
    """The order [ways * need] that brings images laid out [ways, need] into: the first `shots` of
    every class, class by class, then the others alike."""
    places = np.arange(ways * need).reshape(ways, need)
    return np.concatenate([places[:, :shots].ravel(), places[:, shots:].ravel()])


def turn(images: NDArray[np.uint8], turns: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Turn images [N, H, W, C], H = W, each by so many quarter turns [N]."""
    out = images
    for quarter in (1, 2, 3):
        those = turns % 4 == quarter
        if those.any():
            if out is images:
                out = images.copy()
            out[those] = np.rot90(images[those], quarter, axes=(1, 2))
    return out


def flip(images: NDArray[np.uint8], flips: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Mirror those of the images [N, H, W, C] that flips [N] marks, left to right."""
    out = images.copy()
    out[flips] = images[flips][:, :, ::-1]
    return out


def shift(images: NDArray[np.uint8], shifts: NDArray[np.int64], reach: int) -> NDArray[np.uint8]:
    """Pad images [N, H, W, C] with `reach` zeros and cut H x W at shifts [N, 2] in 0 .. 2 reach;
    at (reach, reach) an image stays as it is."""
    N, H, W = images.shape[:3]
    edge = (reach, reach)
    padded = np.pad(images, ((0, 0), edge, edge, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(1, 2))
    cut = windows[np.arange(N), shifts[:, 0], shifts[:, 1]]  # [N, C, H, W]
    return np.moveaxis(cut, 1, -1)


def to_episode(images: NDArray[np.uint8], ways: int, shots: int) -> Episode:
    """Images [N, H, W, C], support first, as a task of the classes 0 .. ways - 1, class by class.

    Nothing is copied, and the pixels stay uint8, x [n, C, H, W]; whoever moves them to a device
    scales them there.
    """
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    cut = ways * shots
    classes = torch.arange(ways)
    queries = (len(x) - cut) // ways
    return Episode(
        x[:cut],
        classes.repeat_interleave(shots),
        x[cut:],
        classes.repeat_interleave(queries),
    )
