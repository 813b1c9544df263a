"""What follows the commit of a failure or a retry: the next message, a signal, the session's end."""

from __future__ import annotations

from celery_cascade import events
from celery_cascade.persistence.rows import ClaimedStep, Moved, QueuedStep, Setback, StepKey
from celery_cascade.tasks.attempt import NO_ITEM
from celery_cascade.tasks.problems import told
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.settling import settle


def after_setback(runtime: Runtime, what: Setback, moved: Moved, claimed: ClaimedStep) -> None:
    """What follows the commit of a failure or retry: the next message, or the session's end."""
    if what.delay is None:
        tell_failed(runtime, what, claimed.attempt)
    elif what.delay == 0 and moved.halt is None:
        again = next_attempt(what.key, claimed.task, claimed.attempt, claimed.retries + what.retries)
        runtime.publisher.send([again])
    if moved.halt is not None:
        settle(runtime, what.key.session_id)


def next_attempt(key: StepKey, task: str, attempt: int, retries: int = 0) -> QueuedStep:
    """The message of the attempt after this one."""
    return QueuedStep(key=key, task=task, attempt=attempt + 1, retries=retries)


def tell_failed(runtime: Runtime, what: Setback, attempt: int) -> None:
    """Send `step_failed`."""
    item = None if what.key.item == NO_ITEM else what.key.item
    events.step_failed.send(
        runtime.app, session_id=what.key.session_id, step=what.key.step, item=item, attempt=attempt,
        error=told(what.error),
    )  # fmt: skip
