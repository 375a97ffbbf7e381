"""Makes processes that have torch and binomctl imported already: `python forking.py FD`.

A command's start costs 4 to 5 seconds of imports on a slow machine, and the tests start hundreds.
This process imports once, computes nothing, and forks whenever `command.Forked` asks; what it makes
are processes like any other, with their own standard streams, environment, folder and signals.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from typing import Any

LONGEST = 2**20


def serve(asked: socket.socket) -> dict[str, Any] | None:
    """Answer until nobody asks any more; in a process that was made, what it was asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever waits below ends unseen
    while True:
        message, streams, _, _ = socket.recv_fds(asked, LONGEST, 4)
        if not message:
            return None
        if os.fork():
            for stream in streams:
                os.close(stream)
            continue
        asked.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        *standard, told = streams
        child = os.fork()
        if not child:
            os.close(told)
            return {**json.loads(message), "streams": standard}
        for stream in (*standard, 0, 1, 2):
            os.close(stream)
        os.write(told, struct.pack("i", child))
        os.write(told, struct.pack("i", os.waitpid(child, 0)[1]))
        os._exit(0)


def become(request: dict[str, Any]) -> None:
    """Take the streams, folder, environment and signals of the command that was asked for."""
    for number, stream in enumerate(request["streams"]):
        os.dup2(stream, number)
        os.close(stream)
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        number = getattr(signal, name)
        signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    sys.argv = ["binomctl", *request["args"]]
    sys.path[0] = request["cwd"]  # as python -m has it


if __name__ == "__main__":
    import binomctl.cli.application
    import binomctl.training.opening
    import binomctl.training.run  # noqa: F401

    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        become(request)
        exec(request["script"], {})
        from binomctl.cli import main

        main()
