"""Small trainings in several real processes: under torchrun, and by hand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from command import Forked
from faults.runs import STARTED, last

TINY = (
    "--dataset", "sinusoid", "--K", "2", "--compile", "off", "--set", "model.width=8", "--set",
    "training.validation_tasks=7", "--set", "training.log_every=1",
)  # fmt: skip


def torchrun(
    *args: object, world: int, code: int = 0, script: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`torchrun -m binomctl ...`, ended, or of a script; its agent reports every failure as 1."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    started = [str(script)] if script else ["-m", "binomctl"]
    command += [str(world), *started, *map(str, args)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == code, done.stderr
    return done


def by_hand(*args: object, world: int, script: str = "", **env: str) -> list[Forked]:
    """The processes of a run without an agent, in order of rank.

    Args:
        script: runs in each before the command; `rank` is its number.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = f"import os, torch\nrank = int(os.environ['RANK'])\ntorch.set_num_threads(1)\n{script}"
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        Forked(args, env={**os.environ, "OMP_NUM_THREADS": "1", **shared, **env}
               | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, script=code)
        for rank in range(world)
    ]  # fmt: skip
    STARTED.extend(started)
    return started


def reach(run: Path, step: int, processes: list[Forked]) -> None:
    """Wait until a run has logged a step."""
    end = time.monotonic() + 60
    while last(run) < step and time.monotonic() < end:
        assert all(p.poll() is None for p in processes), processes[0].communicate()
        time.sleep(0.01)


def ended(processes: list[Forked]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each rank; all end within 60 s."""
    end = time.monotonic() + 60
    found = []
    for process in processes:
        out, err = process.communicate(timeout=max(1.0, end - time.monotonic()))
        found.append((process.returncode, out, err))
    return found
