"""A conversation's next session begins when the one before it has ended (D12): see `start(queue=True)`.

Whoever writes an end looks who waits for it. Should he die in between, any sweep finds it (rule 6).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextvars import ContextVar

from celery_cascade import events
from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import CascadeError, SessionConflict, SessionNotFound, StoreUnavailable
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.notes import ENGINE, Note
from celery_cascade.persistence.rows import QueuedStep
from celery_cascade.tasks.local_worker import local_worker
from celery_cascade.tasks.publish import driving, is_driving
from celery_cascade.tasks.runtime import Runtime

logger = logging.getLogger("celery_cascade")

#: Rows that one look takes at most; the next look takes the rest.
BATCH = 200
#: Where nobody listens (`task_always_eager`), who begins a session runs it; those that follow it wait in this line.
_line: ContextVar[list[str] | None] = ContextVar("celery_cascade_line", default=None)


def begin_next(runtime: Runtime, session_id: str) -> None:
    """Begin whoever waits for this session, which has ended. Never raises: a sweep makes good what fails here."""
    try:
        if _in_thread(runtime, session_id):
            following = runtime.store.turn_after(session_id)
            begin_turns(runtime, [] if following is None else [following])
    except CascadeError as error:
        logger.warning("session %s has ended; who waits for it could not be begun: %s", session_id, error.message)


def _in_thread(runtime: Runtime, session_id: str) -> bool:
    """Whether somebody may wait for it: other sessions are spared the look."""
    try:
        return runtime.facts(session_id).threaded
    except StoreUnavailable:
        raise
    except CascadeError:  # its definition or inputs cannot be read; the look will tell
        return True


def begin_ready(runtime: Runtime) -> list[str]:
    """Begin every session that waits although its turn has come; which ones."""
    return begin_turns(runtime, runtime.store.ready_turns(limit=BATCH))


def begin_turns(runtime: Runtime, session_ids: Iterable[str]) -> list[str]:
    """Begin these sessions if their turn has come; which ones were begun. Safe at any time, by anybody."""
    if not runtime.app.conf.task_always_eager:
        return [one for one in session_ids if _begin(runtime, one)]
    line = _line.get()
    if line is not None:
        line += session_ids
        return []
    return _run_in_line(runtime, list(session_ids))


def _run_in_line(runtime: Runtime, line: list[str]) -> list[str]:
    """A loop and no recursion, however many wait for one another."""
    from celery_cascade.tasks.driver import drive  # it needs us, to settle what it runs

    begun = []
    token = _line.set(line)
    try:
        while line:
            one = line.pop(0)
            with driving(one), local_worker(runtime):
                if _begin(runtime, one):
                    begun.append(one)
                    drive(runtime, one)
    finally:
        _line.reset(token)
    return begun


def _begin(runtime: Runtime, session_id: str) -> bool:
    """Begin a session if it waits for its turn and that has come."""
    try:
        row = runtime.store.session(session_id)
        if row["expires_at"] is not None and row["expires_at"] <= runtime.store.now():
            return False  # whoever looks for those writes its end, and comes by here
        queued = _revive(runtime, session_id)
    except (SessionConflict, SessionNotFound) as error:
        logger.debug("session %s is not begun: %s", session_id, error.message)
        return False
    reached(CrashPoint.REVIVED)
    logger.info("session %s begins: its turn in thread %r has come", session_id, row["thread_id"])
    events.session_started.send(runtime.app, session_id=session_id, cascade_id=row["cascade_id"])
    runtime.publisher.send(queued)
    if not queued:  # all its steps were skipped from the start
        from celery_cascade.tasks.settling import settle  # it needs us, for who waits for what it ends

        settle(runtime, session_id)
    return True


def _revive(runtime: Runtime, session_id: str) -> list[QueuedStep]:
    resend_after = None if is_driving(session_id) else runtime.config.resend_after
    action = Action(action=Note.RESUMED, actor=ENGINE, reason="its turn in the thread has come")
    _, queued = runtime.store.revive(
        session_id, action, worker=runtime.worker_id, resend_after=resend_after, its_turn=True
    )
    return queued
