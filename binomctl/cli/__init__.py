"""The command line. One command a file; torch is imported inside the commands."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

import typer

from binomctl.cli.application import app
from binomctl.cli.console import print_error, print_note
from binomctl.cli.usage import UsageError, in_words, is_help
from binomctl.errors import BinomctlError, ResourceError


def main() -> None:
    """Entry point of `binomctl`: runs a command, words errors, sets the exit code."""
    for name in ("stdout", "stderr"):  # closed by the shell, 2>&- say: then nobody listens
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        try:
            code = app(prog_name="binomctl", standalone_mode=False)
        except UsageError as refused:
            if is_help(refused):  # a group of commands typed alone: its help was shown
                sys.exit(refused.exit_code)
            raise in_words(refused) from refused
        finally:
            sys.stdout.flush()
        if code:
            sys.exit(code)
    except BinomctlError as error:
        if "--debug" in sys.argv:
            raise
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is saved: one more changes no code
        if not error.quiet:
            print_error(error)
        sys.exit(error.exit_code)
    except typer.Abort:
        print_note("nothing was done: there was no answer")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away: nothing left to say, and nobody to say it to.
        _leave_stdout()
        sys.exit(141)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        _leave_stdout()
        reason = f"{error.filename or 'the output'}: {error.strerror or error}"
        print_error(ResourceError(f"cannot read or write {reason}", "--debug shows where."))
        sys.exit(ResourceError.exit_code)


def _leave_stdout() -> None:
    """What is left to write to stdout goes nowhere: no second failure when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
