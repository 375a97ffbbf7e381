"""One training set with validation and test examples beside it, out of a few-shot data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from binomctl.episodes import Episode, check_split
from binomctl.errors import ConfigError
from binomctl.flat import OUTER
from binomctl.images.classification import Classification
from binomctl.options import at_least, has_option

OUTER_ONLY = [f"{OUTER}*"]


def one_task(rule: Mapping[str, Any], learned: list[str], K: int, alpha: float) -> dict[str, Any]:
    """What a problem with one training set recommends: a perceptron, one task a meta-step.

    Args:
        learned: patterns of the parameters that the outer loop learns.
    """
    outer = {"meta_batch": 1, "meta_lr": 0.1, "steps": 100, "learned": learned}
    validation = {"validation_tasks": 1, "validate_every": 10}
    return {
        "model": {"name": "mlp", "width": 32, "depth": 1},
        "rule": dict(rule),
        "adaptation": {"K": K, "alpha": alpha},
        "training": outer | validation,
        "evaluation": {"tasks": 1},
    }


class HeldOut(Classification):
    """What bilevel problems on one training set share.

    The support set of one episode of `data` is what the inner loop trains on, every time; the first
    half of every class's queries belongs to the outer loss, the second to validation and test,
    which are alike: a problem has no choice to make between them.
    """

    data: Any
    shots: int
    queries: int
    episode_index: int

    composed_of: ClassVar[str] = "data"
    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    def members(self) -> tuple[Any, ...]:
        """The data set that the examples come from."""
        return (self.data,)

    @property
    def in_shape(self) -> tuple[int, ...]:
        return tuple(self.data.in_shape)

    def take_data(self) -> None:
        """Give the data set this problem's ways, shots and queries.

        Raises:
            ConfigError: it is no few-shot classification.
        """
        names = ("ways", "shots", "queries")
        if getattr(self.data, "kind", "") != self.kind or not all(
            has_option(type(self.data), name) for name in names
        ):
            raise ConfigError(
                f"data = {self.data!r} is no few-shot classification with ways, shots and queries",
                "Write --set dataset.data=NAME; 'binomctl plugins' lists data sets.",
                key="dataset.data",
            )
        at_least(self, ways=2, shots=1, queries=2)
        changed: dict[str, Any] = {name: getattr(self, name) for name in names}
        if has_option(type(self.data), "augment"):
            changed["augment"] = False  # one training set, of pictures as they are
        own = replace(self.data, **changed)
        object.__setattr__(self, "data", own)

    def whole(self) -> Episode:
        """The episode that all is taken from."""
        found: Episode = self.data.episode("train", self.episode_index)
        return found

    def episode(self, split: str, index: int) -> Episode:
        """The training set, and the held-out examples of a split."""
        check_split(split, self.splits)
        whole = self.whole()
        second = _second_half(whole.y_val)
        chosen = ~second if split == "train" else second
        return replace(whole, x_val=whole.x_val[chosen], y_val=whole.y_val[chosen])

    query_loss = staticmethod(F.cross_entropy)  # of held-out examples; whatever else is the inner's


def _second_half(y: Tensor) -> Tensor:
    """Of every class's examples, [N]."""
    out = y.new_zeros(len(y)).bool()
    for c in range(int(y.max()) + 1):
        own = (y == c).nonzero().flatten()
        out[own[(len(own) + 1) // 2 :]] = True
    return out
