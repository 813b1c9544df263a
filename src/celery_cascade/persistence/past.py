"""All rows of one session, read once: what its past is made out of (R23)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from celery_cascade.persistence import views
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.tables import context_changes, heads, messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A session's rows.

    The head was read first. What has changed since then shows in the other rows with a later version, and is left out.

    Attributes:
        session: the immutable part and the head.
        context: the head's `context_variables` and the version up to which it is folded; None = no change is.
        actions: what was asked, and what the engine noted.
        messages: said in this session.
        changes: of its context.
    """

    session: Row
    context: tuple[Any, int | None]
    steps: list[Row]
    attempts: list[Row]
    actions: list[Row]
    messages: list[Row]
    changes: list[Row]


_CONTEXT = select(heads.c.context_variables, heads.c.context_version).where(
    heads.c.session_id == bindparam("b_session")
)
_MESSAGES = select(messages).where(messages.c.session_id == bindparam("b_session")).order_by(messages.c.seq)
_CHANGES = (
    select(context_changes)
    .where(context_changes.c.session_id == bindparam("b_session"))
    .order_by(context_changes.c.version)
)


def past_of(db: Database, session_id: str) -> Past:
    """Read them. Raises SessionNotFound."""
    row = views.session_row(db, session_id)
    with db.read() as conn:
        context = conn.execute(_CONTEXT, {"b_session": session_id}).one_or_none()
        said = _all(conn, _MESSAGES, session_id)
        changes = _all(conn, _CHANGES, session_id)
    return Past(
        session=row,
        context=(None, None) if context is None else (context.context_variables, context.context_version),
        steps=views.step_rows(db, session_id),
        attempts=views.attempt_rows(db, session_id),
        actions=views.noted_rows(db, session_id),
        messages=said,
        changes=changes,
    )


def _all(conn: Connection, statement: Any, session_id: str) -> list[Row]:
    return list(conn.execute(statement, {"b_session": session_id}).mappings())
