"""Whether a class that a user named by its dotted path is a plugin of the kind that was asked for.

What is installed was checked by its author (`binomctl.testing`); a file of one's own may hold
anything.
"""

from __future__ import annotations

from typing import Any

from binomctl.errors import ConfigError
from binomctl.options import describe_options


def check_contract(kind: str, target: str, found: Any, key: str) -> type:
    """The class, if it has what the contract of its kind requires; nothing of it is called.

    Raises:
        ConfigError: it is no class, no dataclass, or lacks something, which is named.
    """
    what = f"{kind} '{target}'"
    if not isinstance(found, type):
        raise ConfigError(
            f"{what} is a {type(found).__name__}, not a class: it was not called",
            f"Name a class: 'binomctl plugins new {kind} NAME' writes one.",
            key=key,
        )
    try:
        describe_options(found)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}", error.hint, key=key) from error
    has = set(dir(found)).union(*(vars(c).get("__annotations__", ()) for c in found.__mro__))
    choices = _required(kind)
    lacks = [sorted(needed - has) for needed in choices]
    if all(lacks):
        raise ConfigError(
            f"{what} does not meet the contract: it lacks {' or '.join(map(', '.join, lacks))}",
            f"docs/howto/plugin.md and 'binomctl plugins new {kind} NAME' have examples.",
            key=key,
        )
    return found


def _required(kind: str) -> list[set[str]]:
    """Sets of names, one of which a class of the kind must have in full."""
    from binomctl import contracts as c
    from binomctl.contracts.abilities import members

    if kind == "rule":
        return [{*members(c.Rule), *members(how)} for how in (c.Linear, c.Directs, c.Draws)]
    if kind == "problem":
        return [{*members(c.Dataset), *members(c.Bilevel)}]
    one = {"estimator": c.Estimator, "dataset": c.Dataset, "update": c.Update, "tracker": c.Tracker}
    return [set(members(one[kind]))]
