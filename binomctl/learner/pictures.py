"""A user's own pictures, in folders, as the examples that a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from binomctl.errors import ConfigError, DataError
from binomctl.images.passed_over import is_clutter
from binomctl.images.sources import (
    SUFFIXES,
    Shape,
    SourceClass,
    class_folders,
    images_in,
    pixels,
)
from binomctl.learner.adapted import Adapted
from binomctl.learner.learner import Learner
from binomctl.problem.datasets import build_dataset


@dataclass(frozen=True)
class Pictures:
    """Pictures with their places, and their classes where folders say them.

    x: uint8 [N, C, H, W]. labels: a class a picture; None where nothing says it.
    """

    paths: tuple[Path, ...]
    x: Tensor
    labels: tuple[str, ...] | None


def shape_for(network: Learner | Adapted, invert: bool | None) -> Shape:
    """What pictures become for a network: its channels and size.

    Args:
        invert: whether black on white becomes white on black; None for what its data set did.

    Raises:
        ConfigError: it takes no pictures.
    """
    if len(network.in_shape) != 3 or network.in_shape[0] not in (1, 3):
        raise ConfigError(
            f"the network takes examples of {list(network.in_shape)}, which are no pictures",
            "For numbers give CSV files.",
        )
    channels, height, width = network.in_shape
    if height != width:
        raise ConfigError(f"the network takes pictures of {height}x{width}, which are not square")
    if invert is None:
        recipe = getattr(build_dataset(network.config), "recipe", None)
        invert = bool(recipe is not None and recipe.shape.invert)
    return Shape("L" if channels == 1 else "RGB", height, invert)


def support_pictures(folder: Path, shape: Shape) -> Pictures:
    """The pictures of class folders, any number in each.

    Raises:
        DataError: no such folder, fewer than two classes, a folder without pictures, one that
            cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", "Give a folder of class folders.")
    classes = class_folders(folder)
    empty = _without_pictures(folder, classes)
    if empty:
        raise DataError(
            f"{folder}: no picture in {', '.join(empty)}",
            f"A class is a folder with pictures ({' '.join(sorted(SUFFIXES))}).",
        )
    if len(classes) < 2:
        found = f"one class, {classes[0].name}" if classes else "no class folder with pictures"
        raise DataError(f"{folder} holds {found}", "Give a folder for each of two classes or more.")
    return _read(classes, shape)


def query_pictures(path: Path, shape: Shape, classes: Sequence[str]) -> Pictures:
    """A picture, the pictures of a folder, or those of class folders, which say what is right.

    Raises:
        DataError: nothing there, a class that the support set lacks, pictures beside class folders.
    """
    if path.is_file():
        return _read([SourceClass("", [path], path.parent)], shape, labelled=False)
    if not path.is_dir():
        raise DataError(f"there is no {path}", "Give a folder of pictures.")
    folders, flat = class_folders(path), images_in(path)
    if folders and flat and flat[0].parent == path:
        raise DataError(
            f"{path} holds pictures and class folders: {flat[0].name}, {folders[0].name}",
            "Give one or the other.",
        )
    if flat:
        return _read([SourceClass("", flat, path)], shape, labelled=False)
    if not folders:
        raise DataError(f"{path} holds no picture", f"Known: {' '.join(sorted(SUFFIXES))}.")
    if strange := [c.name for c in folders if c.name not in classes]:
        raise DataError(
            f"{path}: {', '.join(strange)} is no class of the support set",
            f"Its classes are {', '.join(classes)}.",
        )
    if empty := _without_pictures(path, folders):
        raise DataError(f"{path}: no picture in {', '.join(empty)}", "Take the folder away.")
    return _read(folders, shape)


def brightness_note(learner: Learner, x: Tensor) -> str:
    """A word where the pictures are mostly light and those of training mostly dark, or the other
    way round; empty where they are alike or the data of training are not at hand."""
    try:
        trained = build_dataset(learner.config).episode("train", 0).x_trn
    except Exception:  # another machine, without the data
        return ""
    scale = 255.0 if trained.dtype == torch.uint8 else 1.0
    there, here = float(trained.float().mean()) / scale, float(x.float().mean()) / 255
    if (there - 0.5) * (here - 0.5) >= 0 or abs(there - here) < 0.3:
        return ""
    return (
        f"the pictures are mostly {'light' if here > there else 'dark'} (mean {here:.2f}), those of"
        f" training were not (mean {there:.2f}): --invert may be missing"
    )


def _without_pictures(folder: Path, classes: Sequence[SourceClass]) -> list[str]:
    known = {c.name for c in classes}
    return [
        p.name for p in sorted(folder.iterdir())
        if p.is_dir() and not is_clutter(p) and p.name not in known
    ]  # fmt: skip


def _read(classes: Sequence[SourceClass], shape: Shape, *, labelled: bool = True) -> Pictures:
    paths = [path for owner in classes for path in owner.images]
    arrays = [pixels(owner, i, shape, False) for owner in classes for i in range(len(owner.images))]
    x = torch.from_numpy(np.ascontiguousarray(np.stack(arrays).transpose(0, 3, 1, 2)))
    labels = tuple(owner.name for owner in classes for _ in owner.images)
    return Pictures(tuple(paths), x, labels if labelled else None)
