"""When a session is to expire, as a caller says it (R45)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from celery_cascade.errors import UsageError
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.words import shown

#: Seconds; a moment further away has a year of five digits on some databases.
LONGEST_LIFE = 100 * 365 * 86400.0


def check_life(seconds: Any) -> None:
    """Refuse what is no time to live. Raises UsageError with the rule."""
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= LONGEST_LIFE:
        raise UsageError(f"expires_in is {seconds!r}; it must be more than 0 seconds and at most a hundred years")


def check_moment(runtime: Runtime, moment: Any, expires_in: Any) -> None:
    """Refuse what is no moment to expire at: by the store's clock, which will compare it. Raises UsageError."""
    if moment is None:
        return
    if expires_in is not None:
        raise UsageError("expires_in and expires_at are two ways to say the same", hint="Give one of them")
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise UsageError(
            f"expires_at is {shown(moment)}; it must be a moment that bears its time zone",
            hint="For example: datetime.now(UTC) + timedelta(hours=2)",
        )
    left = (moment - runtime.store.now()).total_seconds()
    if not 0 < left <= LONGEST_LIFE:
        when = "has passed" if left <= 0 else "is more than a hundred years away"
        raise UsageError(f"expires_at is {moment.isoformat()}, which {when}")
