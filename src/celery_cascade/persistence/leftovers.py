"""What a prune does besides: rows that nothing refers to any more, broken times, and the room that a file takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    LargeBinary,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from celery_cascade.persistence.clock import after, now, seconds_between
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.deleting import chunks
from celery_cascade.persistence.notes import Note, note, note_completion
from celery_cascade.persistence.prune_rules import broken
from celery_cascade.persistence.tables import (
    context_changes,
    definitions,
    heads,
    messages,
    meta,
    queued,
    running,
    sessions,
    steps,
    workers,
)

_USED = select(sessions.c.session_id).where(sessions.c.definition_digest == definitions.c.digest).exists()
_OWNS = select(steps.c.session_id).where(steps.c.worker == workers.c.id, or_(running(), queued())).exists()


def forget_definitions(db: Database, *, limit: int, clock: dict[str, Any]) -> int:
    """Delete definitions that no session refers to, an hour old at least (a start may be about to use a younger)."""
    old = or_(definitions.c.first_seen_at < after("b_old"), broken(definitions.c.first_seen_at))
    return _forget(db, definitions.c.digest, and_(~_USED, old), limit, clock | {"b_old": -3600.0})


def forget_workers(db: Database, *, older_than: float, limit: int, clock: dict[str, Any]) -> int:
    """Delete rows of workers that were last heard of `older_than` seconds ago and own nothing."""
    old = or_(workers.c.heartbeat_at < after("b_old"), broken(workers.c.heartbeat_at))
    return _forget(db, workers.c.id, and_(~_OWNS, old), limit, clock | {"b_old": -older_than})


def _forget(db: Database, key: Any, useless: ColumnElement[bool], limit: int, parameters: dict[str, Any]) -> int:
    """Delete rows that are useless, and still are when they go: read first, so that nobody waits for nothing."""
    with db.read() as conn:
        found = list(conn.execute(select(key).where(useless).limit(limit), parameters).scalars())
    if not found:
        return 0
    gone = delete(key.table).where(key.in_(bindparam("b_keys", expanding=True)), useless)

    def work(conn: Connection) -> int:
        return sum(int(conn.execute(gone, parameters | {"b_keys": some}).rowcount) for some in chunks(found))

    try:
        return db.transaction(work)
    except IntegrityError:  # a start took one of them in this moment; the next prune looks again
        return 0


def mend_times(db: Database, *, limit: int, clock: dict[str, Any]) -> list[str]:
    """Replace broken times of heads that do not run by the present (R119); the ids of their sessions.

    How old such a session is nobody knows. Its age counts from now, so it is neither deleted at once nor kept for ever.
    """
    stopped = heads.c.status == "suspended"
    found = union_all(
        select(heads.c.session_id).where(broken(heads.c.finished_at)),
        select(heads.c.session_id).where(broken(heads.c.updated_at), heads.c.status != "active"),
        select(heads.c.session_id).where(broken(heads.c.created_at), stopped),
    ).limit(limit)
    with db.read() as conn:
        ids = sorted(set(conn.execute(found, clock).scalars()))
    if not ids:
        return []

    def work(conn: Connection) -> None:
        for some in chunks(ids):
            rows = conn.execute(_STOPPED, {"b_ids": some}).all()
            conn.execute(_MEND, clock | {"b_ids": [row.session_id for row in rows]})
            for row in rows:
                note_completion(conn, row.session_id, row, clock)  # at the mended moment
                note(conn, row.session_id, Note.MENDED, row.version + 1, clock)

    db.transaction(work)
    return ids


def _mended(moment: Any) -> ColumnElement[Any]:
    return case((broken(moment), now()), else_=moment)  # NULL is neither before nor after anything, and stays


_OF_THESE = and_(heads.c.session_id.in_(bindparam("b_ids", expanding=True)), heads.c.status != "active")
#: Without their times, which may be what cannot be read.
_STOPPED = select(heads.c.session_id, heads.c.status, heads.c.version).where(_OF_THESE).with_for_update()
_MEND = (
    update(heads)
    .where(_OF_THESE)
    .values(
        finished_at=_mended(heads.c.finished_at),
        created_at=_mended(heads.c.created_at),
        updated_at=now(),
        version=heads.c.version + 1,
    )
)


def first_time(db: Database, name: str, *, clock: dict[str, Any]) -> bool:
    """Whether nobody has asked this of this store before (`name` is remembered in `cascade_meta`)."""
    with db.read() as conn:
        if conn.execute(select(meta.c.name).where(meta.c.name == name)).first() is not None:
            return False
        moment = conn.execute(select(now()), clock).scalar_one()
    try:
        db.transaction(lambda conn: conn.execute(insert(meta), {"name": name, "value": moment.isoformat()}))
    except IntegrityError:  # somebody else was first
        return False
    return True


def sizes(db: Database, session_ids: Sequence[str], *, clock: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Session id -> cascade, status, seconds since its end (None: that cannot be read), bytes of its payloads."""
    in_steps = _sum_of(
        _bytes(db, steps.c.call) + _bytes(db, steps.c.output) + _bytes(db, steps.c.error), steps.c.session_id
    )
    in_context = _sum_of(_bytes(db, context_changes.c.delta), context_changes.c.session_id)
    in_messages = _sum_of(_bytes(db, messages.c.content) + _bytes(db, messages.c.extra), messages.c.session_id)
    folded = (
        type_coerce(heads.c.context_variables, Text())
        if db.family != "postgresql"
        else cast(heads.c.context_variables, Text())
    )
    own = _bytes(db, sessions.c.input_data) + _bytes(db, heads.c.output) + _bytes(db, heads.c.error)
    own += _bytes(db, folded) + in_context + in_messages
    ended = func.coalesce(heads.c.finished_at, heads.c.updated_at)
    statement = (
        select(
            sessions.c.session_id,
            sessions.c.cascade_id,
            heads.c.status,
            seconds_between(db.family, ended, now()).label("seconds"),
            (own + in_steps).label("bytes"),
        )
        .select_from(sessions.join(heads, heads.c.session_id == sessions.c.session_id))
        .where(sessions.c.session_id.in_(bindparam("b_ids", expanding=True)))
    )
    found: dict[str, dict[str, Any]] = {}
    with db.read() as conn:
        for some in chunks(session_ids):
            for row in conn.execute(statement, clock | {"b_ids": some}).mappings():
                seconds = None if row["seconds"] is None else float(row["seconds"])
                found[row["session_id"]] = dict(row) | {"seconds": seconds, "bytes": int(row["bytes"])}
    return found


def _sum_of(sizes: ColumnElement[int], session_id: Any) -> ColumnElement[int]:
    of_session = select(func.sum(sizes)).where(session_id == sessions.c.session_id)
    return func.coalesce(of_session.scalar_subquery(), 0)


def _bytes(db: Database, column: Any) -> ColumnElement[int]:
    if db.family == "sqlite":  # its length() of text counts characters
        return func.coalesce(func.length(cast(column, LargeBinary)), 0)
    return func.coalesce(func.octet_length(column), 0)


def vacuum(db: Database) -> tuple[int, int]:
    """Give the room that deleted rows took back to the disk; bytes of the file before and after. SQLite only.

    Raises:
        StoreUnavailable: others used the file for longer than the busy timeout.
    """
    with db.autocommit() as conn:
        before = _file_size(conn)
        conn.exec_driver_sql("VACUUM")
        conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
        return before, _file_size(conn)


def _file_size(conn: Connection) -> int:
    pages: int = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
    size: int = conn.exec_driver_sql("PRAGMA page_size").scalar_one()
    return pages * size
