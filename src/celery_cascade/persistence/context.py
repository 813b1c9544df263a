"""The head's context: read with the version it was read at, written only if it is still at that version (R38)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.exc import SQLAlchemyError

from celery_cascade.errors import SessionConflict, StaleState, StoreError, StoreUnavailable
from celery_cascade.persistence.clock import now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.database_errors import Trouble, trouble
from celery_cascade.persistence.tables import THIS_HEAD, heads
from celery_cascade.persistence.types import Json
from celery_cascade.persistence.views import not_found
from celery_cascade.states import SessionStatus

#: A session in one of these may still use its context: `failed` too, which a resume sets going again.
_OPEN = tuple(sorted(status.value for status in SessionStatus if status is SessionStatus.FAILED or not status.final))

_READ = select(heads.c.version, heads.c.status, heads.c.context_variables).where(THIS_HEAD)
_VERSION = select(heads.c.version, heads.c.status).where(THIS_HEAD)
_WRITE = (
    update(heads)
    .where(THIS_HEAD, heads.c.version == bindparam("b_version"), heads.c.status.in_(_OPEN))
    .values(context_variables=bindparam("b_value", type_=Json()), version=heads.c.version + 1, updated_at=now())
)


def read_context(db: Database, session_id: str) -> tuple[int, dict[str, Any]]:
    """The head's version, and the context as it was then; {} if nobody has set it.

    Raises:
        SessionNotFound: there is no such session.
        StoreError: what is stored there is no mapping.
    """
    try:
        with db.read() as conn:
            row = conn.execute(_READ, {"b_session": session_id}).one_or_none()
    except (ValueError, RecursionError) as error:
        raise _unreadable(session_id, str(error)) from error
    if row is None:
        raise not_found(db, session_id)
    value = {} if row.context_variables is None else row.context_variables
    if not isinstance(value, dict):
        raise _unreadable(session_id, f"it is a {type(value).__name__}, not a mapping")
    return row.version, value


def _unreadable(session_id: str, why: str) -> StoreError:
    return StoreError(
        f"session {session_id}: its context cannot be read: {why}", hint="Look at the store with: cascade doctor"
    )


def write_context(db: Database, session_id: str, *, version: int, value: dict[str, Any], clock: dict[str, Any]) -> int:
    """Write the context if the head is still at `version`; returns the new version, which is one more.

    Raises:
        StaleState: somebody else changed the session in between; nothing was written.
        SessionConflict: it has ended for good.
        SessionNotFound: it is gone.
        StoreUnavailable: the connection broke, and whether the value was written cannot be told.
    """
    broken: list[BaseException] = []

    def work(conn: Connection) -> int:
        parameters = clock | {"b_session": session_id, "b_version": version, "b_value": value}
        try:
            return int(conn.execute(_WRITE, parameters).rowcount)
        except SQLAlchemyError as error:
            if trouble(error) is Trouble.LOST:
                broken.append(error)  # it is tried again, and then finds the old version if it was not written
            raise

    if db.single(work):
        return version + 1
    with db.read() as conn:
        head = conn.execute(_VERSION, {"b_session": session_id}).one_or_none()
    if head is None:
        raise not_found(db, session_id)
    if broken:
        raise StoreUnavailable(
            f"the connection to the store broke while the context of session {session_id} was written at version "
            f"{version}; it is at version {head.version} now, and whether this write is part of it cannot be told",
            hint="Read session.context again before you decide",
        ) from broken[0]
    if head.status not in _OPEN:
        raise SessionConflict(
            f"session {session_id} is {head.status}; its context cannot change any more",
            hint=f"Look at it with: cascade show {session_id}",
        )
    raise StaleState(
        f"session {session_id} was changed by somebody else: it is at version {head.version}, and this context was "
        f"read at version {version}; nothing was written",
        hint="Read session.context again and repeat the change; celery_cascade.retry_stale(work) does both",
    )
