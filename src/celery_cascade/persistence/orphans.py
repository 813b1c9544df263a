"""Steps that say they run: whose worker is gone, whose time is over, what one worker is said to run."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, bindparam, or_, select
from sqlalchemy.sql.elements import ColumnElement

from celery_cascade.persistence.clock import after, now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Orphan, StepKey
from celery_cascade.persistence.tables import THIS_STEP, heads, running, steps, workers


def _running_and(condition: ColumnElement[bool]) -> Any:
    return (
        select(
            steps.c.session_id,
            steps.c.step,
            steps.c.item,
            steps.c.token,
            steps.c.attempt,
            steps.c.crashes,
            steps.c.failures,
            steps.c.task,
            steps.c.runner,
            steps.c.worker,
            steps.c.reason,
            heads.c.halt,
            workers.c.nodename,
        )
        .select_from(
            steps.join(heads, heads.c.session_id == steps.c.session_id).outerjoin(
                workers, workers.c.id == steps.c.worker
            )
        )
        .where(running(), condition)
        .order_by(steps.c.session_id, steps.c.step, steps.c.item)
    )


_GONE = or_(workers.c.id.is_(None), workers.c.stopped_at.is_not(None))
_OF_GONE = _running_and(_GONE).limit(bindparam("b_limit"))
_OF_SILENT = _running_and(or_(_GONE, workers.c.heartbeat_at < after("b_silent"))).limit(bindparam("b_limit"))
_OF_WORKER = _running_and(steps.c.worker == bindparam("b_worker"))
_OVERDUE = _running_and(and_(steps.c.deadline.is_not(None), steps.c.deadline <= now())).limit(bindparam("b_limit"))
_OF_SESSION = steps.c.session_id == bindparam("b_session")
_GONE_IN_SESSION = _running_and(and_(_OF_SESSION, _GONE))
_OVERDUE_IN_SESSION = _running_and(and_(_OF_SESSION, steps.c.deadline.is_not(None), steps.c.deadline <= now()))
_ATTEMPT = _running_and(and_(THIS_STEP, steps.c.attempt == bindparam("b_attempt")))


def orphans(db: Database, *, silent_for: float | None, limit: int, clock: dict[str, Any]) -> list[Orphan]:
    """Running steps whose worker has said goodbye, is unknown, or (`silent_for`) has not been heard of for so long."""
    parameters: dict[str, Any] = {"b_limit": limit}
    if silent_for is not None:
        parameters |= clock | {"b_silent": -silent_for}
    with db.read() as conn:
        return [_orphan(row) for row in conn.execute(_OF_GONE if silent_for is None else _OF_SILENT, parameters)]


def orphans_of(db: Database, session_id: str) -> list[Orphan]:
    """As `orphans` without `silent_for`, of one session, whatever waits elsewhere."""
    with db.read() as conn:
        return [_orphan(row) for row in conn.execute(_GONE_IN_SESSION, {"b_session": session_id})]


def overdue_of(db: Database, session_id: str, *, clock: dict[str, Any]) -> list[Orphan]:
    """As `overdue`, of one session."""
    with db.read() as conn:
        return [_orphan(row) for row in conn.execute(_OVERDUE_IN_SESSION, clock | {"b_session": session_id})]


def running_on(db: Database, worker_id: str) -> list[Orphan]:
    """Every step that this worker is said to run."""
    with db.read() as conn:
        return [_orphan(row) for row in conn.execute(_OF_WORKER, {"b_worker": worker_id})]


def overdue(db: Database, *, limit: int, clock: dict[str, Any]) -> list[Orphan]:
    """Running steps whose deadline has passed."""
    with db.read() as conn:
        return [_orphan(row) for row in conn.execute(_OVERDUE, clock | {"b_limit": limit})]


def one_running(db: Database, key: StepKey, attempt: int) -> Orphan | None:
    """A step that runs, by key and attempt: what the main process knows of a child's work."""
    which = {"b_session": key.session_id, "b_step": key.step, "b_item": key.item, "b_attempt": attempt}
    with db.read() as conn:
        row = conn.execute(_ATTEMPT, which).one_or_none()
    return None if row is None else _orphan(row)


def _orphan(row: Any) -> Orphan:
    return Orphan(
        key=StepKey(row.session_id, row.step, row.item),
        token=row.token,
        attempt=row.attempt,
        crashes=row.crashes,
        failures=row.failures,
        task=row.task,
        runner=row.runner,
        worker=row.worker,
        halt=row.halt,
        nodename=row.nodename,
        on_crash=row.reason,
    )
