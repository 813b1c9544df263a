"""Starting: definition, session, head, first steps and joins in one transaction, before any message."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import SessionConflict
from celery_cascade.persistence.clock import after, now
from celery_cascade.persistence.context import begin_context
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.inheriting import copy_messages, with_inherited_context
from celery_cascade.persistence.rows import NewSession, NewStep
from celery_cascade.persistence.tables import definitions, heads, sessions, steps, tags
from celery_cascade.persistence.threads import Turn, take_thread
from celery_cascade.states import SessionStatus, SuspendReason


def start_session(
    db: Database,
    new: NewSession,
    rows: Sequence[NewStep],
    *,
    worker: str | None,
    resend_after: float | None,
    clock: dict[str, Any],
) -> bool:
    """Write a session. True if this call (or an earlier try of it, known by its nonce) wrote it.

    Raises:
        SessionConflict: the session id or the idempotency key is taken, or the thread is in a session that runs.
    """

    def work(conn: Connection) -> None:
        write_definition(conn, db, new, clock)
        turn = take_thread(conn, new, clock)
        write_session(conn, new, clock, **_turn_values(turn))
        conn.execute(_INSERT_HEAD[_expiry(new), turn.waits], clock | head_values(new))
        write_belongings(conn, with_inherited_context(conn, new, turn), clock)
        if turn.copies is not None:
            copy_messages(conn, new.session_id, turn.copies)
        first = [parked(row) for row in rows] if turn.waits else rows
        insert_steps(conn, new.session_id, first, version=1, worker=worker, resend_after=resend_after, clock=clock)
        reached(CrashPoint.START_OPEN)

    return written_once(db, new, work)


def written_once(db: Database, new: NewSession, work: Callable[[Connection], None]) -> bool:
    """Carry out a transaction that writes a new session; True if it or an earlier try of it, known by the nonce, has.

    Raises:
        SessionConflict: the session id or the idempotency key is taken.
    """
    for _ in range(_TRIES):
        try:
            db.transaction(work)
            return True
        except IntegrityError as error:
            if _nonce_of(db, new.session_id) == new.nonce:
                return True
            conflict = _conflict(db, new)
            if conflict is not None:
                raise conflict from error
            refused = error  # whoever had the id is gone, or a prune took the definition under our feet: once more
    raise refused


def write_definition(conn: Connection, db: Database, new: NewSession, clock: dict[str, Any]) -> None:
    """Insert the bytes of a session's definition unless they are there."""
    if conn.execute(_KNOWN, {"b_digest": new.digest}).first() is None:
        conn.execute(_insert_definition(db.family), clock | _definition_values(new))


def write_session(conn: Connection, new: NewSession, clock: dict[str, Any], **more: Any) -> None:
    """Insert the immutable part of a session; `more` are columns that `new` does not know."""
    values = clock | _session_values(new) | more
    if new.parent_session_id is not None and conn.execute(_ROOT, {"b_root": new.root_session_id}).first() is None:
        values |= _WITHOUT_PARENT | {"root_session_id": new.session_id}
    conn.execute(_INSERT_SESSION, values)


def write_belongings(conn: Connection, new: NewSession, clock: dict[str, Any]) -> None:
    """Insert what a new session begins with besides its steps; its head is there."""
    if new.context is not None:
        begin_context(conn, new.session_id, new.context, clock)
    if new.tags is not None:
        insert_tags(conn, new.session_id, new.tags, clock)


_TRIES = 3
#: Shared: a tree goes whole or not at all, so nobody deletes it while a branch is put on it.
_ROOT = select(heads.c.id).where(heads.c.session_id == bindparam("b_root")).with_for_update(read=True)
_WITHOUT_PARENT = {"parent_session_id": None, "parent_step": None, "depth": 0}
_KNOWN = select(definitions.c.digest).where(definitions.c.digest == bindparam("b_digest"))
_INSERT_SESSION = insert(sessions).values(created_at=now())


def _insert_definition(family: str) -> Any:
    """Insert the bytes, unless another start does at this moment."""
    if family == "postgresql":
        return postgresql.insert(definitions).values(first_seen_at=now()).on_conflict_do_nothing()
    if family == "sqlite":
        return sqlite.insert(definitions).values(first_seen_at=now()).on_conflict_do_nothing()
    # A no-op update and not INSERT IGNORE, which would also swallow a value that does not fit.
    added = mysql.insert(definitions).values(first_seen_at=now())
    return added.on_duplicate_key_update(digest=definitions.c.digest)


def _definition_values(new: NewSession) -> dict[str, Any]:
    return {"digest": new.digest, "cascade_id": new.cascade_id, "format": new.format, "body": new.body}


def _session_values(new: NewSession) -> dict[str, Any]:
    return {
        "session_id": new.session_id,
        "name": new.name,
        "cascade_id": new.cascade_id,
        "definition_digest": new.digest,
        "definition_format": new.format,
        "input_data": new.input_data,
        "config_path": new.config_path,
        "parent_session_id": new.parent_session_id,
        "parent_step": new.parent_step,
        "root_session_id": new.root_session_id or new.session_id,
        "depth": new.depth,
        "execution_key": new.execution_key,
        "idempotency_key": new.idempotency_key,
        "thread_id": new.thread_id,
        "resource_id": new.resource_id,
        "tags": new.tags,
        "trigger": new.trigger,
        "nonce": new.nonce,
    }


def _turn_values(turn: Turn) -> dict[str, Any]:
    return {"continues": turn.continues, "conversation_id": turn.conversation_id, "turn": turn.turn}


_HEAD_COLUMNS = ("id", "session_id", "mode", "current_phase", "open_steps", "total_steps")
_HEAD = insert(heads).values(
    {name: bindparam(name) for name in _HEAD_COLUMNS},
).values(current_step=0, created_at=now(), updated_at=now())  # fmt: skip
_EXPIRY: dict[str, dict[str, Any]] = {
    "": {}, "in": {"expires_at": after("expires_in")}, "at": {"expires_at": bindparam("expires_at")},
}  # fmt: skip
_BEGINS: dict[bool, dict[str, Any]] = {
    False: {"started_at": now()},
    True: {"status": SessionStatus.SUSPENDED.value, "status_reason": SuspendReason.SIGNAL.value},
}
#: By when it expires, and whether it waits for its turn. Made once: to build one takes longer than to run it.
_INSERT_HEAD = {
    (name, waits): _HEAD.values(**expiry, **begins)
    for name, expiry in _EXPIRY.items()
    for waits, begins in _BEGINS.items()
}


def _expiry(new: NewSession) -> str:
    if new.expires_at is not None:
        return "at"
    return "" if new.expires_in is None else "in"


def head_values(new: NewSession) -> dict[str, Any]:
    """The columns of a new session's head."""
    values: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "session_id": new.session_id,
        "mode": new.mode,
        "current_phase": new.current_phase,
        "open_steps": new.total_steps - new.closed_steps,
        "total_steps": new.total_steps,
    }
    given: dict[str, dict[str, Any]] = {"in": {"expires_in": new.expires_in}, "at": {"expires_at": new.expires_at}}
    return values | given.get(_expiry(new), {})


_INSERT_TAG = insert(tags).values(session_id=bindparam("b_session"), tag=bindparam("b_tag"), created_at=now())


def insert_tags(conn: Connection, session_id: str, given: str, clock: dict[str, Any]) -> None:
    """Write a session's tags once more, to find it by; `given` = as `cascade_sessions.tags` has them."""
    rows = [{"b_session": session_id, "b_tag": tag} | clock for tag in dict.fromkeys(json.loads(given))]
    if rows:
        conn.execute(_INSERT_TAG, rows)


_INSERT_STEP = insert(steps).values(
    session_id=bindparam("b_session"),
    step=bindparam("step"),
    item=bindparam("item"),
    status=bindparam("status"),
    needs_left=bindparam("needs_left"),
    task=bindparam("task"),
    call=bindparam("call"),
    reason=bindparam("reason"),
    worker=bindparam("worker"),
    version=bindparam("b_version"),
)
_INSERT = {
    "queued": _INSERT_STEP.values(sends=1, queued_at=now(), wake_at=after("resend_after")),
    "driven": _INSERT_STEP.values(sends=1, queued_at=now()),
    "pending": _INSERT_STEP.values(sends=0),
    "skipped": _INSERT_STEP.values(sends=0, finished_at=now()),
}


def parked(row: NewStep) -> NewStep:
    """A step that is ready, for a session that does not run just then."""
    return replace(row, status="pending") if row.status == "queued" else row


def insert_steps(
    conn: Connection,
    session_id: str,
    rows: Sequence[NewStep],
    *,
    version: int,
    worker: str | None,
    resend_after: float | None,
    clock: dict[str, Any],
) -> None:
    """Insert step rows, as many statements as there are kinds of them."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kind = "driven" if row.status == "queued" and resend_after is None else row.status
        values = {
            "b_session": session_id,
            "step": row.step,
            "item": row.item,
            "status": row.status,
            "needs_left": row.needs_left,
            "task": row.task,
            "call": row.call,
            "reason": row.reason,
            "worker": worker if row.status == "queued" else None,
            "b_version": version,
        }
        if kind == "queued":
            values["resend_after"] = resend_after
        if kind != "pending":
            values |= clock
        kinds.setdefault(kind, []).append(values)
    for kind, values_list in kinds.items():
        conn.execute(_INSERT[kind], values_list)


def _nonce_of(db: Database, session_id: str) -> str | None:
    with db.read() as conn:
        return conn.execute(select(sessions.c.nonce).where(sessions.c.session_id == session_id)).scalar()


def _conflict(db: Database, new: NewSession) -> SessionConflict | None:
    """What the start ran into; None if nothing is there any more."""
    with db.read() as conn:
        if new.idempotency_key is not None:
            taken = conn.execute(
                select(sessions.c.session_id).where(sessions.c.idempotency_key == new.idempotency_key)
            ).scalar()
            if taken is not None:
                return SessionConflict(
                    f"idempotency key {new.idempotency_key!r} belongs to session {taken}",
                    hint=f"Look at it with: cascade show {taken}",
                )
        if conn.execute(select(sessions.c.nonce).where(sessions.c.session_id == new.session_id)).first() is None:
            return None
    return SessionConflict(
        f"session {new.session_id} exists already",
        hint=f"Look at it with: cascade show {new.session_id}; leave the id out to get a new one",
    )
