"""All sessions that hang together: spawned by each other's steps, continued, forked, run again. No payload is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, bindparam, select

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.planner import led
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.tables import heads, sessions
from celery_cascade.persistence.views import not_found

_ROWS = select(
    sessions.c.session_id,
    sessions.c.cascade_id,
    sessions.c.name,
    sessions.c.trigger,
    sessions.c.parent_session_id,
    sessions.c.parent_step,
    sessions.c.root_session_id,
    sessions.c.forked_from,
    sessions.c.forked_step,
    sessions.c.forked_version,
    sessions.c.continues,
    sessions.c.conversation_id,
    sessions.c.turn,
    sessions.c.created_at,
    heads.c.status,
    heads.c.status_reason,
).select_from(sessions.join(heads, heads.c.session_id == sessions.c.session_id))
_ONE = _ROWS.where(sessions.c.session_id == bindparam("b_session"))
#: A whole tree of spawned sessions and a whole conversation are found by one look each, if their first one is there.
_LINKS = (
    sessions.c.root_session_id,
    sessions.c.parent_session_id,
    sessions.c.conversation_id,
    sessions.c.forked_from,
    sessions.c.continues,
)
_BELOW = tuple(_ROWS.where(led(link.in_(bindparam("b_ids", expanding=True)))) for link in _LINKS)
_AT_ONCE = 500


def family_rows(db: Database, session_id: str) -> list[Row]:
    """Every session of the family of this one, oldest first. Raises SessionNotFound."""
    with db.read() as conn:
        top = _top(conn, session_id)
        if top is None:
            raise not_found(db, session_id)
        found = {top["session_id"]: top}
        generation = [top["session_id"]]
        while generation:
            new = {row["session_id"]: row for row in _below(conn, generation) if row["session_id"] not in found}
            found |= new
            generation = list(new)
    return sorted(found.values(), key=lambda row: (row["created_at"], row["session_id"]))


def _top(conn: Connection, session_id: str) -> Row | None:
    """The session that all others come from; of an ancestor that was deleted nothing is known."""
    row: Row | None = conn.execute(_ONE, {"b_session": session_id}).mappings().one_or_none()
    seen: set[str] = set()
    while row is not None and row["session_id"] not in seen:
        seen.add(row["session_id"])
        above = _first(conn, _above(row))
        if above is None:
            return row
        row = above
    return row


def _above(row: Row) -> Iterator[str]:
    """Ids of sessions that this one comes from, the farthest first."""
    if row["parent_session_id"] is not None:
        yield from (row["root_session_id"], row["parent_session_id"])
    if row["forked_from"] is not None:
        yield row["forked_from"]
    if row["continues"] is not None:
        yield from (row["conversation_id"], row["continues"])


def _first(conn: Connection, ids: Iterable[str | None]) -> Row | None:
    for one in ids:
        if one is None:
            continue
        row: Row | None = conn.execute(_ONE, {"b_session": one}).mappings().one_or_none()
        if row is not None:
            return row
    return None


def _below(conn: Connection, ids: list[str]) -> Iterator[Row]:
    for begin in range(0, len(ids), _AT_ONCE):
        for statement in _BELOW:
            yield from conn.execute(statement, {"b_ids": ids[begin : begin + _AT_ONCE]}).mappings()
