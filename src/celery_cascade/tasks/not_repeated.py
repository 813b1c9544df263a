"""What a resume does not repeat, in one line: `3 finished steps, 4 m 12 s of work` (R161)."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from celery_cascade.errors import CascadeError
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")

#: Lines that one look for orphans writes at most; the rest is counted.
MOST_LINES = 20


def not_repeated(runtime: Runtime, session_id: str) -> str:
    """What is done of a session and stays so; empty if nothing is."""
    found = runtime.store.finished_work([session_id]).get(session_id)
    return "" if found is None else _words(*found)


def tell(runtime: Runtime, session_ids: Iterable[str]) -> None:
    """Log it for sessions that go on by themselves. A word for people: it never stops what it is about."""
    resumed = sorted(set(session_ids))
    if not resumed:
        return
    shown = resumed[:MOST_LINES]
    try:
        work = runtime.store.finished_work(shown)
    except CascadeError as error:
        logger.debug("what was not repeated is not known: %s", error)
        return
    for session_id in shown:
        done = _words(*work[session_id]) if session_id in work else "nothing, no step had ended"
        logger.info("session %s goes on; not repeated: %s", session_id, done)
    if len(resumed) > len(shown):
        logger.info("%d sessions more go on", len(resumed) - len(shown))


def _words(count: int, seconds: float) -> str:
    steps = "1 finished step" if count == 1 else f"{count:,} finished steps"
    return f"{steps}, {span(seconds)} of work"


def span(seconds: float) -> str:
    """A span of time in its two largest units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} m {whole % 60} s"
    return f"{hours} h {minutes % 60} m" if not days else f"{days} d {hours % 24} h"
