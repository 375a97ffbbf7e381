"""The processes of one run, as `torchrun` starts them: who computes which tasks, and what all know.

Whatever can fail on one rank alone runs inside `alike`. A rank that fails takes part in one more
exchange, and every other rank learns of it in the exchange that it comes to next; so an exchange
goes before every other collective, and nothing that can fail comes between the two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from binomctl.machine.launched import world_size

if TYPE_CHECKING:  # a run in one process, and every --help, import no torch here
    import torch
    from torch import Tensor


class Ranks(Protocol):
    """This process among those of a run."""

    rank: int
    world: int

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        ...

    def start(self, device: torch.device) -> None:
        """All ranks are ready: from now on one that is silent for long is taken for lost."""
        ...

    def mine(self, indices: range) -> range:
        """Every world-th of some indices, from this rank's on; none where there are too few."""
        ...

    def alike(self) -> AbstractContextManager[None]:
        """What one rank fails in, all fail in: with the error of the first that failed."""
        ...

    def most(self, word: int) -> int:
        """The largest of the ranks' words."""
        ...

    def tell(self, text: str = "") -> str:
        """The first rank's text, on every rank."""
        ...

    def same(self, tensor: Tensor) -> None:
        """Give a tensor the first rank's values."""
        ...

    def sum_(self, tensor: Tensor) -> Tensor:
        """The tensor, summed over the ranks in place; the same bits on all of them."""
        ...

    def whole(self, own: Tensor, places: Sequence[int], size: int) -> Tensor:
        """Values [size] of which each rank has those at some places; none is changed in a bit."""
        ...


class Alone:
    """A run in one process: nobody to ask, nothing to wait for."""

    rank, world, first = 0, 1, True

    def start(self, device: torch.device) -> None:
        pass

    def mine(self, indices: range) -> range:
        return indices

    def alike(self) -> AbstractContextManager[None]:
        return nullcontext()

    def most(self, word: int) -> int:
        return word

    def tell(self, text: str = "") -> str:
        return text

    def same(self, tensor: Tensor) -> None:
        pass

    def sum_(self, tensor: Tensor) -> Tensor:
        return tensor

    def whole(self, own: Tensor, places: Sequence[int], size: int) -> Tensor:
        return own


ALONE: Ranks = Alone()


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process among the others that the environment names; alone where it names none.

    Raises:
        ConfigError: as `world_size`. ResourceError: the others do not come.
    """
    if world_size() == 1:
        yield ALONE
        return
    from binomctl.machine.group import Group

    with Group(int(os.environ["RANK"]), world_size()) as group:
        yield group
