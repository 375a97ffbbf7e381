"""The command line. One command a file; torch is imported inside the commands."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from binomctl.cli.application import app
from binomctl.cli.console import print_error
from binomctl.errors import BinomctlError


def main() -> None:
    """Entry point of `binomctl`: runs a command, words errors, sets the exit code."""
    try:
        app(prog_name="binomctl")
    except BinomctlError as error:
        if "--debug" in sys.argv:
            raise
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is saved: one more changes no code
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away: nothing left to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
