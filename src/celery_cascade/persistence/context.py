"""A session's context: read with the version it was read at, written only if it is still at that version (R38).

What is true is in `session_context`: what each transaction changed, as a delta (R139). The head has a fold of those up
to its `context_version`, so that nobody has to read them all; NULL: of none, and what stands there came before them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, type_coerce, update

from celery_cascade import deltas
from celery_cascade.errors import CascadeError, SessionConflict, StaleState, StoreError, StoreUnavailable
from celery_cascade.persistence import codec
from celery_cascade.persistence.clock import now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.tables import THIS_HEAD, context_changes, heads
from celery_cascade.persistence.types import PlainJson
from celery_cascade.persistence.views import not_found
from celery_cascade.states import SessionStatus

#: A session in one of these may still use its context: `failed` too, which a resume sets going again.
OPEN = tuple(sorted(status.value for status in SessionStatus if status is SessionStatus.FAILED or not status.final))
#: So many changes are read beside the fold; who finds more of them writes a new one.
MOST_UNFOLDED = 100
#: The version of a change that stands for what was there before changes were kept.
_BASE_VERSION = 1

_FOLDED = type_coerce(heads.c.context_variables, PlainJson()).label("folded")
_READ = select(heads.c.version, heads.c.context_version, _FOLDED).where(THIS_HEAD)
_CHANGES = (
    select(context_changes.c.version, context_changes.c.delta)
    .where(
        context_changes.c.session_id == bindparam("b_session"),
        context_changes.c.version > bindparam("b_after"),
        context_changes.c.version <= bindparam("b_version"),
    )
    .order_by(context_changes.c.version)
)
_BEHIND = (
    select(context_changes.c.version)
    .join(heads, heads.c.session_id == context_changes.c.session_id)
    .where(THIS_HEAD, context_changes.c.version > func.coalesce(heads.c.context_version, 0))
    .limit(1)
)
_LOCK = (select(heads.c.version, heads.c.status, heads.c.context_version).where(THIS_HEAD)).with_for_update()
#: What stands in the head of a session of which no change is folded.
_BASE = select(heads.c.created_at, _FOLDED).where(THIS_HEAD, heads.c.context_version.is_(None))
_VERSION = select(heads.c.version, heads.c.status).where(THIS_HEAD)
_SET = (
    update(heads)
    .where(THIS_HEAD)
    .values(
        context_variables=bindparam("b_value", type_=PlainJson()),
        context_version=bindparam("b_to"),
    )
)
_WRITE = _SET.values(version=bindparam("b_to"), updated_at=now())
_FOLD = _SET.values(updated_at=heads.c.updated_at)
_INSERT = insert(context_changes)
_INSERT_NOW = _INSERT.values(set_at=now())


def add_change(
    conn: Connection,
    session_id: str,
    version: int,
    delta: str,
    clock: dict[str, Any],
    *,
    step: str | None = None,
    actor: str | None = None,
) -> None:
    """Write down what a transaction changes in the context; the head is locked."""
    row = {"session_id": session_id, "version": version, "delta": delta, "step": step, "actor": actor}
    conn.execute(_INSERT_NOW, clock | row)


def begin_context(conn: Connection, session_id: str, text: str, clock: dict[str, Any]) -> None:
    """The context that a new session begins with: its change of version 1. Its head was just inserted."""
    value = json.loads(text)
    add_change(conn, session_id, 1, deltas.written(deltas.diff({}, value)), clock)
    conn.execute(_FOLD, {"b_session": session_id, "b_value": value, "b_to": 1})


def read_context(db: Database, session_id: str, clock: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The head's version, and the context as it was then; {} if nobody has set it.

    Raises:
        SessionNotFound: there is no such session.
        StoreError: what is stored there is no mapping.
    """
    return _read(db, session_id, MOST_UNFOLDED, clock)


def fold_context(db: Database, session_id: str, clock: dict[str, Any]) -> None:
    """Bring the head's fold up to date: for those who read it there. Whatever keeps it from that is left to others."""
    with suppress(CascadeError):
        with db.read() as conn:
            behind = conn.execute(_BEHIND, {"b_session": session_id}).first() is not None
        if behind:
            _read(db, session_id, 0, clock)


def _read(db: Database, session_id: str, most: int, clock: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    try:
        with db.read() as conn:
            head = conn.execute(_READ, {"b_session": session_id}).one_or_none()
            after = 0 if head is None or head.context_version is None else head.context_version
            version = 0 if head is None else head.version
            bounds = {"b_session": session_id, "b_after": after, "b_version": version}
            later = conn.execute(_CHANGES, bounds).all() if version > after else []
        value = None if head is None else deltas.fold((row.delta for row in later), head.folded)
        found = codec.from_plain(value)
    except CascadeError:
        raise
    except Exception as error:  # a registered type's decoder may raise anything
        raise _unreadable(session_id, str(error)) from error
    if head is None:
        raise not_found(db, session_id)
    if not isinstance(found, dict):
        raise _unreadable(session_id, f"it is a {type(found).__name__}, not a mapping")
    if len(later) > most:
        with suppress(CascadeError):
            _fold(db, session_id, head.context_version, later[-1].version, value, clock)
    return version, found


def _fold(db: Database, session_id: str, was: int | None, to: int, value: Any, clock: dict[str, Any]) -> None:
    """Move the fold forward if nobody has; the session does not change by it."""

    def work(conn: Connection) -> None:
        head = conn.execute(_LOCK, {"b_session": session_id}).one_or_none()
        if head is not None and head.context_version == was:
            keep_base(conn, session_id)
            conn.execute(_FOLD, {"b_session": session_id, "b_value": value, "b_to": to})

    db.transaction(work)


def lock_context(conn: Connection, session_id: str) -> int | None:
    """Lock the head; its version, None if it is gone."""
    head = conn.execute(_LOCK, {"b_session": session_id}).one_or_none()
    return None if head is None else head.version


def keep_base(conn: Connection, session_id: str) -> None:
    """Before the first fold, write down what was there already: all changes together give the context (R139)."""
    base = conn.execute(_BASE, {"b_session": session_id}).one_or_none()
    if base is not None and base.folded:
        delta = deltas.written(deltas.diff({}, base.folded))
        row = {"session_id": session_id, "version": _BASE_VERSION, "delta": delta, "set_at": base.created_at}
        conn.execute(_INSERT, row)


def _unreadable(session_id: str, why: str) -> StoreError:
    return StoreError(
        f"session {session_id}: its context cannot be read: {why}", hint="Look at the store with: cascade doctor"
    )


def write_context(
    db: Database,
    session_id: str,
    *,
    version: int,
    value: dict[str, Any],
    delta: str,
    actor: str | None,
    clock: dict[str, Any],
) -> int:
    """Write the context if the head is still at `version`; returns the new version, which is one more.

    Args:
        db: the store's.
        session_id: whose.
        version: at which it was read.
        value: all of it, as the codec's `to_plain` gives it.
        delta: what has changed since it was read.
        actor: who changes it, if that is told.
        clock: the moment.

    Raises:
        StaleState: somebody else changed the session in between; nothing was written.
        SessionConflict: it has ended for good.
        SessionNotFound: it is gone.
        StoreUnavailable: the connection broke, and whether the value was written cannot be told.
    """
    sent: list[int] = []  # a commit was tried for each

    def work(conn: Connection) -> bool:
        head = conn.execute(_LOCK, {"b_session": session_id}).one_or_none()
        if head is None or head.version != version or head.status not in OPEN:
            return False
        if head.context_version is None:
            keep_base(conn, session_id)
        conn.execute(_WRITE, clock | {"b_session": session_id, "b_value": value, "b_to": version + 1})
        add_change(conn, session_id, version + 1, delta, clock, actor=actor)
        sent.append(version)
        return True

    if db.transaction(work):
        return version + 1
    with db.read() as conn:
        head = conn.execute(_VERSION, {"b_session": session_id}).one_or_none()
    if head is None:
        raise not_found(db, session_id)
    if sent:
        raise StoreUnavailable(
            f"the connection to the store broke while the context of session {session_id} was written at version "
            f"{version}; it is at version {head.version} now, and whether this write is part of it cannot be told",
            hint="Read session.context again before you decide",
        )
    if head.status not in OPEN:
        raise ended(session_id, head.status, "its context cannot change any more")
    raise StaleState(
        f"session {session_id} was changed by somebody else: it is at version {head.version}, and this context was "
        f"read at version {version}; nothing was written",
        hint="Read session.context again and repeat the change; celery_cascade.retry_stale(work) does both",
    )


def ended(session_id: str, status: str, what: str) -> SessionConflict:
    """The refusal of a change to a session that has ended for good."""
    return SessionConflict(
        f"session {session_id} is {status}; {what}", hint=f"Look at it with: cascade show {session_id}"
    )


_HISTORY = (select(context_changes).where(context_changes.c.session_id == bindparam("b_session"))).order_by(
    context_changes.c.version
)


def changes_of(conn: Connection, session_id: str) -> list[dict[str, Any]]:
    """Every change of a session's context, oldest first; what was there before changes were kept is the first."""
    base = conn.execute(_BASE, {"b_session": session_id}).one_or_none()
    rows = [dict(row) for row in conn.execute(_HISTORY, {"b_session": session_id}).mappings()]
    if base is None or not base.folded or (rows and rows[0]["version"] == _BASE_VERSION):
        return rows
    delta = deltas.written(deltas.diff({}, base.folded))
    first = {"session_id": session_id, "version": _BASE_VERSION, "delta": delta, "step": None, "actor": None}
    return [first | {"set_at": base.created_at}, *rows]


def change_rows(db: Database, session_id: str) -> list[dict[str, Any]]:
    """The same, for who has no connection."""
    with db.read() as conn:
        return changes_of(conn, session_id)


def plain_context(conn: Connection, session_id: str) -> dict[str, Any]:
    """The context as JSON, as this transaction sees it; {} if nobody has set it or the session is gone.

    Raises:
        StoreError: what is stored there is no mapping.
    """
    try:
        head = conn.execute(_READ, {"b_session": session_id}).one_or_none()
        if head is None:
            return {}
        bounds = {"b_session": session_id, "b_after": head.context_version or 0, "b_version": head.version}
        value = deltas.fold((row.delta for row in conn.execute(_CHANGES, bounds)), head.folded)
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(session_id, str(error)) from error
    if not isinstance(value, dict):
        raise _unreadable(session_id, f"it is a {type(value).__name__}, not a mapping")
    return value
