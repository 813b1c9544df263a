"""What becomes of a step whose worker is dead: queued again, parked for a person, or failed."""

from __future__ import annotations

import logging
from enum import Enum

from celery_cascade import calling, events
from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.engine.retry import crash_delay
from celery_cascade.errors import ClaimLost
from celery_cascade.persistence.rows import Orphan, Setback
from celery_cascade.states import SuspendReason
from celery_cascade.tasks.attempt import StepRef
from celery_cascade.tasks.publish import is_driving
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.setbacks import next_attempt, tell_failed
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")

#: Seconds until the message of a step that lost its worker is sent again. Soon, because the first may go the way of
#: the worker: Redis hands it to a connection that the dead worker's children still hold open for an instant.
AFTER_CRASH = 5.0


class Fate(Enum):
    """What became of a step that was taken from its worker."""

    QUEUED = "queued"
    PARKED = "parked"
    FAILED = "failed"


def give_back(
    runtime: Runtime, orphan: Orphan, error: str, *, certain: bool, crash: bool = True, began: bool = True
) -> Fate | None:
    """Take an orphan from its worker: queue it again and send it, unless its `on_crash` says otherwise.

    One that has crashed too often is parked, and its session suspended. None: it was not to be taken.

    Args:
        certain: nobody runs it, whatever the worker's heartbeat says; else the UPDATE tests the heartbeat again.
        crash: whether it counts against `cascade_max_crashes`.
        began: whether its body may have begun.
    """
    if began and orphan.on_crash == "fail":
        return _fail(runtime, orphan, error, certain=certain)
    if began and orphan.on_crash == "ask":
        return _park(runtime, orphan, SuspendReason.IN_DOUBT, error, certain=certain, crash=crash)
    crashes = orphan.crashes + int(crash)
    if crash and crashes >= runtime.config.max_crashes:
        return _park(runtime, orphan, SuspendReason.POISONED, error, certain=certain)
    if orphan.halt is not None:
        return _park(runtime, orphan, None, None, certain=certain, crash=crash)
    delay = crash_delay(crashes) if crash else 0.0
    released = runtime.store.release(
        orphan,
        error=error,
        delay=delay,
        worker=runtime.worker_id,
        resend_after=None if is_driving(orphan.key.session_id) else min(AFTER_CRASH, runtime.config.resend_after),
        silent_for=None if certain else runtime.config.heartbeat_timeout,
        crash=crash,
    )
    if released:
        reached(CrashPoint.RELEASED, orphan.key)
        logger.warning(
            "session %s: step %s lost its worker in attempt %d and is queued again",
            orphan.key.session_id,
            orphan.key.step,
            orphan.attempt,
        )
        if not delay:
            runtime.publisher.send([next_attempt(orphan.key, orphan.task, orphan.attempt)])
        events.session_resumed.send(runtime.app, session_id=orphan.key.session_id, step=orphan.key.step)
    return Fate.QUEUED if released else None


def _fail(runtime: Runtime, orphan: Orphan, error: str, *, certain: bool) -> Fate | None:
    """`on_crash: fail`: its work may be done or not, and it is not to be done twice."""
    what = Setback(
        key=orphan.key,
        token=orphan.token,
        kind="crash",
        delay=None,
        error=error,
        worker=runtime.worker_id,
        silent_for=None if certain else runtime.config.heartbeat_timeout,
        from_outside=True,
    )
    try:
        runtime.store.setback(what)
    except ClaimLost:  # another recovery was first, or the worker beats again
        return None
    reached(CrashPoint.STEP_FAILED, orphan.key)
    tell_failed(runtime, what, orphan.attempt)
    settle(runtime, orphan.key.session_id)
    return Fate.FAILED


def _park(
    runtime: Runtime,
    orphan: Orphan,
    reason: SuspendReason | None,
    error: str | None,
    *,
    certain: bool,
    crash: bool = True,
) -> Fate | None:
    silent_for = None if certain else runtime.config.heartbeat_timeout
    parked = runtime.store.park(orphan, reason=reason, error=error, silent_for=silent_for, crash=crash)
    if not parked:
        return None
    reached(CrashPoint.PARKED, orphan.key)
    if reason is not None:
        logger.warning(
            "session %s: step %s lost its worker in attempt %d; it is %s, and waits for an answer: %s",
            orphan.key.session_id,
            orphan.key.step,
            orphan.attempt,
            reason.value,
            calling.command(f"show {orphan.key.session_id}"),
        )
    settle(runtime, orphan.key.session_id)
    return Fate.PARKED


def ref_of(orphan: Orphan) -> StepRef:
    """Which attempt it is, for error texts."""
    key = orphan.key
    return StepRef(store="", session=key.session_id, step=key.step, item=key.item, attempt=orphan.attempt, task_id="")
