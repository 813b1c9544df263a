"""What is over its time: steps past their deadline, sessions past their `expires_at`."""

from __future__ import annotations

import logging

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.engine.retry import after_failure, error_names
from celery_cascade.errors import CascadeError, ClaimLost, StoreUnavailable
from celery_cascade.persistence.rows import Orphan, Setback
from celery_cascade.states import Halt
from celery_cascade.tasks.fate import ref_of
from celery_cascade.tasks.problems import problem_text
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.setbacks import next_attempt, tell_failed
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")

#: Rows that one look takes at most; the next look takes the rest.
BATCH = 200
#: Looks that one sweep takes at most, so that it ends.
MOST_BATCHES = 25
#: What a policy's `errors` may call a timeout of ours.
TIMEOUT_NAMES = error_names(TimeoutError()) | {"TimeLimitExceeded", "StepTimeout"}


def end_overdue(runtime: Runtime) -> int:
    """End all attempts that are over their time; how many there were."""
    ended = 0
    for orphan in runtime.store.overdue(limit=BATCH):
        try:
            ended += time_out(runtime, orphan)
        except StoreUnavailable:
            raise
        except CascadeError as error:  # its definition cannot be read: the others are not to wait for that
            logger.error("session %s: step %s is overdue: %s", orphan.key.session_id, orphan.key.step, error)
    return ended


def end_overdue_of(runtime: Runtime, session_id: str) -> None:
    """End what is over its time in one session: for whoever runs it in this process."""
    for orphan in runtime.store.overdue_of(session_id):
        time_out(runtime, orphan)
    expires_at = runtime.store.head(session_id)["expires_at"]
    if expires_at is not None and expires_at <= runtime.store.now():
        expire_session(runtime, session_id)


def time_out(runtime: Runtime, orphan: Orphan) -> bool:
    """End an attempt that took longer than its step's `timeout`; whatever still runs it is fenced from now on."""
    step = runtime.facts(orphan.key.session_id).plan.steps[orphan.key.step]
    delay = after_failure(step.retry, orphan.failures + 1, TIMEOUT_NAMES)
    message = f"step {orphan.key.step!r} took longer than its timeout of {step.timeout:g} s" if step.timeout else (
        f"step {orphan.key.step!r} was killed by its hard time limit"
    )  # fmt: skip
    what = Setback(
        key=orphan.key,
        token=orphan.token,
        kind="timeout",
        delay=delay,
        error=problem_text("StepTimeout", message, ref_of(orphan)),
        failures=1,
        worker=runtime.worker_id,
        resend_after=runtime.config.resend_after,
        from_outside=True,
    )
    try:
        moved = runtime.store.setback(what)
    except ClaimLost:
        return False
    reached(CrashPoint.STEP_FAILED if delay is None else CrashPoint.RETRY_SCHEDULED, orphan.key)
    if delay is None:
        tell_failed(runtime, what, orphan.attempt)
    if delay == 0:
        runtime.publisher.send([next_attempt(orphan.key, orphan.task, orphan.attempt)])
    if moved.halt is not None:
        settle(runtime, orphan.key.session_id)
    return True


def expire(runtime: Runtime) -> int:
    """Bring sessions whose `expires_at` has passed to their end: at once, or after the step that runs."""
    expired = 0
    for _ in range(MOST_BATCHES):
        found = runtime.store.past_expiry(limit=BATCH)
        for session_id in found:
            try:
                expired += expire_session(runtime, session_id)
            except StoreUnavailable:
                raise
            except CascadeError as error:  # deleted meanwhile, or damaged: the others are not to wait for that
                logger.error("session %s has expired: %s", session_id, error)
        if len(found) < BATCH:
            break
    return expired


def expire_session(runtime: Runtime, session_id: str) -> bool:
    """Let one session expire; whether it has come to its end."""
    runtime.store.halt(session_id, Halt.EXPIRED, None)
    reached(CrashPoint.HALTED)
    return settle(runtime, session_id) is not None
