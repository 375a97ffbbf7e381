"""Runs a command in this process, as its console script does."""

from __future__ import annotations

import contextlib
import io
import sys
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
