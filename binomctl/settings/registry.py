"""Entry points -> plugin classes. The core knows no plugin by name."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from binomctl import dotted
from binomctl.errors import ConfigError, unknown
from binomctl.options import OptionInfo, build, describe_options
from binomctl.settings.promised import check_contract

Kind = Literal["estimator", "dataset", "problem", "rule", "update", "tracker"]
KINDS: tuple[Kind, ...] = ("estimator", "dataset", "problem", "rule", "update", "tracker")


PLACES: dict[Kind, str] = {
    "problem": "dataset",
    "update": "adaptation.optimizer",
    "tracker": "trackers",
}
"""Where a configuration names a plugin, if not under its kind."""


WORDS: dict[Kind, str] = {"dataset": "data set", "update": "inner optimiser"}
"""What a kind is called where its name is no word."""


@dataclass(frozen=True)
class PluginInfo:
    """One plugin as `binomctl plugins` lists it; `failure` is why it could not be loaded."""

    kind: Kind
    name: str
    distribution: str
    summary: str = ""
    options: list[OptionInfo] = field(default_factory=list)
    failure: str = ""


def names(kind: Kind) -> list[str]:
    """The names registered for a kind, sorted."""
    return sorted({p.name for p in _points(kind)})


def word(kind: Kind) -> str:
    """What messages call a plugin of a kind."""
    return WORDS.get(kind, kind)


def place(kind: Kind) -> str:
    """The section of a configuration that names a plugin of a kind."""
    return PLACES.get(kind, kind)


def _key(kind: Kind) -> str:
    return f"{place(kind)}.name"


def distributions() -> dict[str, str]:
    """Name and version of every distribution that offers plugins."""
    points = [point for kind in KINDS for point in _points(kind)]
    return {point.dist.name: point.dist.version for point in points if point.dist is not None}


def is_own(kind: Kind, name: str) -> bool:
    """Whether a name is the dotted path of a class, "package.module:Class", and no registered
    plugin's name with what that one takes after a colon."""
    if not dotted.is_target(name):
        return False
    known = names(kind) + (names("problem") if kind == "dataset" else [])
    return name.partition(":")[0] not in known


def ask(kind: Kind, name: str, folder: Path | None = None) -> None:
    """Import a class that the user named by its dotted path; a registered name needs nothing.

    Args:
        folder: searched first; None: the working folder.

    Raises:
        ConfigError: no such module or class, or one that does not meet the contract.
    """
    if is_own(kind, name):
        key = _key(kind)
        try:
            found = dotted.imported(name, folder, key, kind)
        except ConfigError as error:
            near = difflib.get_close_matches(name.partition(":")[0], names(kind), n=1, cutoff=0.7)
            guess = f" Or did you mean '{near[0]}', which is registered?" if near else ""
            raise ConfigError(
                f"{word(kind)} '{name}': {error}", error.hint + guess, key=key
            ) from error
        check_contract(kind, name, found, key)


def _asked(kind: Kind, name: str) -> type:
    """The class of a dotted path, once it was asked for: nothing is imported here."""
    key = _key(kind)
    found = dotted.loaded(name)
    if found is None:
        raise ConfigError(
            f"{word(kind)} '{name}' is code of somebody's own, and was not imported",
            "Where it is a run's that you trust, say --trust.",
            key=key,
        )
    return check_contract(kind, name, found, key)


def load(kind: Kind, name: str) -> type:
    """The class registered under a name, or one asked for by its dotted path.

    Raises:
        ConfigError: no such name, two distributions claim it, or its import fails.
    """
    if is_own(kind, name):
        return _asked(kind, name)
    found = [p for p in _points(kind) if p.name == name]
    known = names(kind)
    if kind == "dataset":  # a bilevel problem is one
        found += [p for p in _points("problem") if p.name == name]
        known += names("problem")
    if not found:
        raise ConfigError(
            unknown(word(kind), name, known),
            "'binomctl plugins' says what each is; a class of your own is MODULE:CLASS.",
            key=_key(kind),
        )
    if len(found) > 1:
        owners = ", ".join(f"{_distribution(p)} ({p.value})" for p in found)
        raise ConfigError(
            f"{word(kind)} '{name}' is registered more than once: {owners}",
            "Uninstall one of them or ask its author for another name.",
            key=_key(kind),
        )
    cls, failure = _try_load(found[0])
    if cls is None:
        raise ConfigError(
            f"{word(kind)} '{name}' of {_distribution(found[0])} could not be loaded: {failure}",
            "Everything else still works; 'binomctl plugins' lists what failed.",
            key=_key(kind),
        )
    return cls


def split_name(kind: Kind, name: str) -> dict[str, str]:
    """A name as the options it stands for: "plugin:rest" sets the option of the plugin that its
    `after_colon` names."""
    head, colon, rest = name.partition(":")
    if not colon or is_own(kind, name):
        return {"name": name}
    option = getattr(load(kind, head), "after_colon", None)
    if option is None:
        raise ConfigError(
            f"{word(kind)} '{name}': '{head}' takes nothing after a colon",
            f"Write {head}; its options go by --set {place(kind)}.OPTION=VALUE.",
            key=_key(kind),
        )
    return {"name": head, option: rest}


def create(kind: Kind, name: str, options: dict[str, Any]) -> Any:
    """Construct a plugin from its options; raises ConfigError as `load` and `build` do."""
    return build(load(kind, name), options, f"{word(kind)} '{name}'", key=place(kind))


def create_update(name: str, options: dict[str, Any]) -> Any:
    """The inner optimiser of a name; None where it is the plain step, which has a closed form."""
    made = create("update", name, options)
    return None if made.plain else made


def describe() -> list[PluginInfo]:
    """Every registered plugin, loaded or not; never raises for a broken one."""
    infos = []
    for kind in KINDS:
        points = sorted(_points(kind), key=lambda p: (p.name, p.value))
        for point in points:
            owner = _distribution(point)
            if sum(p.name == point.name for p in points) > 1:
                infos.append(PluginInfo(kind, point.name, owner, failure="name claimed twice"))
                continue
            cls, failure = _try_load(point)
            if cls is None:
                infos.append(PluginInfo(kind, point.name, owner, failure=failure))
                continue
            summary = (cls.__doc__ or "").strip().partition("\n")[0]
            infos.append(PluginInfo(kind, point.name, owner, summary, describe_options(cls)))
    return infos


def _points(kind: Kind) -> tuple[EntryPoint, ...]:
    return _found(kind, tuple(sys.path))


@lru_cache(maxsize=64)  # reading every distribution's metadata takes milliseconds
def _found(kind: Kind, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"binomctl.{kind}s"))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"


def _try_load(point: EntryPoint) -> tuple[type | None, str]:
    """The class, or None and the reason: a plugin that raises on import disables itself alone."""
    try:
        cls = point.load()
        describe_options(cls)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() in a plugin must not end every command
        return None, f"{type(error).__name__}: {error}"
    return cls, ""
