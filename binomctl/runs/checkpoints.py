"""Checkpoints: safetensors for the tensors, a manifest with their hashes written last."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from binomctl.errors import CheckpointError
from binomctl.files.atomic import write_atomic, write_json

SCHEMA = "binomctl/checkpoint/1"
PARAMETERS = "parameters.safetensors"
STATE = "state.safetensors"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """The meta-parameters after some step, by parameter name, and what is known about them.

    state: the rest that evaluation needs, by name: the rule's meta-parameters, batch norm's
    running averages.
    """

    step: int
    parameters: dict[str, Tensor]
    validation: float | None
    state: dict[str, Tensor] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder; without its manifest, written last, it does not count as one."""
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for name, tensors in ((PARAMETERS, checkpoint.parameters), (STATE, checkpoint.state)):
        plain = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
        data = safetensors.torch.save(plain)
        write_atomic(folder / name, data)
        hashes[name] = hashlib.sha256(data).hexdigest()
    write_json(
        folder / MANIFEST,
        {
            "schema": SCHEMA,
            "step": checkpoint.step,
            "validation": checkpoint.validation,
            "sha256": hashes,
        },
    )


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        CheckpointError: a file is missing, of a newer schema, or its hash is not the manifest's.
    """
    manifest = _manifest(folder)
    parameters = _tensors(folder / PARAMETERS, manifest)
    state = _tensors(folder / STATE, manifest)
    return Checkpoint(manifest["step"], parameters, manifest["validation"], state)


def _tensors(path: Path, manifest: dict[str, Any]) -> dict[str, Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != manifest["sha256"].get(path.name):
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}",
            "Use another checkpoint of the run, or train again.",
        )
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    return tensors


def remove(folder: Path) -> None:
    """Delete a checkpoint, its manifest first, so that a half-deleted one does not count."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        schema = manifest["schema"]
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: not the manifest of a checkpoint") from error
    if schema != SCHEMA:
        raise CheckpointError(
            f"{path} has schema '{schema}', this version reads '{SCHEMA}'",
            "Use the version of binomctl that wrote it, or a newer one.",
        )
    return manifest
