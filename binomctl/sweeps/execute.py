"""Cells through submitit: one loop for this machine and for Slurm."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import submitit

from binomctl.errors import ConfigError, Interrupted, MissingDependencyError, unknown
from binomctl.machine.cores import cores
from binomctl.machine.signals import StopRequest
from binomctl.sweeps.cards import Cards, gpus_here
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
        ConfigError: another word. MissingDependencyError: Slurm without its commands, a system
            without the signals by which jobs are told to stop.
    """
    if cluster not in ("local", "slurm"):
        raise ConfigError(
            f"--executor: {unknown('executor', cluster, ['local', 'slurm'])}",
            "local runs the cells here, slurm as jobs of a cluster.",
            key="executor",
        )
    if not hasattr(signal, "SIGUSR2"):
        raise MissingDependencyError(
            "cells of a sweep are told to stop by signals that Windows does not have",
            "Call it on Linux or macOS, or in WSL; 'binomctl train' trains one run anywhere.",
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
    cells = _Cells(folder, how, tell)
    try:
        with StopRequest() as stop:
            while cells.waiting or cells.running:
                cells.submit()
                time.sleep(how.every)
                if stop.signal_number is not None:
                    raise Interrupted(
                        f"stopped by signal {stop.signal_number};"
                        f" {len(cells.running)} cells were running",
                        stop.signal_number,
                        "The same command goes on.",
                    )
                cells.collect()
                tell("")
    except BaseException:
        # On this machine nobody would look after them; on a cluster they go on, and the next
        # `sweep` finds what they made.
        if how.cluster == "local":
            _let_save(list(cells.running.values()))
        raise
    return cells.failed


class _Cells:
    """The cells of a sweep that are not finished: those that wait, their jobs, those that failed
    for good."""

    def __init__(self, folder: SweepFolder, how: How, tell: Callable[[str], None]) -> None:
        self._folder, self._how, self._tell = folder, how, tell
        self._executor = _executor(folder.path / JOBS, how)
        self._cards = Cards(gpus_here() if how.cluster == "local" else [])
        self._over = _Over(how.cluster)
        self.waiting = [name for name in folder.names if not folder.finished(name)]
        self.running: dict[str, submitit.Job[Any]] = {}
        self.failed: list[str] = []
        self._tries = dict.fromkeys(self.waiting, 0)

    def submit(self) -> None:
        """Begin as many as may run at a time."""
        how, gpus = self._how, int((self._how.options or {}).get("gpus_per_node", 1))
        while self.waiting and len(self.running) < how.jobs:
            name = self.waiting.pop(0)
            self._tries[name] += 1
            self._cards.give(self._executor, name, gpus)
            cell = Job(self._folder.config(name), self._folder.path / name, how.processes)
            job = self.running[name] = self._executor.submit(cell)
            self._folder.log(name, "submitted", job=job.job_id)
            self._tell(f"{name} submitted, job {job.job_id}")

    def collect(self) -> None:
        """Take those that are over: done, to be tried again, or failed."""
        self._over.look()
        for name, job in list(self.running.items()):
            if self._over(job):
                del self.running[name]
                self._cards.take_back(name)
                self._end(name, job)

    def _end(self, name: str, job: submitit.Job[Any]) -> None:
        code, reason = _ended(job)
        if self._folder.finished(name):
            self._folder.log(name, "done", job=job.job_id)
            self._tell(f"{name} done")
            return
        self._folder.log(name, "failed", job=job.job_id, code=code, reason=reason)
        again = code not in FINAL and self._tries[name] < self._how.tries
        self._tell(f"{name} failed: {reason}{'; once more' if again else ''}")
        (self.waiting if again else self.failed).append(name)


def _let_save(jobs: Sequence[submitit.Job[Any]]) -> None:
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
        share = len(cores()) // (how.jobs * how.processes)  # the cells share the cores
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))
    executor.update_parameters(**given)
    return executor


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
