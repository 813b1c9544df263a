"""Setting a session going that has just been written: its first messages, or a run of it here and now."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from celery_cascade import events
from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.persistence.rows import NewStep, QueuedStep, StepKey
from celery_cascade.tasks.driver import drive
from celery_cascade.tasks.local_worker import local_worker
from celery_cascade.tasks.publish import driving, is_driving
from celery_cascade.tasks.runtime import Runtime, SessionFacts
from celery_cascade.tasks.settling import settle


def launch(runtime: Runtime, session_id: str, write: Callable[[], object], *, here: bool = False) -> None:
    """Have a session written, and run it in this process if that is what is to be done with it.

    Args:
        runtime: of the app.
        session_id: of the session.
        write: writes it and sends its messages, if any are to be sent.
        here: run it before this returns, as `task_always_eager` does with every session.
    """
    driven = is_driving(session_id)
    if not (here or driven or runtime.app.conf.task_always_eager):
        write()
        return
    with driving(session_id), local_worker(runtime):  # if this process dies, others know whose its steps were
        write()
        if not driven:
            drive(runtime, session_id)


def resend_after(runtime: Runtime, session_id: str) -> float | None:
    """Seconds until an unclaimed message of it is sent again; None = this process runs its steps itself."""
    return None if is_driving(session_id) else runtime.config.resend_after


def after_commit(
    runtime: Runtime, facts: SessionFacts, rows: Iterable[NewStep], *, ended: bool, point: CrashPoint
) -> None:
    """What follows the commit of a new session.

    Args:
        runtime: of the app.
        facts: of the session.
        rows: that were written.
        ended: no step of it is left to run.
        point: which one is reached here.
    """
    runtime.remember(facts)
    reached(point)
    events.session_started.send(runtime.app, session_id=facts.session_id, cascade_id=facts.plan.cascade.id)
    runtime.publisher.send(
        QueuedStep(key=StepKey(facts.session_id, row.step), task=row.task) for row in rows if row.status == "queued"
    )
    if ended:
        settle(runtime, facts.session_id)
