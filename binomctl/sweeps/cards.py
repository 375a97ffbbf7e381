"""This machine's GPUs, shared among the cells that run on it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import submitit

from binomctl.errors import ConfigError


def gpus_here() -> list[int]:
    """The numbers of this machine's GPUs that the environment leaves visible.

    Raises:
        ConfigError: the environment names them otherwise.
    """
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        names = [one.strip() for one in said.split(",") if one.strip()]
        if strange := [one for one in names if not one.lstrip("-").isdigit()]:
            raise ConfigError(
                f"CUDA_VISIBLE_DEVICES names GPUs otherwise than by number: {strange[0]}",
                "Cells are given their GPUs by number: set it to 0,1, say, or unset it.",
            )
        return [int(one) for one in names if int(one) >= 0]
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
