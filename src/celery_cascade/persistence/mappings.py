"""The users' own handles: (thread, resource) → session, one row a pair. No history is in it (R106)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from celery_cascade.persistence.clock import now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.tables import mappings, sessions
from celery_cascade.persistence.views import not_found_on

#: Where a list of threads goes on: the `updated_at` and the thread of the last one shown.
Place = tuple[datetime, str]

THIS_THREAD = and_(mappings.c.thread_id == bindparam("b_thread"), mappings.c.resource_id == bindparam("b_resource"))
_COLUMNS = (
    mappings.c.thread_id,
    mappings.c.resource_id,
    mappings.c.session_id,
    mappings.c.created_at,
    mappings.c.updated_at,
)
_ONE = select(*_COLUMNS).where(THIS_THREAD)
_DELETE = delete(mappings).where(THIS_THREAD)
#: Shared: whoever would delete the session waits, or is waited for.
_OWNER = (
    select(sessions.c.resource_id).where(sessions.c.session_id == bindparam("b_session")).with_for_update(read=True)
)
_TOUCH = update(mappings).where(mappings.c.session_id == bindparam("b_session")).values(updated_at=now())


def pair_of(thread_id: str, resource_id: str) -> dict[str, str]:
    """The parameters of `THIS_THREAD`."""
    return {"b_thread": thread_id, "b_resource": resource_id}


def mapping_of(db: Database, thread_id: str, resource_id: str) -> Row | None:
    """The row of a pair; None if there is none."""
    with db.read() as conn:
        return conn.execute(_ONE, pair_of(thread_id, resource_id)).mappings().one_or_none()


def mappings_of(db: Database, resource_id: str, *, limit: int, before: Place | None = None) -> list[Row]:
    """A page of a resource's threads, the one used last first."""
    statement = select(*_COLUMNS).where(mappings.c.resource_id == resource_id)
    if before is not None:
        at, thread_id = before
        earlier = and_(mappings.c.updated_at == at, mappings.c.thread_id < thread_id)
        statement = statement.where(mappings.c.updated_at <= at, or_(mappings.c.updated_at < at, earlier))
    statement = statement.order_by(mappings.c.updated_at.desc(), mappings.c.thread_id.desc()).limit(limit)
    with db.read() as conn:
        return list(conn.execute(statement).mappings())


def save_mapping(db: Database, thread_id: str, resource_id: str, session_id: str, *, clock: dict[str, Any]) -> None:
    """Point a pair at a session: a new row, or the one that is there moves (R90).

    Raises:
        SessionNotFound: no such session, or it belongs to another resource, which is none of this one's business.
    """

    def work(conn: Connection) -> None:
        owner = conn.execute(_OWNER, {"b_session": session_id}).one_or_none()
        if owner is None or owner.resource_id not in (None, resource_id):
            raise not_found_on(conn, db, session_id)
        conn.execute(_UPSERT[db.family], clock | pair_of(thread_id, resource_id) | {"b_new": session_id})

    db.transaction(work)


def delete_mapping(db: Database, thread_id: str, resource_id: str) -> bool:
    """Forget a pair; its session stays. False if there was none."""
    return db.transaction(lambda conn: bool(conn.execute(_DELETE, pair_of(thread_id, resource_id)).rowcount))


def touch_mapping(conn: Connection, session_id: str, clock: dict[str, Any]) -> None:
    """The thread of this session was used just now, if it is in one (R99)."""
    conn.execute(_TOUCH, clock | {"b_session": session_id})


_NEW_ROW = {
    "thread_id": bindparam("b_thread"),
    "resource_id": bindparam("b_resource"),
    "session_id": bindparam("b_new"),
    "created_at": now(),
    "updated_at": now(),
}
INSERT_MAPPING = insert(mappings).values(_NEW_ROW)
MOVE_MAPPING = update(mappings).where(THIS_THREAD).values(session_id=bindparam("b_new"), updated_at=now())
_KEY = [mappings.c.thread_id, mappings.c.resource_id]
_MOVED = {"session_id": bindparam("b_new"), "updated_at": now()}
_UPSERT: dict[str, Any] = {
    "postgresql": postgresql.insert(mappings).values(_NEW_ROW).on_conflict_do_update(index_elements=_KEY, set_=_MOVED),
    "sqlite": sqlite.insert(mappings).values(_NEW_ROW).on_conflict_do_update(index_elements=_KEY, set_=_MOVED),
    "mysql": mysql.insert(mappings).values(_NEW_ROW).on_duplicate_key_update(_MOVED),
}
