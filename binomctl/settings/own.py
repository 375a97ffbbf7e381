"""Plugins of a user's own in a configuration: those named by a dotted path, "package.module:Class".

They have no entry point, and are imported when the user names them, on the command line, in a file
or in a call of the library; what a run folder names passes binomctl/settings/trust.py first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from binomctl import dotted
from binomctl.settings import registry
from binomctl.settings.registry import Kind


def own(data: Mapping[str, Any]) -> Iterator[tuple[Kind, str]]:
    """Kind and path of every plugin of the user's own that a configuration names, nested as in
    YAML. A data set is to be imported before the next one is asked for: it says where it names
    others."""
    for kind in ("estimator", "rule"):
        yield from _one(kind, data.get(kind))
    adaptation, training = _section(data, "adaptation"), _section(data, "training")
    yield from _one("update", adaptation.get("optimizer"))
    for stage in _listed(training.get("order_annealing")):
        yield from _one("estimator", stage.get("estimator") if isinstance(stage, Mapping) else None)
    for tracker in _listed(data.get("trackers")):
        yield from _one("tracker", tracker)
    for where in ("analysis", "profile"):
        for entry in _listed(_section(data, where).get("estimators")):
            yield from _one("estimator", variant_name(entry)[0] if isinstance(entry, str) else None)
    yield from _datasets(data.get("dataset"))


def ask_all(data: Mapping[str, Any]) -> None:
    """Import them all: the user named them. ConfigError as `registry.ask`."""
    for kind, target in own(data):
        registry.ask(kind, target)


def variant_name(entry: str) -> tuple[str, list[str]]:
    """An entry of a list of estimators, "name:option=value", as its name and the rest; the name may
    have a colon of its own."""
    head, *rest = (part.strip() for part in entry.split(":"))
    if rest and registry.is_own("estimator", f"{head}:{rest[0]}"):
        return f"{head}:{rest[0]}", rest[1:]
    return head, rest


def _datasets(chosen: Any) -> Iterator[tuple[Kind, str]]:
    """A data set, and those that it takes its tasks from."""
    yield from _one("dataset", chosen)
    if not isinstance(chosen, Mapping) or not isinstance(name := chosen.get("name"), str):
        return
    if registry.is_own("dataset", name):
        option = getattr(dotted.loaded(name), "composed_of", None)
    else:
        known = name in registry.names("dataset") + registry.names("problem")
        option = getattr(registry.load("dataset", name), "composed_of", None) if known else None
    given = chosen.get(option) if isinstance(option, str) else None
    for member in given if isinstance(given, list | tuple) else [given]:
        yield from _datasets(member)


def _one(kind: Kind, chosen: Any) -> Iterator[tuple[Kind, str]]:
    name = chosen.get("name") if isinstance(chosen, Mapping) else chosen
    if isinstance(name, str) and registry.is_own(kind, name):
        yield kind, name


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
