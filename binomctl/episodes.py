"""Episodes (one task's support and query sets) and the randomness they are drawn with."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from binomctl.errors import DataError, unknown
from binomctl.metric import Metric as Metric

ACCURACY = Metric("accuracy", "share", True)
MSE = Metric("mse", "number", False)


@dataclass(frozen=True)
class Episode:
    """One task: the support set (trn) it adapts on and the query set (val) it is judged by.

    Shapes: x_trn [N_trn, *in_shape], y_trn [N_trn] class indices or [N_trn, out_dim] targets,
    x_val and y_val alike with N_val rows.
    """

    x_trn: Tensor
    y_trn: Tensor
    x_val: Tensor
    y_val: Tensor


@dataclass(frozen=True)
class TaskNumbers:
    """Which tasks those of a batch are: what is random for a task is a pure function of it."""

    seed: int
    split: str
    indices: Sequence[int]

    @property
    def training(self) -> bool:
        """Whether these are tasks to meta-train on."""
        return self.split == "train"

    def of(self, which: slice) -> TaskNumbers:
        """Those of some of the tasks."""
        return TaskNumbers(self.seed, self.split, self.indices[which])

    def generators(self, what: str) -> Iterator[torch.Generator]:
        """A stream of random numbers for each task."""
        for index in self.indices:
            drawn = generator(self.seed, f"{what} of {self.split}", index).integers(2**63)
            yield torch.Generator().manual_seed(int(drawn))


@dataclass(frozen=True)
class EpisodeBatch:
    """B episodes of equal size, stacked: every field of `Episode` with a leading axis B.

    mini_batches: indices [B, K, n] of the support examples that inner step k sees; None: all.
    numbers: which tasks these are; None where nobody said.
    """

    x_trn: Tensor
    y_trn: Tensor
    x_val: Tensor
    y_val: Tensor
    mini_batches: Tensor | None = None
    _: KW_ONLY
    numbers: TaskNumbers | None = None

    @classmethod
    def stack(cls, episodes: Iterable[Episode]) -> EpisodeBatch:
        """Stack episodes of equal shapes; raises DataError when they differ."""
        listed = list(episodes)
        fields = ("x_trn", "y_trn", "x_val", "y_val")
        for field in fields:
            shapes = {tuple(getattr(e, field).shape) for e in listed}
            if len(shapes) != 1:
                raise DataError(
                    f"episodes of one meta-batch differ in the shape of {field}: {sorted(shapes)}",
                    "Give every task the same number of support and query examples, or each a"
                    " meta-step of its own: training.meta_batch=1.",
                )
        return cls(*(torch.stack([getattr(e, f) for e in listed]) for f in fields))

    def __len__(self) -> int:
        return len(tree_leaves(self.y_trn)[0])

    def tasks(self, which: slice) -> EpisodeBatch:
        """Some of the tasks."""
        parts = (self.x_trn, self.y_trn, self.x_val, self.y_val, self.mini_batches)
        return EpisodeBatch(
            *(tree_map(lambda t: None if t is None else t[which], p) for p in parts),
            numbers=None if self.numbers is None else self.numbers.of(which),
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> EpisodeBatch:
        """Move to a device; floating tensors also to dtype, class indices as they are."""

        def move(t: Tensor) -> Tensor:
            return t.to(device, dtype) if t.is_floating_point() else t.to(device)

        x_trn, y_trn, x_val, y_val = map(move, (self.x_trn, self.y_trn, self.x_val, self.y_val))
        return EpisodeBatch(x_trn, y_trn, x_val, y_val, self.mini_batches, numbers=self.numbers)


def generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random stream of one episode: a pure function of (seed, split, index).

    Philox is counter-based, so streams of neighbouring indices are independent and the same on
    every machine, in every process and in any order of asking.
    """
    key = [seed, zlib.crc32(split.encode()), index]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def mini_batches(seed: int, split: str, indices: range, N: int, size: int, K: int) -> Tensor:
    """Indices [B, K, size] of the examples that each inner step of each episode sees.

    Every task goes through its N support examples in a random order, then through another, and
    so on; size <= N. A pure function of (seed, split, index), as the episodes are.
    """
    rows = []
    for index in indices:
        random = generator(seed, f"mini-batches of {split}", index)
        orders = [random.permutation(N) for _ in range(-(-K * size // N))]
        rows.append(np.concatenate(orders)[: K * size].reshape(K, size))
    return torch.from_numpy(np.stack(rows))


def check_split(split: str, splits: tuple[str, ...]) -> None:
    """Refuse a split the data set does not have."""
    if split not in splits:
        raise DataError(unknown("split", split, splits), "Give one of them as --split.")
