"""A configuration in layers: defaults, what plugins recommend, files, the command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from binomctl import dotted
from binomctl.errors import ConfigError, expected
from binomctl.files.yaml_source import DEEPEST, LARGEST, parse_value, read_yaml, shown
from binomctl.options import NAMING
from binomctl.settings import named, registry
from binomctl.settings.config import AdaptationSection, Config
from binomctl.settings.own import ask_all
from binomctl.settings.places import Given as Given
from binomctl.settings.places import Places as Places
from binomctl.settings.section import Choice


def load_config(
    file: Path | Sequence[Path | Mapping[str, Any]] | None = None,
    overrides: Mapping[str, Any] | None = None,
    assignments: list[str] | None = None,
    below: Mapping[str, Any] | None = None,
    *,
    asked: bool = True,
    advised: bool = True,
) -> tuple[Config, Places]:
    """The configuration of a run.

    Args:
        file: a YAML file, or the name of one that comes with binomctl; several of them (a later
            one wins), or None; among several, keys with dots and their values stand for a file.
        overrides: values by dotted key, `Given` those of named command-line options; None values
            are skipped.
        assignments: "key.path=value" strings, from --set.
        below: a layer under the file, for commands with defaults of their own.
        asked: whether the files are the user's, who asks for what they name by a dotted path;
            what a run folder or `below` names is imported by nobody here.
        advised: whether plugins are asked for what they recommend, which imports them; a file in
            which every key is written out needs no advice.

    Returns:
        The validated configuration and where its keys came from.

    Raises:
        ConfigError: an unknown key or a wrong value, with its place and the nearest valid key.
    """
    places = Places()
    layers: list[dict[str, Any]] = []
    for path in [file] if isinstance(file, Path) else file or []:
        if isinstance(path, Mapping):
            layers += [_nested(key, path[key]) for key in sorted(path, key=_names_first)]
            continue
        data, found = read_yaml(named.find(path))
        layers.append(data)
        places.update(found)
    for key, (value, place) in _typed(overrides or {}, assignments or []).items():
        layers.append(_nested(key, value))
        places[key] = place
    user: dict[str, Any] = {}
    for layer in layers:
        user = merge(user, layer)
    try:
        if asked:
            ask_all(user)
        user = merge(below or {}, user)
        advice: dict[str, Any] = {}
        if advised:
            advice = recommended(_chosen("dataset", user), _chosen("estimator", user))
        return _validate(merge(advice, user)), places
    except ConfigError as error:
        raise places.locate(error) from error


def recommended(dataset: str, estimator: str) -> dict[str, Any]:
    """What the two plugins recommend, laid under a user's own; the estimator over the data set."""
    out: dict[str, Any] = {}
    chosen: tuple[tuple[registry.Kind, str], ...] = (("dataset", dataset), ("estimator", estimator))
    for kind, name in chosen:
        if registry.is_own(kind, name) and dotted.loaded(name) is None:
            continue  # of a run, whose configuration says all that was recommended
        out = merge(out, getattr(registry.load(kind, name), "recommended", {}))
    return out


def merge(below: Mapping[str, Any], above: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Two layers, the upper one winning; another plugin's name drops the lower one's options."""
    out = dict(below)
    for key, value in above.items():
        place = f"{at}{key}"
        if place in _CHOICES:
            value = _choice(place, value)
        old = out.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if place in _CHOICES and _renamed(old, value):
                old = {}
            out[key] = merge(old, value, f"{place}.")
        else:
            out[key] = merge({}, value, f"{place}.") if isinstance(value, Mapping) else value
    return out


def _choice(key: str, value: Any) -> Any:
    """A choice with its name taken apart, "learn2learn:fc100" say."""
    if isinstance(value, str):
        value = {"name": value}
    name = value.get("name") if isinstance(value, Mapping) else None
    if isinstance(name, str) and key in registry.KINDS:
        return {**value, **registry.split_name(key, name)}
    return value


def _renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether `new` chooses another plugin or model than `old`."""
    for word in NAMING:
        if word in new and "name" not in new:
            return old.get("name") != word
    return "name" in new and old.get("name", new["name"]) != new["name"]


_INNER = "adaptation.optimizer"
_CHOICES = {name for name, f in Config.model_fields.items() if f.annotation is Choice} | {_INNER}


def _typed(overrides: Mapping[str, Any], assignments: list[str]) -> dict[str, tuple[Any, str]]:
    values: dict[str, tuple[Any, str]] = {}
    for key, value in overrides.items():
        if value is not None:
            typed = overrides.typed if isinstance(overrides, Given) else {}
            option = typed.get(key, key)
            if isinstance(value, int) and abs(value) > LARGEST:
                raise ConfigError(
                    f"{option} {shown(str(value))}: a number of more than 64 bits",
                    f"The largest is {LARGEST}.",
                    key=key,
                )
            values[key] = (value, option)
    for text in assignments:
        key, equals, value = text.partition("=")
        said = f"--set {shown(text)}"
        if not equals or not all(key.split(".")):
            raise ConfigError(
                f"{said}: expected key.path=value", "For example --set training.steps=100"
            )
        if key.count(".") >= DEEPEST:
            raise ConfigError(
                f"{said}: nested deeper than {DEEPEST} levels",
                "For example --set adaptation.optimizer.name=adam",
            )
        values[key] = (parse_value(value, f"--set {text}"), said)
    return dict(sorted(values.items(), key=lambda kv: _names_first(kv[0])))


def _names_first(key: str) -> bool:
    """An order: choosing a plugin drops the options of the one it replaces."""
    return not key.endswith(".name")


def _nested(key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {head: _nested(rest, value) if rest else value}


def flat(value: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Values by dotted key, the inverse of nesting."""
    out: dict[str, Any] = {}
    for name, inner in value.items():
        key = f"{at}{name}"
        out |= flat(inner, f"{key}.") if isinstance(inner, Mapping) else {key: inner}
    return out


def _chosen(kind: Literal["dataset", "estimator"], user: Mapping[str, Any]) -> str:
    section = user.get(kind, {})
    name = section.get("name") if isinstance(section, Mapping) else None
    default: Choice = getattr(Config(), kind)
    return name if isinstance(name, str) else default.name


def _validate(data: dict[str, Any]) -> Config:
    inner = data.get("adaptation", {})
    if isinstance(inner, dict) and isinstance(inner.get("optimizer"), dict):
        inner["optimizer"].setdefault("name", AdaptationSection().optimizer.name)
    for name in _CHOICES - {_INNER}:  # an option without a name belongs to the default plugin
        section = data.get(name)
        if isinstance(section, dict):
            said = [word for word in NAMING if name == "model" and word in section]
            section.setdefault("name", said[0] if said else getattr(Config(), name).name)
    try:
        return Config.model_validate(data)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(_unknown_key(key), _LISTED, key=key) from invalid
        value = shown(repr(first["input"]))
        words = expected(first["msg"], first["input"])
        hint = f"'binomctl config keys {key}' says what it is." if _is_key(key) else _LISTED
        raise ConfigError(f"{shown(key)} is {value}: {words}", hint, key=key) from invalid


_LISTED = "'binomctl config keys' lists every key with its default."


def _is_key(key: str) -> bool:
    section, _, name = key.rpartition(".")
    field = Config.model_fields.get(section)
    return name in (_fields_of(field.annotation) if field else Config.model_fields)


def _unknown_key(key: str) -> str:
    section, _, name = key.rpartition(".")
    fields = {s: _fields_of(f.annotation) for s, f in Config.model_fields.items()}
    valid = sorted(fields.get(section, ()) if section else fields)
    if not valid:  # within a list, a choice or a value: nothing there has keys
        return f"unknown key '{shown(key)}': nothing of a configuration stands there."
    elsewhere = [f"'{s}.{name}'" for s, names in fields.items() if name in names]
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    guess = f" Did you mean '{f'{section}.' if section else ''}{near[0]}'?" if near else ""
    if not near and elsewhere:
        guess = f" Did you mean {' or '.join(elsewhere)}?"
    return f"unknown key '{shown(key)}'.{guess} Valid: {', '.join(valid)}."


def _fields_of(annotation: Any) -> list[str]:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return list(annotation.model_fields) if is_model else []
