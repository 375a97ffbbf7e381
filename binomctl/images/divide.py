"""Dividing classes into train, validation and test where the files do not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from binomctl.episodes import generator
from binomctl.errors import ConfigError, DataError, unknown
from binomctl.files.yaml_source import read_yaml
from binomctl.images.store import SPLITS, ClassInfo, overlaps

_DIVISION = f"It is YAML or JSON: {{{', '.join(f'{split}: [class, ...]' for split in SPLITS)}}}."


def at_random(
    classes: Sequence[ClassInfo], fractions: Sequence[float], seed: int
) -> Mapping[str, tuple[ClassInfo, ...]]:
    """Shares of the classes, at least one each, by a shuffle that depends on the seed alone.

    Raises:
        DataError: fewer than three classes.
    """
    if len(classes) < len(SPLITS):
        raise DataError(
            f"{len(classes)} classes cannot be divided into {', '.join(SPLITS)}",
            "Give a folder of three classes at least, or folders train, validation and test.",
        )
    ordered = sorted(classes, key=lambda c: c.name)
    order = generator(seed, "division of classes", 0).permutation(len(ordered))
    n = len(ordered)
    validation, test = (max(1, round(f * n)) for f in fractions[1:])
    train = max(1, n - validation - test)
    cuts = {"train": order[:train], "validation": order[train : train + validation]}
    cuts["test"] = order[train + validation :]
    return {split: tuple(ordered[i] for i in sorted(rows)) for split, rows in cuts.items()}


def meta_dataset(
    classes: Sequence[ClassInfo], counts: tuple[int, int, int]
) -> Mapping[str, tuple[ClassInfo, ...]]:
    """The division of Meta-Dataset (Triantafillou et al. 2020): two draws without repetition from
    numpy's legacy generator at seed 22, which give its published lists of classes.

    Args:
        classes: as many as the counts, in the order of their names.
        counts: of train, validation and test.
    """
    random = np.random.RandomState(22)
    seen = random.choice(len(classes), counts[0] + counts[1], replace=False)
    train = set(random.choice(seen, counts[0], replace=False).tolist())
    validation = set(seen.tolist()) - train
    rows = {"train": train, "validation": validation}
    rows["test"] = set(range(len(classes))) - train - validation
    return {split: tuple(classes[i] for i in sorted(own)) for split, own in rows.items()}


def alternate(classes: Sequence[ClassInfo]) -> Mapping[str, tuple[ClassInfo, ...]]:
    """Every second class for training, of the others in turn one for validation and one for test:
    the division of CUB in Chen et al. 2019, of Cars in Tseng et al. 2020.

    Args:
        classes: in the order of their names.
    """
    return {
        "train": tuple(classes[::2]),
        "validation": tuple(classes[1::4]),
        "test": tuple(classes[3::4]),
    }


def by_group(
    classes: Sequence[ClassInfo], fraction: float, seed: int
) -> tuple[tuple[ClassInfo, ...], tuple[ClassInfo, ...]]:
    """Split off a share of the groups ("group/class" names), at least one: (rest, share)."""
    groups = sorted({c.name.split("/")[0] for c in classes})
    if len(groups) < 2:
        raise DataError(
            f"one group of classes ({', '.join(groups)}) cannot be divided",
            "Give three groups at least.",
        )
    order = generator(seed, "division of groups", 0).permutation(len(groups))
    taken = {groups[i] for i in order[: max(1, round(fraction * len(groups)))]}
    rest = tuple(c for c in classes if c.name.split("/")[0] not in taken)
    return rest, tuple(c for c in classes if c.name.split("/")[0] in taken)


def by_file(classes: Sequence[ClassInfo], path: Path) -> Mapping[str, tuple[ClassInfo, ...]]:
    """The division that a YAML or JSON file gives: {train: [...], validation: [...], test: [...]}.

    Raises:
        ConfigError: the file is no readable YAML.
        DataError: it lacks a split, names an unknown class, or one in two splits.
    """
    try:
        listed, _ = read_yaml(path)
    except ConfigError as error:
        raise ConfigError(str(error), _DIVISION, key="dataset.split_file") from error
    if set(listed) != set(SPLITS) or not all(isinstance(v, list) for v in listed.values()):
        raise DataError(
            f"{path} must have the keys {', '.join(SPLITS)}, each a list of class names", _DIVISION
        )
    known = {c.name: c for c in classes}
    names = {s: [str(n) for n in listed[s]] for s in SPLITS}
    for split, wanted in names.items():
        for name in wanted:
            if name not in known:
                raise DataError(unknown("class", name, known, f"in {path}, split '{split}'"))
    if found := overlaps(names):
        raise DataError(f"{path}: {'; '.join(found)}", "Few-shot splits have no class in common.")
    return {s: tuple(known[n] for n in dict.fromkeys(wanted)) for s, wanted in names.items()}
