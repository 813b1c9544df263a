"""Asking a session to end or to suspend (R135): honoured at the next step boundary, refused where it makes no sense."""

from __future__ import annotations

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import SessionConflict
from celery_cascade.persistence.head import Action
from celery_cascade.sessions.ids import look_up_id
from celery_cascade.sessions.resuming import check_action
from celery_cascade.states import Halt, SessionStatus
from celery_cascade.tasks.runtime import Runtime
from celery_cascade.tasks.settling import settle

#: From which statuses each is possible.
POSSIBLE = {
    Halt.SUSPENDED: frozenset({SessionStatus.ACTIVE}),
    Halt.CANCELLED: frozenset({SessionStatus.ACTIVE, SessionStatus.SUSPENDED, SessionStatus.FAILED}),
}


def halt_one(runtime: Runtime, session_id: str, halt: Halt, reason: str | None, action: Action) -> SessionStatus:
    """Ask it; returns its status afterwards, which is still `active` while a step runs.

    Raises:
        SessionConflict: it has ended, or is suspended, already; names the status.
        SessionNotFound: no such session.
    """
    check_action(action)
    found = runtime.store.halt(look_up_id(runtime.store, session_id), halt, reason, action)
    reached(CrashPoint.HALTED)
    refuse_halt(session_id, found, halt)
    return settle(runtime, session_id) or SessionStatus(runtime.store.head(session_id)["status"])


def refuse_halt(session_id: str, found: SessionStatus, halt: Halt) -> None:
    """Raise SessionConflict if a session in this status cannot be asked that."""
    if found not in POSSIBLE[halt]:
        raise SessionConflict(
            f"session {session_id} is {found.value}; it cannot be {halt.value} any more",
            hint=f"Look: cascade show {session_id}",
        )
