"""An adapted network in a folder: its tensors, and what it takes to build it again.

adapted.json (sealed: what it is of, the configuration, the files' SHA-256), model.safetensors (the
module's state_dict), outside.safetensors (buffers outside of it, where there are any).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from binomctl.errors import CheckpointError, ConfigError
from binomctl.files.atomic import writing
from binomctl.files.sealed import read_sealed, write_sealed
from binomctl.learner.adapted import Adapted
from binomctl.machine.devices import choose_device
from binomctl.models import build_model
from binomctl.problem.batch_norm import with_constants
from binomctl.problem.build import load_constants
from binomctl.runs.checkpoints import checked_tensors, write_tensors
from binomctl.settings.config import Config
from binomctl.settings.trust import require_trust, sign

SCHEMA = "binomctl/adapted/1"
RECORD, MODEL, OUTSIDE = "adapted.json", "model.safetensors", "outside.safetensors"


def is_adapted(path: Path) -> bool:
    """Whether a folder is, or was meant to be, an adapted network's."""
    return (path / RECORD).is_file()


def keep_adapted(adapted: Adapted, folder: Path, about: Mapping[str, Any]) -> None:
    """Write a folder, whole or not at all.

    Args:
        about: what else is to be known, JSON-ready: {"run", "checkpoint_step", "shots", ...}.

    Raises:
        ConfigError: there is such a folder, or the classes are not strings or whole numbers.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already", "Name another folder.")
    if strange := [c for c in adapted.classes if not isinstance(c, str | int)]:
        raise ConfigError(f"class {strange[0]!r} cannot be written", "Name classes by strings.")
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    with writing(folder):
        partial.mkdir(parents=True)
        try:
            _write(adapted, partial, about)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _write(adapted: Adapted, folder: Path, about: Mapping[str, Any]) -> None:
    inside = adapted.module.state_dict()
    outside = {n: b for n, b in adapted.module.named_buffers() if n not in inside}
    files = {MODEL: inside} | ({OUTSIDE: outside} if outside else {})
    hashes = write_tensors(folder, files)
    write_sealed(
        folder / RECORD,
        {
            "schema": SCHEMA,
            **about,
            "in_shape": list(adapted.in_shape),
            "out_dim": adapted.out_dim,
            "classes": list(adapted.classes),
            "steps": adapted.steps,
            "averages": adapted.averages,
            "config": adapted.config.model_dump(mode="json"),
            "sha256": hashes,
        },
    )
    sign(folder, adapted.config)


def open_adapted(
    folder: Path, *, device: str | None = None, trust: bool = False
) -> tuple[Adapted, dict[str, Any]]:
    """An adapted network and what is known of it.

    Args:
        device: auto, cpu, cuda or cuda:N; None for the run's own.
        trust: whether to import a network that a folder from elsewhere names.

    Raises:
        CheckpointError: no such folder, a damaged one, or one whose network nobody trusts.
    """
    try:
        record = read_sealed(folder / RECORD, SCHEMA, "an adapted network")
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} is no adapted network: it has no {RECORD}",
            "'binomctl adapt RUN --support DIR -o DIR' makes one.",
        ) from error
    config = Config.model_validate(record["config"])
    require_trust(folder, config, trust=trust)
    in_shape, out_dim = tuple(record["in_shape"]), record["out_dim"]
    tensors: dict[str, Tensor] = {}
    for name in record["sha256"]:
        tensors |= checked_tensors(folder / name, record)
    module = empty_module(config, in_shape, out_dim, averages=record["averages"])
    load_constants(module, tensors)
    module.to(choose_device(device or config.device))
    return (
        Adapted(module, config, in_shape, tuple(record["classes"]), out_dim, record["steps"],
                record["averages"]),
        record,
    )  # fmt: skip


def empty_module(
    config: Config, in_shape: tuple[int, ...], out_dim: int, *, averages: bool
) -> nn.Module:
    """A run's network with other parameters than it was saved with.

    averages: batch norm reads running averages.
    """
    model = config.model
    made = build_model(model.name, model.options, in_shape, out_dim, config.seed)
    made = made.to(getattr(torch, config.dtype))
    return with_constants(made) if averages else made
