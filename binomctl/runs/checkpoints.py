"""Checkpoints: safetensors for the tensors, a manifest with their hashes written last."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from binomctl.errors import CheckpointError
from binomctl.runs.atomic import write_atomic, write_json

SCHEMA = "binomctl/checkpoint/1"
TENSORS = "parameters.safetensors"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """The meta-parameters after some step, by parameter name, and what is known about them."""

    step: int
    parameters: dict[str, Tensor]
    validation: float | None


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder; without its manifest, written last, it does not count as one."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: t.detach().cpu().contiguous() for n, t in checkpoint.parameters.items()}
    data = safetensors.torch.save(tensors)
    write_atomic(folder / TENSORS, data)
    write_json(
        folder / MANIFEST,
        {
            "schema": SCHEMA,
            "step": checkpoint.step,
            "validation": checkpoint.validation,
            "sha256": {TENSORS: hashlib.sha256(data).hexdigest()},
        },
    )


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        CheckpointError: a file is missing, of a newer schema, or its hash is not the manifest's.
    """
    manifest = _manifest(folder)
    path = folder / TENSORS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != manifest["sha256"].get(TENSORS):
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}",
            "Use another checkpoint of the run, or train again.",
        )
    try:
        return Checkpoint(manifest["step"], safetensors.torch.load(data), manifest["validation"])
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None


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
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path} is damaged: not the manifest of a checkpoint") from None
    if schema != SCHEMA:
        raise CheckpointError(
            f"{path} has schema '{schema}', this version reads '{SCHEMA}'",
            "Use the version of binomctl that wrote it, or a newer one.",
        )
    return manifest
