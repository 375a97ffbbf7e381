"""Runs a command: in a process of its own, or in this one, which is faster."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from binomctl.cli import main


def binomctl(*args: object, code: int = 0) -> tuple[str, str]:
    """Run a command in this process, as its console script does: (stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["binomctl", *map(str, args)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            ended = end.code or 0
        else:
            ended = 0
    assert ended == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def in_a_process(
    *args: object, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, with more environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "binomctl", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **env},
        timeout=300,
    )


def listening() -> None:
    """To be called in a child that is to be signalled: signals as a terminal's child has them.
    nohup, background jobs and pytest-xdist's processes ignore some, and a child inherits that."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
