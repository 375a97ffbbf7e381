"""Tasks of a run: drawn from a data set, placed on the device."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from binomctl.contracts import Dataset
from binomctl.episodes import Episode, EpisodeBatch, TaskNumbers, mini_batches
from binomctl.errors import BinomctlError, DataError


@dataclass(frozen=True)
class Tasks:
    """A data set's episodes as batches.

    Args:
        seed: of the order of examples in mini-batches.
        pixels: "unit" for images in [0, 1], "raw" for [0, 255].
        like: a tensor of the device and type that batches are placed in.
    """

    dataset: Dataset
    seed: int
    pixels: Literal["unit", "raw"]
    like: Tensor

    def draw(self, split: str, indices: range, K: int, size: int | None) -> EpisodeBatch:
        """Episodes of a split as they come from the data set, in mini-batches of `size` for K
        steps if given; a pure function, which any thread may call."""
        batch = EpisodeBatch.stack(self._episode(split, i) for i in indices)
        numbers = TaskNumbers(self.seed, split, indices)
        batch = dataclasses.replace(batch, numbers=numbers)
        if size is not None:
            N = batch.y_trn.shape[1]
            order = mini_batches(self.seed, split, indices, N, min(size, N), K)
            batch = dataclasses.replace(batch, mini_batches=order)
        return batch

    def _episode(self, split: str, index: int) -> Episode:
        """An episode of a data set that anybody may have written.

        Raises:
            DataError: it fails, or gives something else.
        """
        place = f"{type(self.dataset).__name__}.episode('{split}', {index})"
        try:
            found = self.dataset.episode(split, index)
        except (BinomctlError, MemoryError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise DataError(
                f"{place} fails: {type(error).__name__}: {reason}",
                "--debug shows where; binomctl.testing.check_dataset checks a data set.",
            ) from error
        if not isinstance(found, Episode):
            raise DataError(
                f"{place} gives {type(found).__name__}, not an Episode",
                "binomctl.testing.check_dataset checks a data set.",
            )
        return found

    def place(self, batch: EpisodeBatch) -> EpisodeBatch:
        """A drawn batch on the device, in the run's type and with its pixel scale; uint8 pixels
        travel as such and are scaled there."""
        moved = batch.to(self.like.device, self.like.dtype)
        x_trn, x_val = (scaled(x, self.pixels, self.like) for x in (moved.x_trn, moved.x_val))
        return dataclasses.replace(moved, x_trn=x_trn, x_val=x_val)


def scaled(x: Tensor, pixels: Literal["unit", "raw"], like: Tensor) -> Tensor:
    """Inputs as a network takes them, bytes in like's type: "unit" [0, 1], "raw" [0, 255]."""
    raw = pixels == "raw"
    if x.dtype == torch.uint8:
        x = x.to(like.dtype, memory_format=torch.contiguous_format)
        return x if raw else x.div_(255)
    return x * 255 if raw else x
