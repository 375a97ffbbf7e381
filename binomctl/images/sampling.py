"""Drawing and augmenting few-shot tasks, all images of a task at once, on uint8 pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    # A pixel as one element: numpy then moves C bytes at a time.
    pixels = np.ascontiguousarray(images).view(f"V{images.shape[3]}")[..., 0]
    out = pixels.copy()
    for quarter in (1, 2, 3):
        those = turns % 4 == quarter
        if those.any():
            out[those] = np.rot90(pixels[those], quarter, axes=(1, 2))
    return out.view(np.uint8).reshape(images.shape)


def flip(images: NDArray[np.uint8], flips: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Mirror those of the images [N, H, W, C] that flips [N] marks, left to right."""
    out = images.copy()
    if flips.any():  # torch mirrors bytes several times faster than numpy's negative stride
        out[flips] = torch.from_numpy(images[flips]).flip(2).numpy()
    return out


def shift(images: NDArray[np.uint8], shifts: NDArray[np.int64], reach: int) -> NDArray[np.uint8]:
    """Pad images [N, H, W, C] with `reach` zeros and cut H x W at shifts [N, 2] in 0 .. 2 reach;
    at (reach, reach) an image stays as it is."""
    out = np.zeros_like(images)
    H, W = images.shape[1:3]
    for image, to, (down, right) in zip(images, out, (shifts - reach).tolist(), strict=True):
        # One copy of a rectangle an image: no padded array is ever made.
        to[max(0, -down) : H - max(0, down), max(0, -right) : W - max(0, right)] = image[
            max(0, down) : H - max(0, -down), max(0, right) : W - max(0, -right)
        ]
    return out


LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's grey


def in_mode(x: Tensor, mode: str | None) -> Tensor:
    """Images [N, C, H, W] with the channels of "RGB" or "L": grey ones repeated, colours weighed;
    None: as they are."""
    if mode == "RGB" and x.shape[1] == 1:
        return x.expand(-1, 3, -1, -1)
    if mode == "L" and x.shape[1] == 3:
        weights = torch.tensor(LUMA, device=x.device)[:, None, None]
        grey = (x.float() * weights).sum(1, keepdim=True)
        return (grey if x.is_floating_point() else grey.round()).to(x.dtype)
    return x


def channels_of(mode: str | None, own: int) -> int:
    """How many channels images have in a mode."""
    return own if mode is None else 3 if mode == "RGB" else 1


def to_episode(images: NDArray[np.uint8], owners: NDArray[np.int64], support: int) -> Episode:
    """Images [N, H, W, C] of the classes owners [N] as a task, the first `support` its support set.

    Nothing is copied, and the pixels stay uint8, x [n, C, H, W]; whoever moves them to a device
    scales them there.
    """
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(owners)
    return Episode(x[:support], y[:support], x[support:], y[support:])
