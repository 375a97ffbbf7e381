"""Options of plugins and models: a frozen dataclass's fields, validated, documented, listed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import wraps
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from binomctl.errors import ConfigError, expected, unknown

T = TypeVar("T")

IMPORT = "import"
"""In the model section: "package.module:Class", a user's own network in place of a name."""
LISTED = "'binomctl plugins' and 'binomctl config keys' list options with their defaults."
NAMING = (IMPORT, "timm", "torchvision")
"""Options of the model section that say its name as well: {timm: resnet18}."""


def option(default: Any, doc: str) -> Any:
    """A dataclass field with a default and the sentence that help shows for it."""
    return dataclasses.field(default=default, metadata={"doc": doc})


@dataclass(frozen=True)
class OptionInfo:
    """One option as help lists it."""

    name: str
    type: str
    default: Any
    doc: str


def describe_options(cls: type) -> list[OptionInfo]:
    """The options of a plugin or model class, in the order of its fields."""
    hints = get_type_hints(cls)
    return [
        OptionInfo(f.name, type_name(hints[f.name]), _default(f), f.metadata.get("doc", ""))
        for f in _fields(cls)
    ]


def _default(field: dataclasses.Field[Any]) -> Any:
    """An option's default; None of one that has to be given."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if _needed(field) else field.default


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def has_option(cls: type, name: str) -> bool:
    """Whether a plugin or model class has an option of this name."""
    return any(f.name == name for f in _fields(cls))


def build(cls: type[T], options: Mapping[str, Any], what: str, key: str = "") -> T:
    """Construct a plugin or model from its options.

    Args:
        cls: a dataclass; its fields are the options, its `__post_init__` checks their values.
        options: values by option name; strictly typed (no strings for numbers, no bool for int).
        what: how errors name it, "estimator 'binom'" say.
        key: the configuration section the options stand in, for the errors' `key`.

    Raises:
        ConfigError: an unknown option, a value of the wrong type or out of range.
    """
    checked = _checked(cls, options, what, key)
    for one in _fields(cls):
        if _needed(one) and one.name not in checked:
            at = f"{key}.{one.name}".lstrip(".")
            raise ConfigError(
                f"{what} has no default for option '{one.name}'", f"Give it: --set {at}=...", key=at
            )
    try:
        return cls(**checked)
    except ConfigError as error:
        first = str(error).partition(" ")[0]  # "ways = 1 must be ..." is about the option `ways`
        at = f"{key}.{first}".lstrip(".") if has_option(cls, first) else key
        raise ConfigError(f"{what}: {error}", error.hint or LISTED, key=error.key or at) from error


def check_shares(options: Any, *names: str, key: str) -> None:
    """Refuse options outside [0, 1), rates of decay say, by their place below a key."""
    for name in names:
        value = getattr(options, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name} = {value} is outside [0, 1)", key=f"{key}.{name}")


def at_least(options: Any, **minima: int) -> None:
    """Refuse options of a data set below their minimum; None stands for "not given"."""
    for name, minimum in minima.items():
        value = getattr(options, name)
        if value is not None and value < minimum:
            key = f"dataset.{name}"
            raise ConfigError(f"{name} = {value} must be at least {minimum}", key=key)


def check_not_negative(options: Any, *names: str, key: str) -> None:
    """Refuse negative options, by their place below a key; None stands for "not given"."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 0:
            raise ConfigError(
                f"{name} = {value} is negative", "Give 0 or more.", key=f"{key}.{name}"
            )


def plugin(cls: type[T]) -> type[T]:
    """A frozen dataclass whose fields are options, checked wherever it is constructed: by a name
    in a configuration or by hand, BinomMAML(L=2) say. It stands above @dataclass(frozen=True)."""
    names = [f.name for f in _fields(cls)]
    init = cls.__init__

    @wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        if len(args) <= len(names):  # too many are a TypeError, as in any call
            options = dict(zip(names, args, strict=False)) | options
            args = ()
        init(self, *args, **_checked(cls, options, cls.__name__, ""))

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls


def _checked(cls: type, options: Mapping[str, Any], what: str, key: str) -> dict[str, Any]:
    """Options with their types checked and their names known."""
    hints = get_type_hints(cls)
    names = [f.name for f in _fields(cls)]
    checked = {}
    for name, value in options.items():
        place = f"{key}.{name}" if key else name
        if name not in names:
            raise ConfigError(unknown("option", name, names, f"of {what}"), LISTED, key=place)
        adapter: TypeAdapter[Any] = TypeAdapter(
            hints[name], config=ConfigDict(strict=True, allow_inf_nan=False)
        )
        try:  # YAML knows lists only
            checked[name] = adapter.validate_python(
                tuple(value) if isinstance(value, list) else value
            )
        except ValidationError as error:
            said = expected(error.errors()[0]["msg"], value)
            raise ConfigError(
                f"option '{name}' of {what} is {value!r}: {said} Its type is"
                f" {type_name(hints[name])}.",
                LISTED,
                key=place,
            ) from error
    return checked


def _fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    if not dataclasses.is_dataclass(cls):
        raise ConfigError(
            f"{cls.__module__}.{cls.__qualname__} is not a dataclass",
            "Decorate the plugin class with @dataclass(frozen=True); its fields are its options.",
        )
    return tuple(f for f in dataclasses.fields(cls) if f.init)


def type_name(hint: Any) -> str:
    """A type as users read it: int, float, 'a' | 'b', list[float] | None."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_name(args[0])
    if origin is Literal:
        return " | ".join(repr(value) for value in args)
    if origin in (Union, UnionType):
        return " | ".join("None" if a is type(None) else type_name(a) for a in args)
    if origin is tuple and args[1:] == (...,):  # YAML knows lists only
        return f"list[{type_name(args[0])}]"
    if origin is not None and args:
        listed = ", ".join("..." if a is ... else type_name(a) for a in args)
        return f"{getattr(origin, '__name__', origin)}[{listed}]"
    return getattr(hint, "__name__", str(hint))
