"""Queued steps that are made due at once, because what held their messages is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from celery_cascade.persistence.clock import now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.gate import lock_unheld
from celery_cascade.persistence.tables import STEP_KEY, THIS_STEP, queued, steps, workers

#: Rows that one transaction wakes at most, so that claims do not wait long for it.
_WAKE_BATCH = 200
_WAKE_NOW = update(steps).where(THIS_STEP).values(wake_at=now())
#: Queued, and not due yet.
_LATER_IF_EVER = and_(queued(), or_(steps.c.wake_at.is_(None), steps.c.wake_at > now()))
_LOCK_TO_WAKE = lock_unheld(*STEP_KEY).where(_LATER_IF_EVER)
_HELD = (
    select(*STEP_KEY)
    .where(steps.c.worker.in_(bindparam("b_workers", expanding=True)), steps.c.sends > 0, _LATER_IF_EVER)
    .limit(_WAKE_BATCH)
)
_FORSAKEN = (
    select(*STEP_KEY)
    .select_from(steps.join(workers, workers.c.id == steps.c.worker))
    .where(queued(), steps.c.wake_at.is_(None), workers.c.stopped_at.is_not(None))
    .limit(_WAKE_BATCH)
)
_OLDEST = (
    select(*STEP_KEY)
    .where(queued(), steps.c.sends == 1, steps.c.wake_at > now())
    .order_by(steps.c.wake_at)
    .limit(bindparam("b_limit"))
)


def wake_queued_by(db: Database, worker_ids: Sequence[str], *, clock: dict[str, Any]) -> int:
    """Make due at once what these dead workers had queued: their messages may never have been sent.

    A step that waits for its retry (nothing was sent yet) goes on waiting.
    """
    if not worker_ids:
        return 0
    return _wake_all(db, _HELD, clock | {"b_workers": list(worker_ids)}, clock)


def wake_forsaken(db: Database, *, clock: dict[str, Any]) -> int:
    """Make due what somebody had queued for himself alone (no `wake_at`: a run without a broker) and then ended."""
    return _wake_all(db, _FORSAKEN, {}, clock)


def wake_oldest(db: Database, count: int, *, clock: dict[str, Any]) -> int:
    """Make the oldest queued steps due at once: a dead worker may have held so many messages in its memory."""
    return _wake(db, _OLDEST, clock | {"b_limit": count}, clock)


def _wake_all(db: Database, which: Any, parameters: dict[str, Any], clock: dict[str, Any]) -> int:
    woken = 0
    while batch := _wake(db, which, parameters, clock):
        woken += batch
    return woken


def _wake(db: Database, which: Any, parameters: dict[str, Any], clock: dict[str, Any]) -> int:
    """Make these due now; reads before it writes."""
    with db.read() as conn:
        found = [tuple(row) for row in conn.execute(which, parameters)]
    if not found:
        return 0

    def work(conn: Connection) -> int:
        free = conn.execute(_LOCK_TO_WAKE, clock | {"b_keys": found}).all()
        keys = [clock | {"b_session": row.session_id, "b_step": row.step, "b_item": row.item} for row in free]
        if keys:
            conn.execute(_WAKE_NOW, keys)
        return len(keys)

    return db.transaction(work)
