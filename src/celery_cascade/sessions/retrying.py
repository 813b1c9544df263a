"""Read-change-write again when somebody else was first."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm.exc import StaleDataError

from celery_cascade.errors import StaleState, UsageError

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


def retry_stale(work: Callable[[], T], *, attempts: int = 100) -> T:
    """Call `work`, and again as often as somebody else has changed the session in between; returns what it returns.

        def add_one():
            session.context["n"] += 1

        retry_stale(add_one)

    Args:
        work: reads what it changes, each time: `session.context`, or a row in an ORM session of its own. Whatever
            else it does happens as often as it is called.
        attempts: calls in all. Between them it waits a random time of up to 50 ms, so 100 calls are some 2.5 s of
            waiting. More if many processes change one session without a pause; 1 = do not repeat.

    Raises:
        StaleState: it was stale every time. SQLAlchemy's StaleDataError likewise, if that is what `work` raised.
    """
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise UsageError(f"attempts is {attempts!r}; it must be a whole number, 1 or more")
    longest = _FIRST_PAUSE
    for _ in range(attempts - 1):
        try:
            return work()
        except (StaleState, StaleDataError):
            time.sleep(random.uniform(0, longest))  # noqa: S311 - jitter
            longest = min(longest * 2, _LONGEST_PAUSE)
    return work()
