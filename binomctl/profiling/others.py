"""How much other processes kept the machine busy while something was measured."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psutil

from binomctl.machine.cores import cores

LIMIT = 0.1  # of the cores: beyond it, times are not this program's alone


class OtherLoad:
    """Watches while it is entered: CPU time on this process' cores that was not its own.

    `share` of those cores; None before it ended, and where the system does not tell.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._cores = cores()
        self._start = (0.0, 0.0, 0.0)
        self.share: float | None = None

    def __enter__(self) -> OtherLoad:
        self._start = (time.perf_counter(), self._machine(), self._own())
        return self

    def __exit__(self, *error: object) -> None:
        wall, machine, own = self._start
        wall, machine = time.perf_counter() - wall, self._machine() - machine
        if wall > 0.1 and machine > 0:  # the system counts in hundredths of a second
            others = max(0.0, machine - (self._own() - own))
            self.share = min(1.0, others / (wall * len(self._cores)))

    def _machine(self) -> float:
        """Seconds that the cores were busy, whoever it was; a hypervisor's other guests count."""
        every = psutil.cpu_times(percpu=True)
        idle = ("idle", "iowait", "guest", "guest_nice")  # a guest's time is in user already
        return sum(
            float(value)
            for core in self._cores
            if core < len(every)
            for name, value in every[core]._asdict().items()
            if name not in idle
        )

    def _own(self) -> float:
        """Of this process and all its children, those that ended and those that run."""
        times = self._process.cpu_times()
        waited = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        total = times.user + times.system + waited
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):  # ended meanwhile
                mine = child.cpu_times()
                total += mine.user + mine.system
        return float(total)


def busy(share: float | None, cells: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What says that a profile was not measured on a quiet machine; None where nothing does.

    Args:
        share: of the cores that other processes took.
        cells: of the report; none can reach more than the machine's rate.
    """
    reasons = []
    if share is not None and share > LIMIT:
        reasons.append(f"other processes took {share:.0%} of the cores while this was measured")
    shares = [c["share_of_peak"]["matrix_product"] for c in cells if c["share_of_peak"]]
    if shares and max(shares) > 1:
        reasons.append(
            f"a step came to {max(shares):.0%} of the peak, so the peak was measured too low"
        )
    if not reasons:
        return None
    return {"others": None if share is None else round(share, 4), "reasons": reasons}
