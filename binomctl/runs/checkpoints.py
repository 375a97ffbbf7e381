"""Checkpoints: safetensors for the tensors, a sealed manifest with their hashes written last."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binomctl.errors import CheckpointError
from binomctl.files.atomic import write_atomic
from binomctl.files.sealed import read_sealed, sha256, write_sealed

if TYPE_CHECKING:  # a list of runs must not wait for torch
    from torch import Tensor

SCHEMA = "binomctl/checkpoint/2"
MODEL = "model.safetensors"
STATE = "state.safetensors"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A training run after some step.

    model: the module's state_dict at the meta-parameters theta, buffers and frozen parameters
    included: `load_state_dict` takes it as it is. learned: the names among them that theta is.
    state: all other tensors, by name: the rule's meta-parameters, batch norm's running averages,
    an estimator's state, the outer optimiser's, random generators'. numbers: what else the loop
    carries, JSON-ready. config: SHA-256 of the run's config.yaml.
    """

    step: int
    model: dict[str, Tensor]
    learned: tuple[str, ...]
    state: dict[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    validation: float | None = None
    config: str = ""

    @property
    def parameters(self) -> dict[str, Tensor]:
        """theta by name."""
        return {name: self.model[name] for name in self.learned}

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of `state` whose names begin so, without it."""
        return {n.removeprefix(prefix): t for n, t in self.state.items() if n.startswith(prefix)}


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder; without its manifest, written last, it does not count as one."""
    folder.mkdir(exist_ok=True)  # never its parents: a run that was moved away has failed
    hashes = write_tensors(folder, {MODEL: checkpoint.model, STATE: checkpoint.state})
    write_sealed(
        folder / MANIFEST,
        {
            "schema": SCHEMA,
            "step": checkpoint.step,
            "validation": checkpoint.validation,
            "learned": list(checkpoint.learned),
            "numbers": checkpoint.numbers,
            "config_sha256": checkpoint.config,
            "sha256": hashes,
        },
    )


def write_tensors(folder: Path, files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, str]:
    """Write safetensors files into a folder; the SHA-256 of each by its name."""
    hashes = {}
    for name, tensors in files.items():
        data = as_bytes(tensors)
        write_atomic(folder / name, data)
        hashes[name] = sha256(data)
    return hashes


def as_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors by name as the bytes of a safetensors file."""
    import safetensors.torch

    # Copies: safetensors writes no tensor that shares its memory with another, tied weights.
    plain = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
    data: bytes = safetensors.torch.save(plain)
    return data


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        CheckpointError: a file is missing, of a newer schema, or its hash is not the manifest's.
    """
    manifest = _manifest(folder)
    return Checkpoint(
        manifest["step"],
        checked_tensors(folder / MODEL, manifest),
        tuple(manifest["learned"]),
        checked_tensors(folder / STATE, manifest),
        manifest["numbers"],
        manifest["validation"],
        manifest["config_sha256"],
    )


def record(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are as it says; no tensor is made.

    Raises:
        CheckpointError: as `load`.
    """
    manifest = _manifest(folder)
    for name in (MODEL, STATE):
        _checked_bytes(folder / name, manifest)
    return manifest


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        return read_sealed(path, SCHEMA, "the manifest of a checkpoint")
    except FileNotFoundError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def remove(folder: Path) -> None:
    """Delete a checkpoint, its manifest first, so that a half-deleted one does not count."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def checked_tensors(path: Path, manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file whose hash a record has under "sha256" by the file's name.

    Raises:
        CheckpointError: it cannot be read, has another hash, or is no safetensors file.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    data = _checked_bytes(path, manifest)
    try:
        # Copies: what is read lies anywhere in memory, and kernels may round otherwise there.
        return {n: t.clone() for n, t in safetensors.torch.load(data).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def _checked_bytes(path: Path, manifest: Mapping[str, Any]) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if sha256(data) != manifest["sha256"].get(path.name):
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is not the one that was kept of it",
            "Of a run use another checkpoint: binomctl train --resume auto takes the newest whole"
            " one. An adapted network is made again by 'binomctl adapt'.",
        )
    return data
