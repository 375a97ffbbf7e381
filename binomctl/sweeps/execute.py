"""Cells through submitit: one loop for this machine and for Slurm."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import submitit

from binomctl.errors import ConfigError, Interrupted, MissingDependencyError, unknown
from binomctl.machine.signals import StopRequest
from binomctl.sweeps.folder import JOBS, SweepFolder
from binomctl.sweeps.job import Job

Cluster = Literal["local", "slurm"]
FINAL = (2, 3, 4, 5)
"""Exit codes that another try would have again: the configuration, the data, the checkpoint, the
numbers."""
GRACE = 15  # seconds that a result may need to be seen on a cluster's file system
SAVING = 60  # seconds that a cell that is told to stop has
BETWEEN = 5  # seconds between two questions to the queue


@dataclass(frozen=True)
class How:
    """jobs: cells at a time. tries: of each, at most. processes: of a cell, under torchrun.
    options: submitit's own, by its names."""

    cluster: Cluster
    jobs: int
    tries: int = 2
    processes: int = 1
    options: Mapping[str, Any] | None = None
    every: float = 1.0


def check_cluster(cluster: str) -> Cluster:
    """Refuse a cluster that is not there.

    Raises:
        ConfigError: another word. MissingDependencyError: Slurm without its commands.
    """
    if cluster not in ("local", "slurm"):
        raise ConfigError(
            f"--executor: {unknown('executor', cluster, ['local', 'slurm'])}",
            "local runs the cells here, slurm as jobs of a cluster.",
            key="executor",
        )
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise MissingDependencyError(
            "--executor slurm: there is no sbatch on this machine",
            "Call it where Slurm's commands are, or use --executor local.",
        )
    return "slurm" if cluster == "slurm" else "local"


def execute(folder: SweepFolder, how: How, tell: Callable[[str], None]) -> list[str]:
    """Run every cell that is not finished; one that fails is tried again, a finished one never.

    Args:
        tell: what happens, a line each; called at least once a round.

    Returns:
        The names of the cells that are not done.

    Raises:
        Interrupted: a signal came; cells on this machine have saved and ended.
    """
    executor = _executor(folder.path / JOBS, how)
    cards = Cards(gpus_here() if how.cluster == "local" else [])
    over = _Over(how.cluster)
    waiting = [name for name in folder.names if not folder.finished(name)]
    tries = dict.fromkeys(waiting, 0)
    running: dict[str, submitit.Job[Any]] = {}
    failed: list[str] = []
    try:
        with StopRequest() as stop:
            while waiting or running:
                while waiting and len(running) < how.jobs:
                    name = waiting.pop(0)
                    tries[name] += 1
                    cards.give(executor, name, int((how.options or {}).get("gpus_per_node", 1)))
                    cell = Job(folder.config(name), folder.path / name, how.processes)
                    job = executor.submit(cell)
                    running[name] = job
                    folder.log(name, "submitted", job=job.job_id)
                    tell(f"{name} submitted, job {job.job_id}")
                time.sleep(how.every)
                if stop.signal_number is not None:
                    raise Interrupted(
                        f"stopped by signal {stop.signal_number};"
                        f" {len(running)} cells were running",
                        stop.signal_number,
                        "The same command goes on.",
                    )
                over.look()
                for name, job in list(running.items()):
                    if not over(job):
                        continue
                    del running[name]
                    cards.take_back(name)
                    code, reason = _ended(job)
                    if folder.finished(name):
                        folder.log(name, "done", job=job.job_id)
                        tell(f"{name} done")
                        continue
                    folder.log(name, "failed", job=job.job_id, code=code, reason=reason)
                    again = code not in FINAL and tries[name] < how.tries
                    tell(f"{name} failed: {reason}{'; once more' if again else ''}")
                    (waiting if again else failed).append(name)
                tell("")
    except BaseException:
        # On this machine nobody would look after them; on a cluster they go on, and the next
        # `sweep` finds what they made.
        if how.cluster == "local":
            _end(list(running.values()))
        raise
    return failed


def _end(jobs: Sequence[submitit.Job[Any]]) -> None:
    """Let local jobs save and end, and wait until they have."""
    for job in jobs:
        job.cancel()
    until = time.monotonic() + SAVING
    while time.monotonic() < until and not all(job.done() for job in jobs):
        time.sleep(0.2)


def _executor(logs: Path, how: How) -> submitit.Executor:
    where = str(logs.absolute())
    given = {"name": "binomctl", **(how.options or {})}
    if how.cluster == "slurm":
        executor: submitit.Executor = submitit.AutoExecutor(folder=where, cluster="slurm")
        given.setdefault("timeout_min", 60)
    else:
        # Not an AutoExecutor: it does not let a local job's GPUs be named.
        executor = submitit.LocalExecutor(folder=where)
        given.setdefault("timeout_min", 60 * 24 * 7)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        share = (cores or 1) // (how.jobs * how.processes)  # the cells share the cores
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))
    executor.update_parameters(**given)
    return executor


def gpus_here() -> list[int]:
    """The numbers of this machine's GPUs that the environment leaves visible."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [int(one) for one in said.split(",") if one.strip().isdigit()]
    import torch

    return list(range(torch.cuda.device_count()))


class Cards:
    """This machine's GPUs, shared among cells: each gets those that the fewest others have."""

    def __init__(self, gpus: Sequence[int]) -> None:
        self._gpus, self._had = list(gpus), dict[str, list[int]]()

    def give(self, executor: submitit.Executor, name: str, count: int) -> None:
        """Let the next job that is submitted see so many, all of them where there are fewer. A
        local job of submitit's sees none otherwise."""
        if not self._gpus:
            return
        used = [gpu for had in self._had.values() for gpu in had]
        mine = sorted(sorted(self._gpus, key=lambda gpu: (used.count(gpu), gpu))[:count])
        self._had[name] = mine
        executor.update_parameters(gpus_per_node=len(mine), visible_gpus=tuple(mine))

    def take_back(self, name: str) -> None:
        """A cell is over."""
        self._had.pop(name, None)


class _Over:
    """Which jobs are over: those with a result, and those that died without one.

    Slurm is asked by squeue, not by sacct: many clusters, and most single machines, keep no
    accounts.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._queue: set[str] | None = None
        self._asked = -math.inf
        self._missed: dict[str, float] = {}

    def look(self) -> None:
        """Ask the queue, not too often; one that does not answer is asked again."""
        if self._cluster != "slurm" or time.monotonic() - self._asked < BETWEEN:
            return
        self._asked = time.monotonic()
        done = subprocess.run(
            ["squeue", "--noheader", "--format=%A"], capture_output=True, text=True, check=False
        )
        self._queue = set(done.stdout.split()) if done.returncode == 0 else None

    def __call__(self, job: submitit.Job[Any]) -> bool:
        if job.paths.result_pickle.exists():
            return True
        if self._cluster == "local":
            return job.done()
        if self._queue is None or job.job_id in self._queue:
            self._missed.pop(job.job_id, None)
            return False
        since = self._missed.setdefault(job.job_id, time.monotonic())
        return time.monotonic() - since > GRACE


def _ended(job: submitit.Job[Any]) -> tuple[int, str]:
    """The exit code of a job and why it ended; 1 and the last line of its log where it died."""
    said = ""
    if job.paths.result_pickle.exists():
        try:
            result = job.result()
            return int(result["code"]), str(result["reason"])
        except Exception as error:
            said = str(error)
    said = said or job.stderr() or ""
    lines = said.strip().splitlines()
    return 1, lines[-1][:300] if lines else "its process ended without a word"
