"""When a worker's housekeeping is due, and whether it may judge others: decided here, with a clock that is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

#: A beat that succeeds later than this many intervals after the one before it leaves a gap.
LATE = 1.5


class Witness:
    """Whether this worker may call others dead by the age of their heartbeat.

    Only if its own beats have succeeded without a gap for one timeout. A database that was away for a while makes
    everybody look dead; the first worker that reaches it again would otherwise take all steps, and run them twice.

    Args:
        interval: seconds between two heartbeats.
        timeout: silence that counts as death.
    """

    def __init__(self, *, interval: float, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_gap = LATE * interval
        self._timeout = timeout
        self._clock = clock
        self._since: float | None = None
        self._last = 0.0

    def beat_succeeded(self) -> None:
        """The database has taken our heartbeat just now."""
        now = self._clock()
        if self._since is None or now - self._last > self._longest_gap:
            self._since = now
        self._last = now

    def beat_failed(self) -> None:
        """It has not: the wait starts anew with the next success."""
        self._since = None

    @property
    def may_judge(self) -> bool:
        """True after one whole timeout of beats, each in time, the last one included."""
        now = self._clock()
        return self._since is not None and now - self._last <= self._longest_gap and now - self._since >= self._timeout


class Timetable:
    """Which of several things to do at intervals are due. What comes late is done once, not several times.

    Args:
        intervals: name -> seconds. All are due for the first time one interval from now.
    """

    def __init__(self, intervals: Mapping[str, float], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._intervals = dict(intervals)
        self._clock = clock
        now = clock()
        self._next = {name: now + interval for name, interval in self._intervals.items()}

    def due(self) -> list[str]:
        """The names whose moment has come, longest due first; each is due again one interval from now."""
        now = self._clock()
        found = sorted((moment, name) for name, moment in self._next.items() if moment <= now)
        for _, name in found:
            self._next[name] = now + self._intervals[name]
        return [name for _, name in found]

    def wait(self) -> float:
        """Seconds until something is due; 0 if something is."""
        return max(0.0, min(self._next.values()) - self._clock())
