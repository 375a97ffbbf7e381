"""What is measured: estimators at orders L, all on one problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from binomctl.adapt import check_pair
from binomctl.contracts import Estimator
from binomctl.errors import ConfigError
from binomctl.options import has_option
from binomctl.problem.build import Problem
from binomctl.settings import registry
from binomctl.settings.config import Choice, Config
from binomctl.settings.orders import orders


@dataclass(frozen=True)
class Cell:
    """One estimator with its options; L and C where it has them."""

    name: str
    estimator: Estimator
    options: dict[str, Any]

    @property
    def L(self) -> int | None:
        return self.options.get("L")

    @property
    def C(self) -> int | None:
        return self.options.get("C")

    @property
    def label(self) -> str:
        """As in tables: "binom L=2"."""
        return " ".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])

    def config(self, config: Config) -> Config:
        """A run's configuration with this estimator."""
        choice = Choice.model_validate({"name": self.name, **self.options})
        return config.model_copy(update={"estimator": choice})

    def problem(self, base: Problem) -> Problem:
        """The same model, data and engine with this estimator."""
        return replace(base, config=self.config(base.config), estimator=self.estimator)


def cells_of(base: Problem) -> list[Cell]:
    """Every estimator of the profile section at every L that K allows.

    Raises:
        ConfigError: an unknown name, a pair that makes no sense, no L in range.
    """
    section, config = base.config.profile, base.config
    how = base.adaptation(base.training_batch(range(1)), base.m)
    out: list[Cell] = []
    for name in dict.fromkeys(section.estimators):
        cls = registry.load("estimator", name)
        reach = section.C if has_option(cls, "C") else None
        Ls: Sequence[int | None] = [None]
        if has_option(cls, "L"):
            Ls = orders(section.L, how.K, "profile.L")
        before, why = len(out), None
        for L in Ls:
            options = {"L": L, "C": reach}
            options = {k: v for k, v in options.items() if v is not None}
            try:
                estimator: Estimator = registry.create("estimator", name, options)
                estimator.steps(how.K)
            except ConfigError as error:
                why = error  # a solver of no step, a hybrid with L > C: other orders may do
                continue
            check_pair(estimator, name, how, config.rule.name)
            out.append(Cell(name, estimator, options))
        if len(out) == before and why is not None:
            raise why
    return out
