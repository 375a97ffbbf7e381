"""Importing torch, most of a command's start: sooner, and with a word to whoever waits."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading

from binomctl.cli.console import print_note

PATIENCE = 1.0  # seconds of silence: whoever waits longer is told what for


def load_torch() -> None:
    """Import torch, which commands do before they build anything; at once where it is there.

    While modules are made nothing becomes garbage, but the collector looks through all of them
    again and again: it rests meanwhile, and what was imported is not looked through later.
    """
    if "torch" in sys.modules:
        return
    told = threading.Timer(PATIENCE, print_note, ["loading torch ..."])
    told.daemon = True
    if os.environ.get("RANK", "0") == "0":  # one of the processes of torchrun speaks
        told.start()
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
        told.cancel()
    atexit.register(gc.freeze)  # the end frees it all: half a second of looking for cycles less
