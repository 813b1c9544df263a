"""What the engine writes into `session_actions` in nobody's name, so that a row bears every version (R23).

A checkpoint, an attempt, a request bear theirs by themselves. What only moves the head does not: the next change of
the head would leave nothing of it. A plain completion is not noted: its head does not change again, or else (`keep`)
whoever changes it notes the completion first.
"""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, bindparam, case, insert, literal, select

from celery_cascade.persistence.clock import now
from celery_cascade.persistence.prune_rules import broken
from celery_cascade.persistence.tables import actions, heads
from celery_cascade.states import SessionStatus

#: Who acts where no person does.
ENGINE = "celery_cascade"


class Note(StrEnum):
    """The words that nobody asked for; a request has another (`suspend`, `cancel`, `resume`, …)."""

    SUSPENDED = "suspended"  #: nothing of it runs any more
    FAILED = "failed"  #: likewise; `detail` is the error of its output's template, if that is why
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    COMPLETED = "completed"  #: only where a later version follows
    PARKED = "parked"  #: a step lost its worker, and its session is to be suspended; `detail` names the step
    RESUMED = "resumed"  #: set going, and nobody asked
    MENDED = "mended"  #: times of the head that could not be read were replaced


_INSERT = insert(actions).values(
    id=bindparam("b_id"),
    session_id=bindparam("b_session"),
    action=bindparam("b_word"),
    actor=ENGINE,
    reason=bindparam("b_reason"),
    detail=bindparam("b_detail"),
    version=bindparam("b_version"),
)
_NOW = _INSERT.values(done_at=now())
_ENDED = (
    select(case((broken(heads.c.finished_at), now()), else_=heads.c.finished_at))
    .where(heads.c.session_id == bindparam("b_session"))
    .scalar_subquery()
)
_AT_ITS_END = _INSERT.values(done_at=_ENDED)


def note(
    conn: Connection,
    session_id: str,
    word: Note,
    version: int,
    clock: dict[str, Any],
    *,
    reason: str | None = None,
    detail: str | None = None,
    at_its_end: bool = False,
) -> None:
    """Write down what became of a session at this version; its head is locked.

    Args:
        at_its_end: the moment is the one that the head has for its end, not some instants later.
    """
    statement = _AT_ITS_END if at_its_end else _NOW
    conn.execute(statement, clock | _values(session_id, word, version, reason, detail))


def _values(session_id: str, word: Note, version: int, reason: str | None, detail: str | None) -> dict[str, Any]:
    return {
        "b_id": str(uuid.uuid4()),
        "b_session": session_id,
        "b_word": word.value,
        "b_version": version,
        "b_reason": reason,
        "b_detail": detail,
    }


_BORNE = (
    select(literal(1))
    .where(actions.c.session_id == bindparam("b_session"), actions.c.version == bindparam("b_version"))
    .limit(1)
)


def note_completion(conn: Connection, session_id: str, head: Any, clock: dict[str, Any]) -> None:
    """Before a head changes that has completed: its present version is that of its end, unless it has changed before.

    Args:
        head: locked, with version and status.
    """
    if head.status != SessionStatus.COMPLETED:
        return
    if conn.execute(_BORNE, {"b_session": session_id, "b_version": head.version}).first() is None:
        note(conn, session_id, Note.COMPLETED, head.version, clock, at_its_end=True)
