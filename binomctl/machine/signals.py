"""Signals that ask a run to stop, as a flag that a loop reads between steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class StopNow(BaseException):
    """A signal came while there was nothing to finish first; not an Exception, so that nobody on
    the way takes it for a failure of their own."""


class StopRequest:
    """While active, the first signal sets `signal_number`; a second SIGINT leaves at once.

    Outside the main thread it never triggers: Python delivers signals there only.

    Attributes:
        at_once: the first signal raises StopNow instead: set while a step has not begun that takes
            long to prepare, to be compiled say.
    """

    WATCHED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.at_once = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for name in self.WATCHED:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    # One that is ignored stays so: nohup has asked for it.
                    self._previous[number] = signal.signal(number, self._catch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number
        if self.at_once:
            raise StopNow
