"""JSON records that say when they were changed: the SHA-256 of the rest is among their keys."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from binomctl.errors import CheckpointError
from binomctl.files.atomic import write_json
from binomctl.files.small import read_object

SEAL = "seal"
LARGEST = 4 * 2**20
"""Bytes beyond which a file is no record of ours: a checkpoint's has a few kilobytes."""


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a record whole or not at all, with its seal."""
    write_json(path, {**value, SEAL: _seal(value)})


def read_sealed(path: Path, schema: str, what: str) -> dict[str, Any]:
    """A record as it was written, without its seal.

    Args:
        schema: its name and version, under the key "schema".
        what: "the manifest of a checkpoint", say, for messages.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it cannot be read, is another record, of another version, or was changed.
    """
    try:
        value = read_object(path, LARGEST)
        found = value["schema"]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: not {what}") from error
    if found != schema:
        raise CheckpointError(
            f"{path} has schema '{str(found)[:60]}', this version reads '{schema}'",
            "Use the version of binomctl that wrote it, or a newer one.",
        )
    seal = value.pop(SEAL, None)
    if seal != _seal(value):
        raise CheckpointError(
            f"{path} is damaged: it was changed after it was written (its seal does not fit)",
            "Restore the file, or train again.",
        )
    return value


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _seal(value: dict[str, Any]) -> str:
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
