"""What is measured side by side: estimators with their options, at every order that K allows.

An entry of a list of estimators is a name, or a variant of it, "name:option=value:option=value".
What the entry leaves open comes from the section (L, C, alpha_scaling), then from the
configuration's own estimator where that is the one, then from the plugin's defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from binomctl.contracts import Estimator
from binomctl.errors import ConfigError
from binomctl.files.yaml_source import parse_value
from binomctl.options import has_option
from binomctl.pairs import check_pair
from binomctl.problem.record import Problem
from binomctl.settings import registry
from binomctl.settings.config import AnalysisSection, Config, ProfileSection
from binomctl.settings.measured import SectionName
from binomctl.settings.orders import orders
from binomctl.settings.own import variant_name
from binomctl.settings.section import Choice


@dataclass(frozen=True)
class Case:
    """One estimator with its options: L where it has one, and whatever is not a default."""

    name: str
    estimator: Estimator
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def L(self) -> int | None:
        return self.options.get("L")

    @property
    def C(self) -> int | None:
        return self.options.get("C")

    @property
    def alpha_scaling(self) -> str | None:
        return getattr(self.estimator, "alpha_scaling", None)

    @property
    def others(self) -> dict[str, Any]:
        """The options that have no column of their own in reports."""
        own = ("L", "C", "alpha_scaling")
        return {name: value for name, value in self.options.items() if name not in own}

    @property
    def label(self) -> str:
        """As in tables: name L=2."""
        return " ".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])

    def config(self, config: Config) -> Config:
        """A run's configuration with this estimator."""
        choice = Choice.model_validate({"name": self.name, **self.options})
        return config.model_copy(update={"estimator": choice})

    def problem(self, base: Problem) -> Problem:
        """The same model, data and engine with this estimator."""
        return replace(base, config=self.config(base.config), estimator=self.estimator)


def cases_of(problem: Problem, where: SectionName) -> list[Case]:
    """Every estimator of a section at every order L that fits K; other orders are left out.

    Raises:
        ConfigError: an unknown name or option, a value that does not fit, a pair that makes no
            sense, an estimator none of whose orders fits.
    """
    section, key = getattr(problem.config, where), f"{where}.estimators"
    how = problem.inner_loop(problem.m, step=0)
    out: dict[str, Case] = {}
    for entry in section.estimators:
        name, given = variant(entry, key)
        try:
            cls = registry.load("estimator", name)
        except ConfigError as error:
            raise ConfigError(str(error), error.hint, key) from error
        found, why = [], None
        for options in _combinations(problem.config, section, where, cls, name, given):
            try:
                estimator: Estimator = registry.create("estimator", name, options)
                estimator.steps(how.K)
            except ConfigError as error:
                why = error  # a solver of no step, a reach below L: other orders may do
                continue
            check_pair(estimator, name, how, problem.config.rule.name)
            found.append(Case(name, estimator, _telling(cls, options)))
        if not found and why is not None:
            option = why.key.removeprefix("estimator.")
            place = f"{where}.{option}" if getattr(section, option, None) is not None else why.key
            raise ConfigError(str(why), why.hint, key if option in given else place) from why
        out |= {case.label: case for case in found}
    return list(out.values())


def variant(entry: str, key: str) -> tuple[str, dict[str, Any]]:
    """An entry, "name:option=value", taken apart; values are read as YAML.

    Raises:
        ConfigError: a part that is no option=value; at that key.
    """
    name, parts = variant_name(entry)
    given: dict[str, Any] = {}
    head, bracket, rest = entry.partition("(")
    if bracket and "=" not in head:
        raise ConfigError(
            f"'{entry}' has its options in brackets",
            f"Write {head}:{rest.rstrip(')')}, more options after more colons.",
            key=key,
        )
    for part in parts:
        option, equals, value = part.partition("=")
        if not equals or not option:
            raise ConfigError(
                f"'{entry}': '{part}' is not of the form option=value",
                f"Write {name}:OPTION=VALUE, more options after more colons; 'binomctl plugins'"
                " lists them.",
                key=key,
            )
        given[option] = parse_value(value, entry)
    return name, given


def check_used(config: Config, places: Mapping[str, str], where: SectionName) -> None:
    """Refuse what was said of the estimator on the command line and would measure nothing.

    Args:
        places: where the keys of the configuration came from.

    Raises:
        ConfigError: estimator.* is not of an estimator that is measured, or is an order.
    """
    section, own = getattr(config, where), config.estimator.name
    names = [variant(entry, f"{where}.estimators")[0] for entry in section.estimators]
    for key, place in places.items():
        head, _, option = key.partition(".")
        if head != "estimator" or not place.startswith("--"):
            continue
        if own not in names:
            raise ConfigError(
                f"estimator '{own}' is not measured; {where}.estimators are {', '.join(names)}",
                f"Write --estimators {','.join([*names, own])}, or leave it out.",
                key=key,
            )
        if option == "L":
            raise ConfigError(
                f"the orders that are measured are {where}.L = {section.L}",
                f"Write --L {config.estimator.options['L']} instead.",
                key=key,
            )


def _combinations(
    config: Config,
    section: AnalysisSection | ProfileSection,
    where: SectionName,
    cls: type,
    name: str,
    given: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """The options to try, one set for every order and every scaling of alpha."""
    base = dict(config.estimator.options) if config.estimator.name == name else {}
    base.pop("L", None)  # orders are the section's
    if has_option(cls, "C") and section.C is not None:
        base["C"] = section.C
    Ls: Sequence[int | None] = [None]
    if has_option(cls, "L") and "L" not in given:
        Ls = orders(section.L, config.adaptation.K, f"{where}.L")
    scalings: Sequence[str | None] = [None]
    scaling = getattr(section, "alpha_scaling", None)
    if has_option(cls, "alpha_scaling") and "alpha_scaling" not in given and scaling is not None:
        scalings = ["none", "paper"] if scaling == "both" else [scaling]
    swept = ({"L": L, "alpha_scaling": scaling} for L in Ls for scaling in scalings)
    return [{**base, **{k: v for k, v in one.items() if v is not None}, **given} for one in swept]


def _telling(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that are the plugin's defaults; an order always tells."""
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    names = sorted(options, key=lambda name: (name != "L", name != "C"))
    return {k: options[k] for k in names if k == "L" or options[k] != defaults[k]}
