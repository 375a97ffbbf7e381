"""Small real trainings as real processes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from command import Forked

STARTED: list[subprocess.Popen[str]] = []
"""What a test has started; none outlives it."""

SMALL = (
    "--dataset", "sinusoid", "--meta-batch", "2", "--steps", "40", "--K", "2",
    "--set", "training.validate_every=10", "--set", "training.checkpoint_every=5",
    "--set", "training.validation_tasks=3", "--set", "training.log_every=1",
    "--compile", "off",  # which long runs would be, for half a minute
)  # fmt: skip


def started(
    *args: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A training that runs."""
    process = Forked(["train", *args], cwd, env)
    STARTED.append(process)
    return process


def reaches(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Wait until a training has logged a step."""
    end = time.monotonic() + 120
    while last(run) < step and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def last(run: Path) -> int:
    """The last logged step."""
    return max((record["step"] for record in records(run)), default=0)


def records(run: Path) -> list[dict[str, object]]:
    """metrics.jsonl without the seconds."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    out = []
    for line in lines:
        try:
            out.append({k: v for k, v in json.loads(line).items() if k != "seconds"})
        except ValueError:
            continue
    return out


def tensors(run: Path, step: int) -> tuple[bytes, bytes]:
    """The two tensor files of a checkpoint."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    return tuple((folder / f"{name}.safetensors").read_bytes() for name in ("model", "state"))
