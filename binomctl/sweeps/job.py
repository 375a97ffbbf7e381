"""What a process of a sweep does: one cell, to its end, or to where it is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.core.utils import DelayedSubmission

from binomctl.errors import BinomctlError, Interrupted
from binomctl.machine.signals import StopRequest
from binomctl.runs.resuming import outcome, unfinished
from binomctl.settings.layers import load_config
from binomctl.training.observer import Silent
from binomctl.training.opening import checked, going_on, new
from binomctl.training.run import train

PREEMPTED = 128 + getattr(signal, "SIGUSR2", 0)  # not on Windows, where no sweep runs
"""The signal by which submitit tells a job that its time is over or that it is preempted."""


@dataclass
class Job:
    """Trains a cell in its folder, from where it is. Returns {"code", "reason"}; code is the exit
    code that the command `train` would have had, 1 for whatever ended several processes.

    Args:
        processes: more than one share the cell's tasks, under torchrun.
    """

    config: Path
    folder: Path
    processes: int = 1

    def __call__(self) -> dict[str, Any]:
        try:
            self._train()
        except Interrupted as stopped:
            if stopped.exit_code == PREEMPTED:
                # All is saved. submitit's handler is back: it puts the job into the queue again,
                # and does not return where it does.
                os.kill(os.getpid(), signal.SIGUSR2)
            return {"code": stopped.exit_code, "reason": str(stopped)}
        except BinomctlError as error:
            return {"code": error.exit_code, "reason": f"{error} {error.hint}".strip()}
        return {"code": 0, "reason": ""}

    def checkpoint(self) -> DelayedSubmission:
        """The job that goes on after a preemption: the same, for the run knows where it is."""
        return DelayedSubmission(self)

    def _train(self) -> None:
        if outcome(self.folder) is not None:
            return
        if self.processes > 1:
            self._train_together()
            return
        config, _ = load_config(self.config)
        if unfinished(config, self.folder) is not None:
            opened = going_on(self.folder, config, [], fallback=True)
        else:
            opened = new(checked(config), self.folder)
        with opened.run as run:
            train(opened.problem, run, Silent(), start=opened.start)

    def _train_together(self) -> None:
        """Under torchrun, which passes SIGTERM on: every process saves its last step."""
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
            str(self.processes), "-m", "binomctl", "train", "--config", str(self.config),
            "--resume", "auto", "--out", str(self.folder),
        ]  # fmt: skip
        with StopRequest() as stop, tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(command, stderr=said)
            told = False
            while process.poll() is None:
                if stop.signal_number is not None and not told:
                    process.terminate()
                    told = True
                time.sleep(0.2)
            said.seek(0)
            lines = said.read().splitlines()
        sys.stderr.write("\n".join([*lines, ""]))
        if stop.signal_number is not None:
            raise Interrupted("stopped", stop.signal_number)
        if outcome(self.folder) is None:
            errors = [line for line in lines if line.startswith("error: ")]
            raise BinomctlError((errors or lines or ["no word"])[-1].removeprefix("error: "))
