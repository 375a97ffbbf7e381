"""A user's own code by its dotted path, "package.module:Class".

Importing a module runs its code, so whoever calls `imported` has been asked to: what a run folder
names passes binomctl/settings/trust.py first.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from pathlib import Path
from typing import Any

from binomctl.errors import ConfigError, nearest


def is_target(text: str) -> bool:
    """Whether a text has the form package.module:Class."""
    module, colon, name = text.partition(":")
    return bool(colon) and all(word.isidentifier() for word in (*module.split("."), name))


def imported(target: str, folder: Path | None, key: str, what: str) -> Any:
    """What "package.module:Class" names, its module imported; nothing of it is called.

    Args:
        folder: searched first; None: the working folder, as by `python -m`.
        key: the configuration key that names it, for errors.
        what: what is looked for, "network" say, for errors.

    Raises:
        ConfigError: not of this form, no such module or name, a module that fails.
    """
    if not is_target(target):
        raise ConfigError(f"import '{target}' is not of the form package.module:Class", key=key)
    module_name, _, name = target.partition(":")
    first = module_name.partition(".")[0]
    if first in sys.stdlib_module_names:  # told before its import: some act when imported
        raise ConfigError(
            f"import '{target}': {first} is a part of Python, which has no {what}s",
            f"Name the module of your own that has the {what}.",
            key=key,
        )
    module = _module(module_name, folder or Path.cwd(), key)
    found = getattr(module, name, None)
    if found is None:
        classes = [n for n, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(
            f"module '{module_name}' has no '{name}'.{nearest(name, classes)}",
            f"Name a class of {module_name}: {module_name}:CLASS.",
            key=key,
        )
    return found


def loaded(target: str) -> Any:
    """What "package.module:Class" names where its module was imported already, else None."""
    module_name, _, name = target.partition(":")
    return getattr(sys.modules.get(module_name), name, None)


def _module(name: str, folder: Path, key: str) -> Any:
    """A module, the folder searched first for it alone: kept in front of the path, a file of the
    folder would stand in for whatever is imported later."""
    here, before = str(folder), list(sys.path)
    own = importlib.machinery.PathFinder.find_spec(name.partition(".")[0], [here]) is not None
    try:
        if own:
            sys.path.insert(0, here)
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"cannot import '{name}': {error}",
            "Install it, or run in the folder that holds it.",
            key=key,
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"'{name}' fails when imported: {type(error).__name__}: {error}",
            "--debug shows where.",
            key=key,
        ) from error
    finally:
        if own:
            sys.path.remove(here)
            if here not in before:  # for what it imports when it is called
                sys.path.append(here)
