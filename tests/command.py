"""Runs a command: in a process of its own, or in this one, which is faster."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from binomctl.cli import main

AT_START = {"PYTHONPATH", "OMP_NUM_THREADS", "PATH", "HOME"}
"""Variables that an interpreter or a library reads once, when it starts."""


def here(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """As `in_a_process`, without one."""
    out, err = io.StringIO(), io.StringIO()
    command = ["binomctl", *map(str, args)]
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.dict(os.environ, env),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def known_memory() -> contextlib.AbstractContextManager[object]:
    """A profile starts a process for each cell to measure its memory, which takes seconds; for
    tests of something else."""
    known = {"baseline_bytes": 2**28, "peak_bytes": 2**28 + 2**20}
    return mock.patch("binomctl.profiling.measure.peak_resident", return_value=known)


def binomctl(*args: object, code: int = 0) -> tuple[str, str]:
    """Run a command in this process, as its console script does: (stdout, stderr)."""
    done = here(*args)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def in_a_process(
    *args: object, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, with more environment variables."""
    if any(env[name] != os.environ.get(name) for name in AT_START & set(env)):
        return subprocess.run(
            [sys.executable, "-m", "binomctl", *map(str, args)],
            capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}, timeout=300,
        )  # fmt: skip
    with Forked(args, cwd, {**os.environ, **env}) as process:
        try:
            out, err = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(list(map(str, args)), process.returncode, out, err)


def listening() -> None:
    """To be called in a child that is to be signalled: signals as a terminal's child has them.
    nohup, background jobs and pytest-xdist's processes ignore some, and a child inherits that."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Forked(subprocess.Popen[str]):
    """`python -m binomctl`, made by forking.py instead of a new interpreter: the same in all but
    the seconds of its imports. Not for what is read at a start: PYTHONPATH, OMP_NUM_THREADS.

    Args:
        script: Python that runs in the process before the command.
    """

    def __init__(self, args: Sequence[object], cwd: Path | None = None,
                 env: Mapping[str, str] | None = None, script: str = "") -> None:  # fmt: skip
        self._asked_env = dict(os.environ if env is None else env)
        self._script = script
        pipe = subprocess.PIPE
        super().__init__([*map(str, args)], stdout=pipe, stderr=pipe, text=True, cwd=cwd)

    def _execute_child(self, args: Any, *rest: Any) -> None:
        # Popen's own arguments: the folder, and the ends of the two pipes that the child writes to.
        cwd, out, err = rest[4], rest[12], rest[14]
        request = {"args": args, "cwd": str(cwd or Path.cwd()), "env": self._asked_env,
                   "script": self._script}  # fmt: skip
        ours, theirs = os.pipe()
        with open(os.devnull) as nothing:
            streams = [nothing.fileno(), out, err, theirs]
            socket.send_fds(_forking(), [json.dumps(request).encode()], streams)
        for stream in (out, err, theirs):
            os.close(stream)
        self._told = open(ours, "rb", buffering=0)  # noqa: SIM115
        self.pid = struct.unpack("i", self._told.read(4))[0]
        self._child_created = True

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if flags and not select.select([self._told], [], [], 0)[0]:
            return 0, 0
        status = self._told.read(4)
        self._told.close()
        return self.pid, struct.unpack("i", status)[0]

    def _internal_poll(self, _deadstate: Any = None, **_: Any) -> int | None:
        if self.returncode is None:
            with self._waitpid_lock:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)
        return self.returncode


def _forking() -> socket.socket:
    """Where the process that forks is asked; it ends with this one."""
    return _forker()[0]


@functools.cache
def _forker() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    script = str(Path(__file__).with_name("forking.py"))
    forker = subprocess.Popen(
        [sys.executable, script, str(theirs.fileno())], pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    return ours, forker


def end_forking() -> None:
    """End the process that forks, if there is one; to be called when the tests are over."""
    if _forker.cache_info().currsize:
        asked, forker = _forker()
        asked.close()
        forker.kill()
        forker.wait()
