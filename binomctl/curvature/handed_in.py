"""Episodes as a caller hands them in, made batches of tasks of equal shapes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from binomctl.curvature.outputs import rows
from binomctl.episodes import EpisodeBatch, TaskNumbers
from binomctl.errors import ConfigError

Part = Any
"""Tensors [B, N, ...]: one, a tuple or a dict of them; or a list of B tasks' of unequal N."""

_AXES = "Every part is [tasks, examples, ...]; of one task it is t.unsqueeze(0)."


def plain(part: Any) -> Any:
    """Tensors made under inference mode as ordinary ones; all others as they are."""
    return tree_map(lambda t: t.clone() if isinstance(t, Tensor) and t.is_inference() else t, part)


def batches(episodes: Sequence[Part]) -> list[EpisodeBatch]:
    """The episodes as batches of tasks of equal shapes: one, unless tasks come as lists."""
    if not isinstance(episodes, tuple | list) or len(episodes) != 4:
        raise ConfigError("episodes must be four tensors: (x_trn, y_trn, x_val, y_val)")
    names = ("x_trn", "y_trn", "x_val", "y_val")
    for name, part in zip(names, episodes, strict=True):
        for task in part if isinstance(part, list) else [part]:
            leaves = tree_leaves(task)
            if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
                raise ConfigError(
                    f"episodes must be four tensors (or tuples, dicts of them): {name} is"
                    f" {type(task).__name__}"
                )
    if any(isinstance(part, list) for part in episodes):
        lengths = {len(part) if isinstance(part, list) else _tasks(part) for part in episodes}
        if len(lengths) != 1:
            raise ConfigError(f"the parts of episodes differ in their number of tasks: {lengths}")
        tasks = [
            [part[b] if isinstance(part, list) else rows(part, b) for part in episodes]
            for b in range(lengths.pop())
        ]
        batches = [[tree_map(lambda t: t.unsqueeze(0), part) for part in task] for task in tasks]
    else:
        batches = [list(episodes)]
    out = []
    for parts in batches:
        for name, part in zip(names, parts, strict=True):
            if any(leaf.dim() == 0 for leaf in tree_leaves(part)):
                raise ConfigError(f"{name} has no leading axis of tasks", _AXES)
        sizes = {len(leaf) for part in parts for leaf in tree_leaves(part)}
        if sizes == {0}:
            raise ConfigError("episodes hold no task: their leading axis is 0")
        if len(sizes) != 1:
            found = {name: len(tree_leaves(p)[0]) for name, p in zip(names, parts, strict=True)}
            listed = ", ".join(f"{name} {n}" for name, n in found.items())
            raise ConfigError(
                f"the four parts of episodes differ in their number of tasks: {listed}", _AXES
            )
        for name, part in zip(names, parts, strict=True):
            if any(leaf.dim() > 1 and leaf.shape[1] == 0 for leaf in tree_leaves(part)):
                raise ConfigError(f"{name} is empty: its tasks have no example")
        _warn_of_one_task(*parts[:2])
        out.append(EpisodeBatch(*map(plain, parts)))
    if not out:
        raise ConfigError("episodes hold no task")
    return out


def _warn_of_one_task(x: Part, y: Part) -> None:
    """Say how tensors are read that look like one task's, without the axis of tasks."""
    tensors = isinstance(x, Tensor) and isinstance(y, Tensor) and x.is_floating_point()
    if tensors and x.dim() == 2 and y.dim() <= 2:  # indices have no features
        warnings.warn(
            f"x_trn {list(x.shape)} and y_trn {list(y.shape)} are read as {len(x)} tasks, whose"
            f" examples have no features. {_AXES}",
            stacklevel=4,  # whoever called a MetaGradient
        )


def numbered(parts: list[EpisodeBatch], tasks: Sequence[int] | None) -> list[EpisodeBatch]:
    """The batches with the numbers of their tasks, where a caller gave them."""
    if tasks is None:
        return parts
    wanted = sum(map(len, parts))
    if len(tasks) != wanted:
        raise ConfigError(f"{len(tasks)} numbers of tasks for {wanted} tasks")
    out, at = [], 0
    for part in parts:
        mine = TaskNumbers(0, "train", tasks[at : at + len(part)])
        out.append(replace(part, numbers=mine))
        at += len(part)
    return out


def _tasks(part: Part) -> int:
    leaves = tree_leaves(part)
    return len(leaves[0]) if leaves else 0
