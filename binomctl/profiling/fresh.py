"""Peak memory of a meta-step on a CPU: the resident set of a process that does nothing else.

    python -m binomctl.profiling.fresh < configuration.json

builds the problem, forgets the peak so far and prints {"baseline_bytes"}, its resident set; runs
two meta-steps and prints {"baseline_bytes", "peak_bytes"}, with the peak since.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from binomctl.errors import ResourceError
from binomctl.machine.allocator import release_freed
from binomctl.machine.devices import is_out_of_memory
from binomctl.machine.memory import most_resident
from binomctl.settings.config import Config
from binomctl.settings.own import ask_all

STEPS = 2


def peak_resident(config: Config) -> dict[str, int]:
    """Of meta-steps under a configuration.

    Raises:
        MemoryError: the process ran out of memory, or was killed for it.
        ResourceError: it failed otherwise.
    """
    # -P: no file of the working folder stands in for a module.
    command = [sys.executable, "-P", "-m", "binomctl.profiling.fresh"]
    done = subprocess.run(  # in a session of its own: a terminal's Ctrl-C is not for it
        command, input=config.model_dump_json(), capture_output=True, text=True,
        start_new_session=True,
    )  # fmt: skip
    if done.returncode == 0:
        found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return found
    said = (done.stderr.strip().splitlines() or ["no word"])[-1]
    killed = getattr(signal, "SIGKILL", None)  # Windows has none
    if killed is not None and done.returncode == -killed:
        raise MemoryError("the process that measures memory was killed")
    if "MemoryError" in said or is_out_of_memory(RuntimeError(said)):
        raise MemoryError(said)
    raise ResourceError(f"the process that measures memory ended with {done.returncode}: {said}")


def main() -> None:
    from binomctl.problem.build import build_problem
    from binomctl.profiling.observed import timed_step
    from binomctl.training.recordable import compiles
    from binomctl.training.state import MetaState
    from binomctl.training.step import step_function

    config = Config.model_validate_json(sys.stdin.read())
    ask_all(config.model_dump(mode="json"))  # whoever started this process had asked
    problem = build_problem(config)
    whole = step_function(problem) if compiles(problem) else None
    state, B = MetaState(problem), config.training.meta_batch
    problem.training_batch(range(B))  # whatever drawing the first tasks loads
    if whole is not None:
        timed_step(problem, state, range(B), whole)  # not the compiler's memory
    release_freed()
    baseline = forget_peak()
    print(json.dumps({"baseline_bytes": baseline}), flush=True)
    for i in range(STEPS):
        timed_step(problem, state, range(i * B, (i + 1) * B), whole)
    print(json.dumps({"baseline_bytes": baseline, "peak_bytes": peak()}))


def forget_peak() -> int:
    """Start the peak anew where Linux lets us; the resident set now, or its peak so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak()
    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    """The peak resident set since `forget_peak`, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(v.split()[1]) for v in lines if v.startswith("VmHWM"))
    except (OSError, StopIteration):
        return most_resident()


if __name__ == "__main__":
    main()
