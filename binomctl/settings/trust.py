"""Whether a run folder may have its network and its plugins imported.

Importing a module runs its code, and a run folder somebody sent may name any. Training leaves a
note in the folder that says what was imported from where, signed with a secret that only this user
has; a folder without such a note needs the user's word.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from binomctl.errors import CheckpointError, ConfigError
from binomctl.files.atomic import write_json
from binomctl.files.small import read_object
from binomctl.options import IMPORT
from binomctl.settings import registry
from binomctl.settings.config import Config
from binomctl.settings.own import own
from binomctl.settings.registry import Kind

_NOTES = logging.getLogger("binomctl.notes")

NOTE = "origin.json"
SCHEMA = "binomctl/origin/2"
LONGEST = 2**20  # bytes of a note
REACHED = ("model", "dataset", "estimator", "rule", "trackers", "analysis", "profile")
"""Sections whose options reach a class that may have been imported."""


def sign(run: Path, config: Config) -> None:
    """Leave the note in a run folder whose network or plugins were imported by their dotted paths;
    nothing for any other run."""
    targets = [target for _, target in _imports(config)]
    secret = _secret(make=True) if targets else None
    if secret is not None:
        note = {"imports": [_origin(target) for target in targets]}
        signature = _signature(secret, note, config)
        write_json(run / NOTE, {"schema": SCHEMA, **note, "hmac": signature})


def require_trust(
    run: Path, config: Config, *, trust: bool = False, named: str | None = None
) -> None:
    """Refuse to import a run's network and plugins unless that was asked for; else import them.
    Where a source is not what it was in training, the logger "binomctl.notes" is told.

    To be called before anything is made from a configuration that lay in a run folder.

    Args:
        run: the run folder.
        config: its configuration.
        trust: whether the user said that they trust the folder (--trust).
        named: what the run imports, as the user named it, "package.module:Class", or None.

    Raises:
        CheckpointError: the run imports something, was not made here by this user, and nobody
            asked for the import; nothing was imported.
        ConfigError: what was named is not the run's, or cannot be imported.
    """
    note = _note(run, config)
    origins = {} if note is None else {one["import"]: one for one in note["imports"]}
    if named is not None and named not in (seen := [target for _, target in _imports(config)]):
        imports = ", ".join(seen) if seen else f"nothing: its network is {config.model.name}"
        raise ConfigError(
            f"the run imports {imports}, not {named}",
            f"Give --import {seen[0]}." if seen else "Leave --import out.",
        )
    changed = []
    for kind, target in _imports(config):
        origin = origins.get(target)
        if origin is None and not trust and target != named:
            raise CheckpointError(
                f"{run} asks for the import of '{target}', which runs code, and was not made by you"
                " on this machine",
                f"If you know where it is from: --trust, or --import {target}. Nothing was"
                " imported.",
            )
        folder = None if target == named or origin is None else origin["folder"]
        _import(kind, target, folder)
        now = _source(target)
        if origin is not None and origin["sha256"] not in (None, _sha256(now)):
            changed.append(str(now))
    if changed:
        _NOTES.warning("%s is not what it was when %s was trained", ", ".join(changed), run)


def signed(run: Path, config: Config) -> bool:
    """Whether this user made a run that imports something, with this configuration."""
    return _note(run, config) is not None


def _imports(config: Config) -> Iterator[tuple[Kind | None, str]]:
    """Kind and path of each, None for the network; a data set is to be imported before the next."""
    if config.model.name == IMPORT:
        yield None, str(config.model.options.get(IMPORT, ""))
    yield from own(config.model_dump(mode="json"))


def _import(kind: Kind | None, target: str, folder: str | None) -> None:
    """ConfigError, with the next step where a run's own source has moved."""
    where = Path(folder) if folder else None
    try:
        if kind is None:
            from binomctl.models.imported import find_network

            find_network(target, where)
        else:
            registry.ask(kind, target, where)
    except ConfigError as error:
        moved = f"If it has moved from {folder}: run in its folder with --import {target}."
        raise ConfigError(str(error), moved if folder else error.hint, key=error.key) from error


def _origin(target: str) -> dict[str, Any]:
    """Where a module was imported from, and what it was."""
    source = _source(target)
    # The folder to search: one up for every dot, and one more from a package's own file.
    up = target.partition(":")[0].count(".") + (source is not None and source.stem == "__init__")
    return {
        "import": target,
        "folder": str(source.parents[up]) if source else None,
        "source": str(source) if source else None,
        "sha256": _sha256(source),
    }


def _note(run: Path, config: Config) -> dict[str, Any] | None:
    """The note of a run, None where there is none of this user's for this very configuration."""
    secret = _secret(make=False)
    try:
        note = read_object(run / NOTE, LONGEST)
        claimed, schema = note.pop("hmac"), note.pop("schema")
        genuine = secret is not None and hmac.compare_digest(
            claimed, _signature(secret, note, config)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if genuine and schema == SCHEMA else None


def _signature(secret: bytes, note: dict[str, Any], config: Config) -> str:
    """Over the note and the options of what it names: they reach the classes."""
    data = config.model_dump(mode="json")
    chosen = {key: data[key] for key in REACHED}
    stages = [data["adaptation"]["optimizer"], data["training"]["order_annealing"]]
    said = json.dumps([note, chosen, stages], sort_keys=True)
    return hmac.new(secret, said.encode(), hashlib.sha256).hexdigest()


def _secret(make: bool) -> bytes | None:
    """This user's secret, made on first use; None where there is none or no place for one."""
    path = Path(platformdirs.user_state_dir("binomctl")) / "secret"
    if make:
        with suppress(OSError):  # it is there already, or cannot be kept: runs then need --trust
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = path.with_name(f".secret-{os.getpid()}")
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(os.urandom(32))
                os.link(beside, path)  # fails where another process was first
            finally:
                os.unlink(beside)
    try:
        secret = path.read_bytes()
    except OSError:
        return None
    return secret if len(secret) == 32 else None


def _source(target: str) -> Path | None:
    """The file that an imported module came from."""
    name = getattr(sys.modules.get(target.partition(":")[0]), "__file__", None)
    return Path(name).absolute() if isinstance(name, str) else None


def _sha256(file: Path | None) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() if file else None
    except OSError:
        return None
