"""Whether a run folder may have its network imported.

Importing a module runs its code, and a run folder somebody sent may name any. Training leaves a
note in the folder that says which network was imported from where, signed with a secret that only
this user has; a folder without such a note needs the user's word.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from binomctl.errors import CheckpointError, ConfigError
from binomctl.files.atomic import write_json
from binomctl.files.small import read_object
from binomctl.options import IMPORT
from binomctl.settings.config import Config

NOTE = "origin.json"
SCHEMA = "binomctl/origin/1"
LONGEST = 2**20  # bytes of a note


def sign(run: Path, config: Config) -> None:
    """Leave the note in a run folder whose network was imported; nothing for any other run."""
    target = imported_by(config)
    if target is None:
        return
    source = _source(target)
    # The folder to search: one up for every dot, and one more from a package's own file.
    up = target.partition(":")[0].count(".") + (source is not None and source.stem == "__init__")
    note = {
        "import": target,
        "folder": str(source.parents[up]) if source else None,
        "source": str(source) if source else None,
        "sha256": _sha256(source),
    }
    secret = _secret(make=True)
    if secret is not None:
        signature = _signature(secret, note, config)
        write_json(run / NOTE, {"schema": SCHEMA, **note, "hmac": signature})


def require_trust(
    run: Path, config: Config, *, trust: bool = False, named: str | None = None
) -> str | None:
    """Refuse to import a run's network unless that was asked for; import it otherwise.

    To be called before a problem is built from a configuration that lay in a run folder.

    Args:
        run: the run folder.
        config: its configuration.
        trust: whether the user said that they trust the folder (--trust).
        named: the network as the user named it, "package.module:Class", or None.

    Returns:
        A warning where the network's source is not what it was in training, or None.

    Raises:
        CheckpointError: the run imports a network, was not made here by this user, and nobody
            asked for the import; nothing was imported.
        ConfigError: the network named is not the run's, or cannot be imported.
    """
    target = imported_by(config)
    if named is not None and named != target:
        raise ConfigError(
            f"the run's network is {target or config.model.name}, not {named}",
            "Leave --import out." if target is None else f"Give --import {target}.",
        )
    if target is None:
        return None
    from binomctl.models.imported import find_network

    note = _note(run, config)
    if note is None and not trust and named is None:
        raise CheckpointError(
            f"{run} asks for the import of '{target}', which runs code, and was not made by you on"
            " this machine",
            f"If you know where it is from: --trust, or --import {target}. Nothing was imported.",
        )
    folder = None if named is not None or note is None else note["folder"]
    try:
        find_network(target, Path(folder) if folder else None)
    except ConfigError as error:
        moved = f"If it has moved from {folder}: run in its folder with --import {target}."
        raise ConfigError(str(error), moved if folder else error.hint, key=error.key) from error
    now = _source(target)
    if note is not None and note["sha256"] not in (None, _sha256(now)):
        return f"{now} is not what it was when {run} was trained"
    return None


def imported_by(config: Config) -> str | None:
    """The network a configuration imports, "package.module:Class"; None where it imports none."""
    if config.model.name != IMPORT:
        return None
    return str(config.model.options.get(IMPORT, ""))


def _note(run: Path, config: Config) -> dict[str, Any] | None:
    """The note of a run, None where there is none of this user's for this very network."""
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
    """Over the note and the network's options: they reach the class that it names."""
    said = json.dumps([note, config.model.model_dump(mode="json")], sort_keys=True)
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
    """The file that an imported network's module came from."""
    name = getattr(sys.modules.get(target.partition(":")[0]), "__file__", None)
    return Path(name).absolute() if isinstance(name, str) else None


def _sha256(file: Path | None) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() if file else None
    except OSError:
        return None
