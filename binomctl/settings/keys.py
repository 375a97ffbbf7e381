"""Every key of a configuration: its type, its default, what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from binomctl.errors import ConfigError, unknown
from binomctl.models import MODELS
from binomctl.options import describe_options, type_name
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.section import Choice

# A problem is a data set: what loads one loads the other.
PLUGINS = {registry.place(k): k for k in registry.KINDS if k != "problem"}


@dataclass(frozen=True)
class Key:
    """One key; `of` names the plugin or network whose option it is."""

    name: str
    type: str
    default: Any
    doc: str
    of: str = ""


def keys(chosen: Mapping[str, str] | None = None) -> list[Key]:
    """The keys of every section, and the options of the plugins and the network that are chosen.

    Args:
        chosen: names by section ("dataset", "model", "estimator", "rule"); others are the defaults.

    Raises:
        ConfigError: an unknown name.
    """
    return list(_section(Config, "", chosen or {}))


def _section(cls: type[BaseModel], at: str, chosen: Mapping[str, str]) -> list[Key]:
    out: list[Key] = []
    for name, field in cls.model_fields.items():
        place, default = f"{at}{name}", field.get_default(call_default_factory=True)
        if isinstance(default, Choice):
            out += _choice(place, chosen.get(place, default.name), field)
        elif isinstance(default, BaseModel):
            out += _section(type(default), f"{place}.", chosen)
        else:
            out.append(Key(place, type_name(field.annotation), default, field.description or ""))
    return out


def _choice(place: str, name: str, field: FieldInfo) -> list[Key]:
    if place == "model":
        if name not in MODELS:
            raise ConfigError(
                unknown("model", name, list(MODELS)),
                "A network of your own has the options of its class, in its own code.",
                key="model.name",
            )
        cls: type = MODELS[name]
    else:
        registry.ask(PLUGINS[place], name)
        cls = registry.load(PLUGINS[place], name)
    doc = field.description or f"see 'binomctl plugins'; options are {name}'s"
    own = [Key(f"{place}.{o.name}", o.type, o.default, o.doc, name) for o in describe_options(cls)]
    return [Key(f"{place}.name", "str", name, doc), *own]
