"""Threads: (thread, resource) is a conversation; a start takes it over when its session has ended (D12)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from celery_cascade.errors import SessionConflict
from celery_cascade.persistence.clock import now
from celery_cascade.persistence.rows import NewSession
from celery_cascade.persistence.tables import THIS_HEAD, heads, mappings, sessions
from celery_cascade.states import FINAL_SESSION

_THIS = (mappings.c.thread_id == bindparam("b_thread"), mappings.c.resource_id == bindparam("b_resource"))
_LOCK = select(mappings.c.session_id).where(*_THIS).with_for_update()
#: Shared: whoever would delete the session that is continued waits, or is waited for.
_STATUS = select(heads.c.status).where(THIS_HEAD).with_for_update(read=True)
_INSERT = insert(mappings).values(
    thread_id=bindparam("b_thread"), resource_id=bindparam("b_resource"), session_id=bindparam("b_new"),
    created_at=now(), updated_at=now(),
)  # fmt: skip
_THREAD_OF = select(sessions.c.thread_id, sessions.c.resource_id).where(sessions.c.session_id == bindparam("b_session"))
_MOVE = update(mappings).where(*_THIS).values(session_id=bindparam("b_new"), updated_at=now())


def take_thread(conn: Connection, new: NewSession, clock: dict[str, Any]) -> str | None:
    """Point the thread of a session that starts at it; returns the session that it continues, if there is one.

    Two starts at once: the second finds the first one's row, or runs into its primary key and is tried again.

    Raises:
        SessionConflict: the thread's session has not ended.
    """
    if new.thread_id is None or new.resource_id is None:
        return None
    pair = {"b_thread": new.thread_id, "b_resource": new.resource_id}
    before: str | None = conn.execute(_LOCK, pair).scalar()
    if before is None:
        conn.execute(_INSERT, clock | pair | {"b_new": new.session_id})
        return None
    if before == new.session_id:
        return None  # the same start once more: its id is taken, which says more
    status = conn.execute(_STATUS, {"b_session": before}).scalar()
    if status is not None and status not in FINAL_SESSION:
        raise SessionConflict(
            f"thread {new.thread_id!r} of {new.resource_id!r} is in session {before}, which is {status}",
            hint=f"Look: cascade show {before}\nEnd it: cascade cancel {before}",
        )
    conn.execute(_MOVE, clock | pair | {"b_new": new.session_id})
    return before if status is not None else None


def keep_thread(conn: Connection, session_id: str, clock: dict[str, Any]) -> None:
    """A session that goes on takes its thread back.

    Raises:
        SessionConflict: another session goes on with the thread.
    """
    row = conn.execute(_THREAD_OF, {"b_session": session_id}).one_or_none()
    if row is None or row.thread_id is None or row.resource_id is None:
        return
    pair = {"b_thread": row.thread_id, "b_resource": row.resource_id}
    now_in: str | None = conn.execute(_LOCK, pair).scalar()
    if now_in is None or now_in == session_id:
        return
    status = conn.execute(_STATUS, {"b_session": now_in}).scalar()
    if status is not None and status not in FINAL_SESSION:
        raise SessionConflict(
            f"session {session_id}: its thread {row.thread_id!r} goes on in session {now_in}, which is {status}",
            hint=f"Look: cascade show {now_in}\nEnd it: cascade cancel {now_in}",
        )
    conn.execute(_MOVE, clock | pair | {"b_new": session_id})
