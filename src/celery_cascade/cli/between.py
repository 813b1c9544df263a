"""Ctrl+C that counts between two sessions: what was done to one is told, never half."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class BetweenSessions:
    """Inside, the first Ctrl+C is kept until `check`; the second one is a KeyboardInterrupt at once.

    Without it one that hits between the commit and the report leaves a session to which it was done and of which
    nobody is told.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._asked = False

    def __enter__(self) -> BetweenSessions:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._first)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _first(self, number: int, _: FrameType | None) -> None:
        self._asked = True
        signal.signal(number, signal.default_int_handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if somebody pressed Ctrl+C meanwhile."""
        if self._asked:
            raise KeyboardInterrupt
