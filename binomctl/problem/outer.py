"""The outer variables of a bilevel problem, as parameters of the network that no step moves."""

from __future__ import annotations

from torch import Tensor, nn

from binomctl.contracts import Bilevel, Dataset
from binomctl.errors import ConfigError
from binomctl.flat import OUTER, Layout, trainable


def with_outer_variables(model: nn.Module, dataset: Dataset) -> nn.Module:
    """The model, with a problem's outer variables among its parameters as outer_NAME: losses find
    them there, its forward does not use them."""
    if isinstance(dataset, Bilevel):
        for name, value in dataset.outer_variables(dict(trainable(model))).items():
            model.register_parameter(f"{OUTER}{name}", nn.Parameter(value.clone()))
    return model


def has_outer_variables(model: nn.Module) -> bool:
    """Whether it has; the outer loss need not depend on them."""
    return any(name.startswith(OUTER) for name, _ in model.named_parameters(recurse=False))


def learned_mask(
    learned: list[str] | None, layout: Layout, m: Tensor, like: Tensor
) -> Tensor | None:
    """1 where the outer loop learns theta, [d]; None: everywhere.

    Raises:
        ConfigError: nothing is learned at all, or a pattern matches nothing.
    """
    if learned is None:
        return None
    if not learned and not m.numel():
        raise ConfigError(
            "training.learned = [] leaves nothing to learn: the rule has no meta-parameters",
            "Name parameters, or use a rule that has some.",
            key="training.learned",
        )
    layout.matching(learned)
    return layout.mask(learned, like)
