"""All that a run depends on and its configuration does not say."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from binomctl.contracts import Dataset
from binomctl.machine.environment import environment
from binomctl.settings import registry

DECIDES = ("BINOMCTL_", "CUBLAS_", "CUDA_", "KMP_", "MKL_", "NVIDIA_", "OMP_", "OPENBLAS_",
           "PYTHONHASHSEED", "PYTORCH_", "SLURM_JOB_ID", "TORCH", "WORLD_SIZE")  # fmt: skip
"""What the names of environment variables that can change a run begin with."""


def provenance() -> dict[str, Any]:
    """Machine and packages, the command line, the state of git in the working folder, plugins and
    the distributions they come from, environment variables that matter; JSON-ready."""
    return {
        **environment(),
        "command": sys.argv,
        "folder": os.getcwd(),
        "git": git_state(),
        "plugins": registry.distributions(),
        "variables": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith(DECIDES)
        },
    }


def git_state() -> dict[str, Any] | None:
    """Commit and number of changed files of the working folder's repository, if it has one."""
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    if commit is None or changed is None:
        return None
    return {"commit": commit.strip(), "changed_files": len(changed.splitlines())}


def fingerprint(dataset: Dataset, splits: Iterable[str] = ("train", "validation", "test")) -> str:
    """SHA-256 over the first episode of every split: other files, or another order of classes,
    give another one."""
    digest = hashlib.sha256()
    for split in splits:
        episode = dataset.episode(split, 0)
        for part in (episode.x_trn, episode.y_trn, episode.x_val, episode.y_val):
            for tensor in tree_leaves(part):
                if isinstance(tensor, Tensor):
                    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                    digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
