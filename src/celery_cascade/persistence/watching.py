"""Reads for people who look on: what changed in a session, who holds it, when a worker was last heard of."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import bindparam, func, or_, select

from celery_cascade.persistence.clock import now, seconds_between
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.tables import steps, workers

_OPEN = ("queued", "running", "waiting")
_CHANGES = (
    select(
        steps.c.step,
        steps.c.item,
        steps.c.status,
        steps.c.reason,
        steps.c.attempt,
        steps.c.crashes,
        steps.c.started_at,
        steps.c.finished_at,
        steps.c.version,
        workers.c.nodename,
    )
    .select_from(steps.outerjoin(workers, workers.c.id == steps.c.worker))
    .where(
        steps.c.session_id == bindparam("b_session"),
        or_(steps.c.version > bindparam("b_since"), steps.c.status.in_(_OPEN)),  # a claim moves no version
    )
    .order_by(steps.c.version, steps.c.step, steps.c.item)
)
_HELD = (
    select(steps.c.session_id)
    .distinct()
    .where(steps.c.worker.in_(bindparam("b_workers", expanding=True)), steps.c.status.in_(("queued", "running")))
)


def step_changes(db: Database, session_id: str, since: int) -> list[Row]:
    """The steps that changed after version `since` and those that are open, without their payloads."""
    with db.read() as conn:
        return list(conn.execute(_CHANGES, {"b_session": session_id, "b_since": since}).mappings())


def held_by(db: Database, worker_ids: Collection[str]) -> set[str]:
    """The sessions of which these workers run a step, or have queued one."""
    if not worker_ids:
        return set()
    with db.read() as conn:
        return set(conn.execute(_HELD, {"b_workers": list(worker_ids)}).scalars())


def finished_work(db: Database, session_ids: Collection[str]) -> dict[str, tuple[int, float]]:
    """Session -> how many of its steps have succeeded, and the seconds that those took; none without any."""
    if not session_ids:
        return {}
    span = func.sum(seconds_between(db.family, steps.c.started_at, steps.c.finished_at))
    statement = (
        select(steps.c.session_id, func.count().label("n"), span.label("seconds"))
        .where(steps.c.session_id.in_(bindparam("b_sessions", expanding=True)), steps.c.status == "succeeded")
        .group_by(steps.c.session_id)
    )
    with db.read() as conn:
        rows = conn.execute(statement, {"b_sessions": list(session_ids)}).all()
    return {row.session_id: (row.n, max(0.0, float(row.seconds or 0.0))) for row in rows}


def last_sign_of_life(db: Database, *, clock: dict[str, Any]) -> float | None:
    """Seconds since any worker, ended ones included, was last heard of; None if there never was one."""
    with db.read() as conn:
        row = conn.execute(select(func.max(workers.c.heartbeat_at).label("beat"), now().label("now")), clock).one()
    return None if row.beat is None else max(0.0, (row.now - row.beat).total_seconds())
