"""How far something is, on stderr, where it takes long: one line that changes on a terminal, else a line at times."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from celery_cascade.cli.manner import manner
from celery_cascade.cli.words import say, write_over

#: Seconds between two words: on a terminal, and in a pipe, whose reader keeps every line.
_TERMINAL, _PIPE = 1.0, 10.0


class Progress:
    """Says `312 of 10,000 cancelled`, at most so often.

    Args:
        total: how many there are, as counted before it began.
        past: what each of them then is.
        clock: seconds, for tests.
    """

    def __init__(self, total: int, past: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._past, self._clock = total, past, clock
        self._terminal = sys.stderr.isatty()
        self._every = _TERMINAL if self._terminal else _PIPE
        self._next = clock() + self._every
        self._open = False

    def tick(self, done: int) -> None:
        """One more."""
        if manner().quiet or self._clock() < self._next:
            return
        self._next = self._clock() + self._every
        words = f"{done:,} of {self._total:,} {self._past}"
        if self._terminal:
            write_over(words)
            self._open = True
        else:
            say(words)

    def end(self) -> None:
        """Nothing more comes: whatever is said next begins on a clean line."""
        if self._open:
            write_over("")
            self._open = False
