"""The same picture twice: in two splits it is a leak, in one class it is no further example."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from binomctl.images.store import ClassInfo

CLOSE = 4.0  # of 255, the mean difference of two pictures whose hashes agree


@dataclass(frozen=True)
class Twice:
    """leaks: a line for every picture that is in two splits; repeated: for every class with a
    picture several times; near: for every picture that is nearly one of another split's."""

    leaks: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)


def twice(
    images: NDArray[np.uint8],
    splits: Mapping[str, tuple[ClassInfo, ...]],
    progress: Callable[[int], None] = lambda rows: None,
) -> Twice:
    """Pictures [N, H, W, C] that occur twice, by content, whatever they are called.

    Nearly the same: equal difference hashes (8 rows of 8 comparisons of neighbours, of a grey
    picture of 8x9) and pixels that differ by less than `CLOSE` in the mean.
    """
    found = Twice()
    seen: dict[bytes, tuple[str, str, int]] = {}
    alike: dict[int, tuple[str, str, int]] = {}
    for split, classes in splits.items():
        for owner in classes:
            again: list[str] = []
            rows = images[owner.start : owner.start + owner.count]
            hashes = difference_hashes(rows)
            for i, (picture, near) in enumerate(zip(rows, hashes.tolist(), strict=True)):
                digest = hashlib.blake2b(
                    np.ascontiguousarray(picture).data, digest_size=16
                ).digest()
                here = (split, owner.name, i)
                before = seen.setdefault(digest, here)
                if before != here:
                    if before[0] != split:
                        found.leaks.append(f"{_place(here)} is {_place(before)} too")
                    elif before[1] == owner.name:
                        again.append(f"{before[2]} and {i}")
                    else:
                        found.repeated.append(f"{_place(here)} is {_place(before)} too")
                    continue
                kin = alike.setdefault(near, here)
                if kin[0] != split and _close(images, splits, kin, picture):
                    found.near.append(f"{_place(here)} is nearly {_place(kin)}")
            if again:
                more = f" and {len(again) - 1} more" if len(again) > 1 else ""
                found.repeated.append(
                    f"class '{owner.name}' of split '{split}' has a picture twice: {again[0]}{more}"
                )
            progress(owner.count)
    return found


def difference_hashes(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A number of 64 bits for every picture [N, H, W, C]: whether each of 8x8 places is lighter
    than its right neighbour, in a picture of 8x9."""
    grey = images.mean(-1, dtype=np.float32) if len(images) else np.zeros((0, 8, 9), np.float32)
    small = _means(_means(grey, 8, 1), 9, 2)
    bits = (small[:, :, :-1] > small[:, :, 1:]).reshape(len(images), 64)
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)


def _means(values: NDArray[np.float32], n: int, axis: int) -> NDArray[np.float32]:
    """The axis in n parts of about one length, each its mean."""
    size = values.shape[axis]
    edges = np.linspace(0, size, n + 1).astype(int)
    if size < n:  # each place its own mean
        edges = np.minimum(np.arange(n + 1), size)
    parts = [values.take(range(a, max(b, a + 1)), axis, mode="clip").mean(axis, keepdims=True)
             for a, b in itertools.pairwise(edges)]  # fmt: skip
    return np.concatenate(parts, axis)


def _close(
    images: NDArray[np.uint8],
    splits: Mapping[str, tuple[ClassInfo, ...]],
    place: tuple[str, str, int],
    picture: NDArray[np.uint8],
) -> bool:
    split, name, i = place
    owner = next(c for c in splits[split] if c.name == name)
    other = images[owner.start + i].astype(np.int16)
    return bool(np.abs(other - picture).mean() < CLOSE)


def _place(place: tuple[str, str, int]) -> str:
    split, name, i = place
    return f"picture {i} of class '{name}' of split '{split}'"
