"""This machine's GPUs, shared among the cells that run on it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import submitit


def gpus_here() -> list[int]:
    """The numbers of this machine's GPUs that the environment leaves visible."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [int(one) for one in said.split(",") if one.strip().isdigit()]
    import torch

    return list(range(torch.cuda.device_count()))


class Cards:
    """This machine's GPUs, shared among cells: each gets those that the fewest others have."""

    def __init__(self, gpus: Sequence[int]) -> None:
        self._gpus, self._had = list(gpus), dict[str, list[int]]()

    def give(self, executor: submitit.Executor, name: str, count: int) -> None:
        """Let the next job that is submitted see so many, all of them where there are fewer. A
        local job of submitit's sees none otherwise."""
        if not self._gpus:
            return
        used = [gpu for had in self._had.values() for gpu in had]
        mine = sorted(sorted(self._gpus, key=lambda gpu: (used.count(gpu), gpu))[:count])
        self._had[name] = mine
        executor.update_parameters(gpus_per_node=len(mine), visible_gpus=tuple(mine))

    def take_back(self, name: str) -> None:
        """A cell is over."""
        self._had.pop(name, None)
