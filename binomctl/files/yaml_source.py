"""Safe YAML with line numbers: plain values, no duplicate keys, `1e-3` a float, no NaN or bombs."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from binomctl.errors import ConfigError
from binomctl.files.small import read_small

# YAML 1.1, which PyYAML follows, wants a dot in a float: 1e-3 would be a string.
_FLOAT = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$|^[-+]?\.\d+[eE][-+]?\d+$")
_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
# What would break a terminal, a path or a line of a log; halves of characters cannot be written.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

LONGEST = 2**18  # bytes of a file; the parser takes seconds for a megabyte
MOST_VALUES = 10_000  # aliases written out
DEEPEST = 32
LARGEST = 2**63 - 1  # what torch and numpy count with
_NEXT = "YAML is lines of key: value; 'binomctl config show' prints a whole configuration."
_FILE = "Name a YAML file; 'binomctl config show' prints a whole configuration."
_KINDS = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
SHOWN = 60  # characters of a value in an error


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a float, and dates as they are written."""


# Its table is shared with its base class: a date would be an object that no option takes.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag in _PLAIN]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+0123456789."))


def read_yaml(path: Path, dots: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """A mapping from a file, and where each dotted key stands ("file.yaml:12").

    Args:
        dots: whether keys may have dots in them, as those of a grid do.

    Raises:
        ConfigError: unreadable, not YAML, not a mapping, a duplicate key, a tag, NaN or infinity,
            far more than a configuration holds; with the file and the line.
    """
    try:
        text = read_small(path, LONGEST, pipes=True).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", _FILE) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a UTF-8 text file", _NEXT) from error
    except ValueError as error:  # a path with a zero byte
        raise ConfigError(f"cannot read {str(path)!r}: {error}") from error
    places: dict[str, str] = {}
    value = _parse(text, str(path), places, dots)
    if value is None:
        return {}, places
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path} holds {_KINDS.get(type(value), 'a value')}, expected keys and values", _NEXT
        )
    return value, places


def parse_value(text: str, source: str) -> Any:
    """One YAML value, as typed after `--set key=`; raises ConfigError naming the source."""
    if len(text) > LONGEST:
        raise ConfigError(f"{shown(source)}: longer than {LONGEST:,} characters")
    return _parse(text, shown(source), {})


def shown(text: str) -> str:
    """A value as an error shows it: on one line, of bounded length."""
    plain = _UNPRINTABLE.sub(lambda found: repr(found.group())[1:-1], text).replace("\n", "\\n")
    return plain if len(plain) <= 2 * SHOWN else f"{plain[: 2 * SHOWN]}..."


def _parse(text: str, source: str, places: dict[str, str], dots: bool = False) -> Any:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:  # a control character
        line = text.count("\n", 0, error.position) + 1
        which = error.character if isinstance(error.character, int) else ord(error.character)
        raise ConfigError(
            f"{source}:{line}: the character {chr(which)!r} is not allowed"
        ) from error
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _Check(source, places, loader, dots).visit(node, "", 0)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        whole = source.startswith("--")  # an option has one line
        place = f"{source}:{mark.line + 1}" if mark and not whole else source
        raise ConfigError(
            f"{place}: not valid YAML: {shown(error.problem or 'it cannot be read')}", _NEXT
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested deeper than {DEEPEST} levels") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{source}: not valid YAML: {shown(str(error))}") from error
    finally:
        loader.dispose()


class _Check:
    """Walks a document as it will be with its aliases written out, and notes where keys stand."""

    def __init__(
        self, source: str, places: dict[str, str], loader: _Loader, dots: bool = False
    ) -> None:
        self._source, self._places, self._loader, self._dots = source, places, loader, dots
        self._values = 0

    def visit(self, node: yaml.Node, key: str, depth: int) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            self._refuse(node, f"more than {MOST_VALUES:,} values, aliases written out")
        if depth > DEEPEST:
            self._refuse(node, f"nested deeper than {DEEPEST} levels")
        if node.tag not in _PLAIN:
            tag = shown(str(node.tag))
            self._refuse(node, f"the tag {tag} is not allowed; write a plain value")
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, key, depth)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self.visit(item, key, depth + 1)
        elif isinstance(node, yaml.ScalarNode):
            self._scalar(node, key)

    def _mapping(self, node: yaml.MappingNode, key: str, depth: int) -> None:
        seen: dict[Any, int] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                self._refuse(name_node, "a key must be a plain word")
            name, line = name_node.value, name_node.start_mark.line + 1
            if name_node.tag == f"{_TAG}merge":  # "<<: *anchor" puts its keys in here
                self.visit(value_node, key, depth + 1)
                continue
            if name_node.tag != f"{_TAG}str":
                kind = name_node.tag.removeprefix(_TAG)
                self._refuse(name_node, f"the key {shown(name)} is read as {kind}; quote it")
            if name in seen:
                self._refuse(
                    name_node, f"duplicate key '{shown(name)}', first on line {seen[name]}"
                )
            dotted_well = self._dots and all(name.split("."))
            if not name or ("." in name and not dotted_well) or _UNPRINTABLE.search(name):
                nested = name.replace(".", ": {") + ": ..." + "}" * name.count(".")
                hint = f"; write {nested}" if all(name.split(".")) and name.isprintable() else ""
                self._refuse(name_node, f"'{shown(name)}' is no key{hint}")
            seen[name] = line
            dotted = f"{key}.{name}" if key else name
            self._places[dotted] = f"{self._source}:{line}"
            self.visit(value_node, dotted, depth + 1)

    def _scalar(self, node: yaml.ScalarNode, key: str) -> None:
        kind = node.tag.removeprefix(_TAG)
        try:
            value = self._loader.construct_object(node)
        except Exception as error:  # PyYAML looks a value up, takes it apart, converts it
            raise ConfigError(
                f"{self._place(node)}: {_named(key)}'{shown(node.value)}' is no {kind}"
            ) from error
        if isinstance(value, float) and not math.isfinite(value):
            self._refuse(node, f"{_named(key)}{shown(node.value)}, expected a finite number")
        if isinstance(value, int) and abs(value) > LARGEST:
            self._refuse(node, f"{_named(key)}{shown(node.value)}, a number of more than 64 bits")
        if isinstance(value, str) and (found := _UNPRINTABLE.search(value)):
            self._refuse(node, f"{_named(key)}a text with the character {found.group()!r}")

    def _place(self, node: yaml.Node) -> str:
        return f"{self._source}:{node.start_mark.line + 1}"

    def _refuse(self, node: yaml.Node, what: str) -> NoReturn:
        raise ConfigError(f"{self._place(node)}: {what}", _NEXT)


def _named(key: str) -> str:
    return f"{key} is " if key else ""
