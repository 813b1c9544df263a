"""Reading: one session with its steps, attempts and outputs, as plain rows; lists are in `listing`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal, select, union_all

from celery_cascade.errors import SessionNotFound, StoreError
from celery_cascade.persistence.clock import now
from celery_cascade.persistence.columns import HEAD_COLUMNS, SESSION_COLUMNS
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.finding import SessionFilter
from celery_cascade.persistence.listing import count_sessions, session_rows
from celery_cascade.persistence.notes import Note
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.tables import actions, attempts, definitions, heads, sessions, steps, workers

__all__ = [
    "SessionFilter",
    "action_rows",
    "attempt_rows",
    "count_sessions",
    "database_now",
    "definition_of",
    "head_row",
    "not_found",
    "not_found_on",
    "open_counts",
    "outputs_of",
    "probe",
    "session_row",
    "session_rows",
    "step_rows",
]

_JOINED = sessions.join(heads, heads.c.session_id == sessions.c.session_id)
_ONE = (
    select(*SESSION_COLUMNS, *HEAD_COLUMNS, sessions.c.input_data, sessions.c.nonce, heads.c.output, heads.c.error)
    .select_from(_JOINED)
    .where(sessions.c.session_id == bindparam("b_session"))
)
_HEAD = select(*HEAD_COLUMNS).where(heads.c.session_id == bindparam("b_session"))


def not_found(db: Database, session_id: str) -> SessionNotFound:
    """The error for an id that is not there (R114)."""
    with db.read() as conn:
        return not_found_on(conn, db, session_id)


def not_found_on(conn: Connection, db: Database, session_id: str) -> SessionNotFound:
    """The same inside a transaction; says why an old one may be gone (R123)."""
    count = conn.execute(select(func.count()).select_from(sessions)).scalar()
    return SessionNotFound(
        f"Session '{session_id}' not found. Available sessions: {count}",
        hint=f"List them with: cascade ls\nIt may be in another store than {db.shown}, or deleted: finished sessions "
        "are kept as long as cascade_retention says",
    )


def session_row(db: Database, session_id: str) -> Row:
    """One session, whole. Raises SessionNotFound."""
    with db.read() as conn:
        row = conn.execute(_ONE, {"b_session": session_id}).mappings().one_or_none()
    if row is None:
        raise not_found(db, session_id)
    return row


_BRIEF = (
    select(*SESSION_COLUMNS, *HEAD_COLUMNS).select_from(_JOINED).where(sessions.c.session_id == bindparam("b_session"))
)


def brief_row(db: Database, session_id: str) -> Row | None:
    """One session as a list has it, without inputs and outputs; None if it is not there."""
    with db.read() as conn:
        return conn.execute(_BRIEF, {"b_session": session_id}).mappings().one_or_none()


def head_row(db: Database, session_id: str) -> Row:
    """The moving head alone. Raises SessionNotFound."""
    with db.read() as conn:
        row = conn.execute(_HEAD, {"b_session": session_id}).mappings().one_or_none()
    if row is None:
        raise not_found(db, session_id)
    return row


def definition_of(db: Database, digest: str | None) -> Row:
    """The stored definition: cascade id, format, body. Raises StoreError: it is lost."""
    with db.read() as conn:
        row = conn.execute(select(definitions).where(definitions.c.digest == digest)).mappings().one_or_none()
    if row is None:
        which = "of the session" if digest is None else f"{digest[:12]}…"
        raise StoreError(f"the definition {which} is not in the store", hint="Look at it with: cascade doctor")
    return row


def step_rows(db: Database, session_id: str) -> list[Row]:
    """Every step row of a session with the node name of its worker."""
    statement = (
        select(steps, workers.c.nodename)
        .select_from(steps.outerjoin(workers, workers.c.id == steps.c.worker))
        .where(steps.c.session_id == bindparam("b_session"))
        .order_by(steps.c.queued_at.is_(None), steps.c.queued_at, steps.c.step, steps.c.item)
    )
    with db.read() as conn:
        return list(conn.execute(statement, {"b_session": session_id}).mappings())


def attempt_rows(db: Database, session_id: str) -> list[Row]:
    """Every attempt that did not succeed, oldest first."""
    statement = (
        select(attempts, workers.c.nodename)
        .select_from(attempts.outerjoin(workers, workers.c.id == attempts.c.worker))
        .where(attempts.c.session_id == bindparam("b_session"))
        .order_by(attempts.c.finished_at, attempts.c.step, attempts.c.attempt)
    )
    with db.read() as conn:
        return list(conn.execute(statement, {"b_session": session_id}).mappings())


def action_rows(db: Database, session_id: str) -> list[Row]:
    """What was asked of a session, mostly by operators, oldest first."""
    return _actions(db, _ACTIONS.where(actions.c.action.not_in([word.value for word in Note])), session_id)


def noted_rows(db: Database, session_id: str) -> list[Row]:
    """The same, with what the engine noted itself; see `notes`."""
    return _actions(db, _ACTIONS, session_id)


_ACTIONS = (
    select(actions)
    .where(actions.c.session_id == bindparam("b_session"))
    .order_by(actions.c.version, actions.c.done_at, actions.c.id)
)


def _actions(db: Database, statement: Any, session_id: str) -> list[Row]:
    with db.read() as conn:
        return list(conn.execute(statement, {"b_session": session_id}).mappings())


def outputs_of(db: Database, session_id: str, names: Collection[str]) -> dict[str, tuple[str, str | None]]:
    """Step id -> (status, output as JSON text) for these steps."""
    if not names:
        return {}
    statement = select(steps.c.step, steps.c.status, steps.c.output).where(
        steps.c.session_id == bindparam("b_session"), steps.c.item == -1, steps.c.step.in_(list(names))
    )
    with db.read() as conn:
        return {row.step: (row.status, row.output) for row in conn.execute(statement, {"b_session": session_id})}


_PROBE = union_all(*(select(literal(1)).select_from(table).limit(1).subquery().select()
                     for table in (definitions, sessions, heads, steps, workers)))  # fmt: skip


def probe(db: Database) -> None:
    """Pass if the tables that a start writes are there. Raises SchemaOutOfDate or StoreUnavailable."""
    with db.read() as conn:
        conn.execute(_PROBE).all()


def open_counts(db: Database) -> dict[str, int]:
    """Status -> number of sessions."""
    statement = select(heads.c.status, func.count().label("n")).group_by(heads.c.status)
    with db.read() as conn:
        return {row.status: row.n for row in conn.execute(statement)}


def database_now(db: Database, clock: dict[str, Any]) -> datetime:
    """What time the database has."""
    with db.read() as conn:
        value: datetime = conn.execute(select(now()), clock).scalar_one()
    return value
