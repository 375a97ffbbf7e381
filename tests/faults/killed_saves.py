"""Saves the checkpoint of step 2 over a run that has step 1, and is killed at each of its file
operations in turn. Prints, for every one of them, what the run holds afterwards.

    python killed_saves.py FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

from binomctl.errors import CheckpointError
from binomctl.runs import Checkpoint, RunDirectory
from binomctl.settings.config import Config

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


def checkpoint(step: int) -> Checkpoint:
    w = torch.full((1000,), float(step))
    return Checkpoint(step, {"w": w}, ("w",), {"optimizer.0.m": w}, {"best": {"step": step}})


def killed_at(number: int, run: RunDirectory) -> bool:
    """Save in a child that dies at its number-th file operation; whether it lived."""
    child = os.fork()
    if child == 0:
        seen, inside, fsync = [0], str(run.path), os.fsync

        def count() -> None:
            seen[0] += 1
            if seen[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event: str, args: tuple[object, ...]) -> None:
            if event in EVENTS and any(str(a).startswith(inside) for a in args[:2]):
                count()

        def flush(handle: int) -> None:
            count()
            fsync(handle)
            count()

        os.fsync = flush
        sys.addaudithook(hook)
        run.checkpoints.save(checkpoint(2), best=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> None:
    root, found = Path(sys.argv[1]), []
    for number in range(1, 1000):
        path = root / "run"
        shutil.rmtree(path, ignore_errors=True)
        run = RunDirectory.create(path, Config())
        run.checkpoints.save(checkpoint(1), best=True)
        lived = killed_at(number, run)
        newest, damaged = run.checkpoints.newest()
        try:
            last = run.checkpoints.load("last").step
        except CheckpointError as error:
            last = str(error)
        run.close()
        with RunDirectory.resume(path) as again:
            left = sorted(p.name for p in path.rglob("*.tmp"))
            after = again.checkpoints.newest()[0]
        found.append([newest.step, float(newest.model["w"][0]), damaged, last, left, after.step])
        if lived:
            break
    print(json.dumps(found))


main()
