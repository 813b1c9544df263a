"""Setting sessions going again: the ones that wait for nobody by themselves, the others when an operator says so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery_cascade import events
from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import CascadeError, NotResumable, SessionNotFound
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.rows import QueuedStep, Row
from celery_cascade.persistence.views import SessionFilter
from celery_cascade.sessions.answers import Answer, write_answer
from celery_cascade.sessions.ids import check_text, look_up_id
from celery_cascade.sessions.restoring import check_restorable
from celery_cascade.states import SessionStatus, SuspendReason
from celery_cascade.tasks import not_repeated, overtime, recovery, unknown_task
from celery_cascade.tasks.driver import drive
from celery_cascade.tasks.ending import tell_checkpointed
from celery_cascade.tasks.local_worker import local_worker
from celery_cascade.tasks.publish import driving, is_driving
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.settling import settle

logger = logging.getLogger("celery_cascade")

#: Suspended for these reasons a session goes on by itself once what it waits for is there.
BY_ITSELF = frozenset({SuspendReason.WORKER_LOST, SuspendReason.TIMER})
#: Sessions that one look takes at most, and the most that are named as left alone.
PAGE = 1000
_ENDED = frozenset({SessionStatus.COMPLETED, SessionStatus.CANCELLED, SessionStatus.EXPIRED})


def check_action(action: Action) -> None:
    """Refuse what cannot be stored. Raises UsageError."""
    check_text(action.actor, "actor", 255)
    check_text(action.reason, "reason", 10_000)


def resume_one(runtime: Runtime, session_id: str, action: Action, answer: Answer | None = None) -> int:
    """Go on from the last checkpoint; returns how many steps were queued (0: it is active and goes on anyway).

    With an answer the step that it is about is settled first; while others wait for theirs, nothing is queued.

    Under `task_always_eager` it has run when this returns.

    Raises:
        NotResumable: it has ended for good, its `expires_at` has passed, or what is stored of it cannot be read; then
            no row of it is changed (R85). Or one of its steps is in doubt, and there is no answer.
        SessionConflict: the step does not wait for this answer (any more).
        SessionNotFound: no such session.
    """
    check_action(action)
    if is_driving(session_id):
        with local_worker(runtime):  # what it queues is for this process; if that dies, others know whose it was
            return _resume(runtime, session_id, action, answer)
    if runtime.app.conf.task_always_eager:
        with driving(session_id), local_worker(runtime):
            queued = _resume(runtime, session_id, action, answer)
            drive(runtime, session_id)
        return queued
    return _resume(runtime, session_id, action, answer)


def _resume(runtime: Runtime, session_id: str, action: Action, answer: Answer | None) -> int:
    row = runtime.store.session(look_up_id(runtime.store, session_id))
    if row["expires_at"] is not None and row["expires_at"] <= runtime.store.now():
        overtime.expire_session(runtime, session_id)  # nobody need wait for the sweep to say so
        raise NotResumable(
            f"session {session_id} expired at {row['expires_at'].isoformat()}; it cannot be resumed",
            hint=f"Look: cascade show {session_id}",
        )
    if row["status"] not in _ENDED:
        check_restorable(runtime, row)
    resend_after = None if is_driving(session_id) else runtime.config.resend_after
    if answer is not None:
        return _answer(runtime, row, answer, action, resend_after)
    status, queued = runtime.store.revive(session_id, action, worker=runtime.worker_id, resend_after=resend_after)
    if status in _ENDED:
        raise NotResumable(
            f"session {session_id} is {status.value}; there is nothing to resume",
            hint=f"Look: cascade show {session_id}",
        )
    revived = status in (SessionStatus.SUSPENDED, SessionStatus.FAILED)
    _going(runtime, session_id, queued, revived=revived)
    return len(queued)


def _going(runtime: Runtime, session_id: str, queued: Sequence[QueuedStep], *, revived: bool) -> None:
    """What follows the commit of a resume."""
    reached(CrashPoint.REVIVED)
    runtime.publisher.send(queued)
    if queued or revived:
        not_repeated.tell(runtime, [session_id])
        events.session_resumed.send(runtime.app, session_id=session_id, step=None)
    if revived and not queued:  # every step has ended, only the end itself is not written
        settle(runtime, session_id)


def _answer(runtime: Runtime, row: Row, answer: Answer, action: Action, resend_after: float | None) -> int:
    session_id = row["session_id"]
    if row["status"] in _ENDED and answer.step is None:
        raise NotResumable(
            f"session {session_id} is {row['status']}; there is nothing to answer",
            hint=f"Look: cascade show {session_id}",
        )
    given, answered = write_answer(runtime, session_id, answer, action, resend_after=resend_after)
    if given.done is not None:
        tell_checkpointed(runtime, given.done, attempt=given.attempt - 1, version=answered.version)
    if answered.left:
        logger.info("session %s still waits for an answer: %s", session_id, ", ".join(answered.left))
    else:
        _going(runtime, session_id, answered.queued, revived=True)
    return len(answered.queued)


def resume_all(runtime: Runtime) -> dict[str, Any]:
    """What the resume task does: orphans, lost messages, due timers, and sessions that wait for nobody (R153).

    Returns {"resumed": [session ids], "skipped": {session id: reason}}. Safe to be run by several at once.
    """
    resumed: list[str] = []

    def note(sender: Any, session_id: str, **_: Any) -> None:
        if session_id not in resumed:
            resumed.append(session_id)

    events.session_resumed.connect(note, weak=False, sender=runtime.app)
    try:
        begun = recovery.recover(runtime, witness=False).begun
        unknown_task.wake(runtime)
        recovery.send_due(runtime)
        skipped = _resume_suspended(runtime)
    finally:
        events.session_resumed.disconnect(note, sender=runtime.app)
    return {"resumed": [*resumed, *begun], "skipped": skipped}


def _resume_suspended(runtime: Runtime) -> dict[str, str]:
    """Every session that waits for nobody is resumed; of the others the newest are named, with their reason."""
    suspended = [SessionStatus.SUSPENDED.value]
    others = [reason.value for reason in SuspendReason if reason not in BY_ITSELF]
    left = runtime.store.sessions(SessionFilter(status=suspended, reason=others, limit=PAGE))
    skipped = {row["session_id"]: row["status_reason"] for row in left}
    wanted = SessionFilter(status=suspended, reason=[reason.value for reason in BY_ITSELF], limit=PAGE)
    for row in runtime.store.all_sessions(wanted, PAGE):
        try:
            resume_one(runtime, row["session_id"], Action(action="resume", actor="celery_cascade.resume"))
        except (NotResumable, SessionNotFound) as error:
            skipped[row["session_id"]] = error.message
    return skipped


def resume_by_task(runtime: Runtime, session_id: str | None = None, force: bool = False) -> dict[str, Any]:
    """The body of the task `celery_cascade.resume`."""
    if session_id is None:
        return resume_all(runtime)
    row = runtime.store.session(look_up_id(runtime.store, session_id))
    if row["status"] == SessionStatus.SUSPENDED and not force and row["status_reason"] not in BY_ITSELF:
        return {"resumed": [], "skipped": {session_id: row["status_reason"] or "suspended"}}
    if row["status"] == SessionStatus.FAILED and not force:
        return {"resumed": [], "skipped": {session_id: "failed"}}
    try:
        queued = resume_one(runtime, session_id, Action(action="resume", actor="celery_cascade.resume"))
    except CascadeError as error:
        return {"resumed": [], "skipped": {session_id: error.message}}
    if queued:
        return {"resumed": [session_id], "skipped": {}}
    return {"resumed": [], "skipped": {session_id: "active"}}
