"""A distribution with one plugin: its module, its test, what installs it, what it says of itself.

The templates are the files as they will be, with $-words for what depends on the name.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from binomctl.errors import ConfigError, cannot_write, unknown
from binomctl.settings import registry
from binomctl.settings.registry import Kind

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
USES = {
    "estimator": "--estimator $name",
    "dataset": "--dataset $name",
    "rule": "--rule $name",
    "update": "--set adaptation.optimizer=$name",
    "problem": "--problem $name",
    "tracker": "--tracker $name",
}
"""How a training says that it wants the plugin."""
KINDS = tuple(USES)


def written(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the distribution of a new plugin.

    Args:
        kind: estimator, dataset, rule, update, problem or tracker.
        name: what configurations will call it, "my-estimator" say.
        folder: made; nothing may be in it.

    Returns:
        The files, in the order in which to read them.

    Raises:
        ConfigError: another kind, a name that is none or that is taken, a folder with files in it.
    """
    if kind not in KINDS:
        raise ConfigError(
            unknown("kind of plugin", kind, KINDS),
            "For example: binomctl plugins new rule my-rule",
        )
    chosen = next(k for k in registry.KINDS if k == kind)
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"'{name}' is no name: lower-case letters and numbers, words joined by '-'",
            "For example: my-estimator",
        )
    if name in registry.names(chosen):
        raise ConfigError(
            f"there is {'an' if kind[0] in 'eu' else 'a'} {kind} '{name}' already",
            "Choose another name: a name that two distributions claim works for neither.",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already", "Name another folder with --out.")
    words = _words(chosen, name)
    module = words["module"]
    out = {
        f"{module}.py": f"{kind}.txt",
        f"tests/test_{module}.py": "test.txt",
        "pyproject.toml": "pyproject.txt",
        "README.md": "readme.txt",
    }
    try:
        for path, template in out.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(_text(template).substitute(words), encoding="utf-8")
    except OSError as error:
        raise cannot_write(Path(error.filename or folder), error.strerror) from error
    return [folder / path for path in out]


def module_of(name: str) -> str:
    """The module of a plugin's name: binomctl_my_estimator of my-estimator."""
    return f"binomctl_{name.replace('-', '_')}"


def used_as(kind: str, name: str) -> str:
    """The option by which a training in the new folder takes the plugin, with nothing installed."""
    return _words(next(k for k in registry.KINDS if k == kind), name)["uses_own"]


def _words(kind: Kind, name: str) -> dict[str, str]:
    cls = "".join(word.capitalize() for word in name.split("-"))
    words = {"kind": kind, "name": name, "cls": cls, "module": module_of(name)}
    words["what"] = registry.word(kind)
    uses = Template(USES[kind])
    own = f"{words['module']}:{cls}"
    return words | {"uses": uses.substitute(name=name), "uses_own": uses.substitute(name=own)}


def _text(template: str) -> Template:
    return Template((files("binomctl.starters") / "templates" / template).read_text("utf-8"))
