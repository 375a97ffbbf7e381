"""Safe YAML with line numbers: no tags, no duplicate keys, `1e-3` a float, no NaN."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from binomctl.errors import ConfigError

# YAML 1.1, which PyYAML follows, wants a dot in a float: 1e-3 would be a string.
_FLOAT = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$|^[-+]?\.\d+[eE][-+]?\d+$")


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a float."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """A mapping from a file, and where each dotted key stands ("file.yaml:12").

    Raises:
        ConfigError: unreadable, not YAML, not a mapping, a duplicate key, a tag, NaN or infinity;
            with the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a UTF-8 text file") from error
    places: dict[str, str] = {}
    value = _parse(text, str(path), places)
    if value is None:
        return {}, places
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds a {type(value).__name__}, expected keys and values")
    return value, places


def parse_value(text: str, source: str) -> Any:
    """One YAML value, as typed after `--set key=`; raises ConfigError naming the source."""
    return _parse(text, source, {})


def _parse(text: str, source: str, places: dict[str, str]) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, "", source, places)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        raise ConfigError(f"{place}: {error.problem or 'not valid YAML'}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    finally:
        loader.dispose()


def _check(node: yaml.Node, key: str, source: str, places: dict[str, str]) -> None:
    place = f"{source}:{node.start_mark.line + 1}"
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        raise ConfigError(f"{place}: the tag {node.tag} is not allowed; write a plain value")
    if isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for name_node, value_node in node.value:
            name, line = name_node.value, name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                raise ConfigError(f"{source}:{line}: a key must be a plain word")
            if name in seen:
                raise ConfigError(
                    f"{source}:{line}: duplicate key '{name}', first on line {seen[name]}"
                )
            seen[name] = line
            dotted = f"{key}.{name}" if key else name
            places[dotted] = f"{source}:{line}"
            _check(value_node, dotted, source, places)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, key, source, places)
    elif node.tag.endswith(":float"):
        number = float(
            node.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")
        )
        if not math.isfinite(number):
            raise ConfigError(f"{place}: {key} is {node.value}, expected a finite number")
