"""Contestants that take turns in processes of their own, so that none meets another's threads,
memory or caches.

A step of a few milliseconds is half as long again beside the thread pools of three libraries. Each
process makes its step ready, says so in a line of JSON, and answers every line with the mean
milliseconds of a step over a turn, the first of which is not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

TURN_S, REST_S = 0.05, 0.02
"""A turn; and between two, so that threads which wait awake for more work have gone to sleep."""


def serve(step: Callable[[], Any], about: dict[str, Any]) -> None:
    """Answer every line of stdin with the ms of a step, until it ends."""
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        step()
        start, n, spent = time.perf_counter(), 0, 0.0
        while spent < TURN_S:
            step()
            n, spent = n + 1, time.perf_counter() - start
        print(1e3 * spent / n, flush=True)


def take_turns(
    commands: Iterable[tuple[str, list[str]]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """Times in ms by label, round after round, and what each process said of itself.

    Raises:
        SystemExit: a process ended instead; its own words went to stderr.
    """
    started = {
        label: subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for label, command in commands
    }
    try:
        about = {label: json.loads(_line(label, process)) for label, process in started.items()}
        times: dict[str, list[float]] = {label: [] for label in started}
        for _ in range(rounds):
            for label, process in started.items():
                time.sleep(REST_S)
                assert process.stdin is not None
                process.stdin.write("\n")
                times[label].append(float(_line(label, process)))
        return times, about
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def _line(label: str, process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{label}: its process ended")
    return line
