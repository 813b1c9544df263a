"""What a store needs after rows of it were lost: heads for sessions that have none."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, func, insert, select

from celery_cascade.persistence.clock import now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.notes import Note, note
from celery_cascade.persistence.tables import actions, attempts, context_changes, heads, messages, sessions, steps
from celery_cascade.states import SessionStatus, SuspendReason


def headless(db: Database) -> list[tuple[str, str]]:
    """(session, digest of its definition) of sessions whose moving head is lost."""
    statement = (
        select(sessions.c.session_id, sessions.c.definition_digest)
        .select_from(sessions.outerjoin(heads, heads.c.session_id == sessions.c.session_id))
        .where(heads.c.session_id.is_(None), sessions.c.definition_digest.is_not(None))
    )
    with db.read() as conn:
        return [(row.session_id, row.definition_digest) for row in conn.execute(statement)]


def unfinished(db: Database) -> list[str]:
    """Sessions that are active."""
    with db.read() as conn:
        found = conn.execute(select(heads.c.session_id).where(heads.c.status == SessionStatus.ACTIVE.value))
        return list(found.scalars())


def add_head(db: Database, session_id: str, *, total: int, closed: int, done: int, clock: dict[str, Any]) -> None:
    """A head as the session's steps say, suspended: an operator decides whether it goes on.

    Args:
        total: how many steps its definition has.
        closed: how many of them are final.
        done: how many were checkpointed.
    """
    statement = insert(heads).values(
        id=session_id,
        session_id=session_id,
        mode="cascade",
        status=SessionStatus.SUSPENDED.value,
        status_reason=SuspendReason.IN_DOUBT.value,
        total_steps=total,
        open_steps=max(0, total - closed),
        current_step=done,
        current_phase="init",
        updated_at=now(),
    )

    def work(conn: Connection) -> None:
        version = 1 + max(conn.execute(_latest(table), {"b_session": session_id}).scalar() or 0 for table in _BEARERS)
        conn.execute(statement, clock | {"version": version})
        note(conn, session_id, Note.SUSPENDED, version, clock, reason=SuspendReason.IN_DOUBT.value)

    db.transaction(work)


_BEARERS = (steps, attempts, actions, messages, context_changes)


def _latest(table: Table) -> Select[Any]:
    return select(func.max(table.c.version)).where(table.c.session_id == bindparam("b_session"))
