"""What a data set offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from binomctl.episodes import Episode, Metric


class Dataset(Protocol):
    """A source of episodes; a frozen dataclass whose fields are its options.

    `recommended` is a partial configuration (model, adaptation, ...) laid under the user's own:
    what a run on this dataset needs to make sense.
    """

    recommended: ClassVar[Mapping[str, Any]]

    @property
    def in_shape(self) -> tuple[int, ...]: ...
    @property
    def out_dim(self) -> int: ...
    @property
    def kind(self) -> Literal["classification", "regression"]: ...
    @property
    def splits(self) -> tuple[str, ...]: ...
    @property
    def scored_by(self) -> Metric:
        """The name, unit and direction of `metric`."""
        ...

    def episode(self, split: str, index: int) -> Episode:
        """The episode number `index` of a split: pure in (seed, split, index).

        Images are uint8 [N, C, H, W], 0..255, which the run scales on its device, or floats in
        [0, 1].

        Raises:
            DataError: the split is missing or holds too few classes or examples.
        """
        ...

    def loss(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The loss of one task: a scalar from predictions [N, out_dim] and y [N, ...].

        `loss = staticmethod(torch.nn.functional.cross_entropy)` (or mse_loss) lets engines use
        its closed form.
        """
        ...

    def metric(self, prediction: Tensor, y: Tensor) -> Tensor:
        """What `scored_by` says, of one task: a scalar."""
        ...


@runtime_checkable
class HasQueryLoss(Protocol):
    """A data set whose outer loss is not the one that the inner loop descends."""

    def query_loss(self, prediction: Tensor, y: Tensor) -> Tensor:
        """The outer loss of one task: as `loss`, of the query set."""
        ...


@runtime_checkable
class Bilevel(Protocol):
    """A data set that is a bilevel problem: variables that no inner step moves, and two losses.

    Its `loss` and `query_loss`, (prediction, y, parameters), find them in the network's parameters
    as outer_NAME.
    """

    def outer_variables(self, parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The outer variables by name, as training begins, for a network with these parameters."""
        ...


@runtime_checkable
class Grouped(Protocol):
    """A bilevel problem whose outer variables are of several kinds, to be seen apart."""

    def groups(self, parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Values [n] by what they are called, from the parameters by name."""
        ...


@runtime_checkable
class NamesClasses(Protocol):
    """A data set that knows what its classes are called."""

    def class_names(self, split: str, index: int) -> list[str]:
        """The names of the classes 0 .. ways - 1 of an episode."""
        ...


@runtime_checkable
class MadeOfOthers(Protocol):
    """A data set that takes its tasks from others.

    composed_of: the option that lists them; a configuration names them there, and the data set is
    constructed with them in place of their names.
    """

    composed_of: ClassVar[str]

    def members(self) -> tuple[Dataset, ...]:
        """The others, in order."""
        ...
