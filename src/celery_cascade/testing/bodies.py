"""Ending a process in the middle of a task's body, where no crash point can stand: it is not our code.

A body that takes its time is ended by a signal after a part of that time. A timer is not exact enough for a short one:
that is ended between two of its lines instead.
"""

from __future__ import annotations

import signal
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Protocol

from celery_cascade.testing.points import crash_now

#: Seconds; a body that takes less is ended between two lines.
SHORT = 0.02
#: A process that a timer has ended.
BY_TIMER = -int(signal.SIGALRM)

_NOT_THEIRS = (
    str(Path(__file__).parents[1]),
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    "<frozen",
)


class Watch(Protocol):
    """Looks on while a body runs, in the thread that runs it."""

    def begin(self, body: Any) -> None:
        """The body, a function, is about to begin."""

    def end(self) -> None:
        """It has ended, or raised."""


class Timer:
    """Ends the process so many seconds after the body began; by the kernel, whatever the body is doing then."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def begin(self, body: Any) -> None:
        """Wind it up."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def end(self) -> None:
        """The body was quicker this time."""
        signal.setitimer(signal.ITIMER_REAL, 0)


class Lines:
    """Counts the lines of the user's code that a body runs, and ends the process before one of them.

    Args:
        crash_before: which one, counted from 1; None = only count.

    Code of libraries does not count; that of other threads is not seen.
    """

    def __init__(self, crash_before: int | None = None) -> None:
        self._crash_before = crash_before
        self._own_file = ""
        self._before: Any = None
        self.count = 0

    def begin(self, body: Any) -> None:
        """Trace from here on."""
        self.count = 0
        code = getattr(body, "__code__", None)
        self._own_file = "" if code is None else code.co_filename
        self._before = sys.gettrace()
        sys.settrace(self._trace)

    def end(self) -> None:
        """Trace no longer."""
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            return self._trace if self._is_theirs(frame.f_code) else None
        if event == "line":
            self.count += 1
            if self.count == self._crash_before:
                crash_now()
        return self._trace

    def _is_theirs(self, code: CodeType) -> bool:
        return code.co_filename == self._own_file or not code.co_filename.startswith(_NOT_THEIRS)
