"""Waiting for something, never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from celery_cascade.demo.errors import DemoFailed

T = TypeVar("T")

#: Seconds between two looks.
LOOK = 0.05


class Patience:
    """How long the demo may take in all.

    Args:
        seconds: from now; whoever waits when they are over has waited in vain.
    """

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def wait_for(self, look: Callable[[], T | None], what: str, *, seconds: float) -> T:
        """What `look` gives as soon as it gives something.

        Raises:
            DemoFailed: it gave nothing for that long; says what was waited for.
        """
        began = time.monotonic()
        deadline = min(began + seconds, self._ends)
        while True:
            found = look()
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {time.monotonic() - began:.0f} s in vain until {what}")
            time.sleep(LOOK)
