"""Who is alive: worker rows, shared sweeps, orphans. Database time is compared with database time only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, null, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from celery_cascade.persistence.clock import after, now, seconds_between
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.gate import lock_unheld
from celery_cascade.persistence.rows import Orphan, StepKey, WorkerRow
from celery_cascade.persistence.tables import STEP_KEY, THIS_STEP, heads, queued, running, steps, sweeps, workers

_BEAT = update(workers).where(workers.c.id == bindparam("b_worker")).values(heartbeat_at=now(), stopped_at=null())
_STOP = (
    update(workers)
    .where(workers.c.id == bindparam("b_worker"), workers.c.stopped_at.is_(None))
    .values(stopped_at=now())
)


def add_worker(db: Database, worker: WorkerRow, *, clock: dict[str, Any]) -> None:
    """Write the row of a worker that begins."""
    values = {
        name: getattr(worker, name)
        for name in (
            "id",
            "nodename",
            "host",
            "pid",
            "boot_id",
            "pid_namespace",
            "process_started",
            "pool",
            "capacity",
            "tasks",
            "queues",
        )
    }
    statement = insert(workers).values(started_at=now(), heartbeat_at=now())
    try:
        db.transaction(lambda conn: conn.execute(statement, clock | values))
    except IntegrityError:  # an earlier try whose answer was lost
        beat(db, worker.id, clock=clock)


def beat(db: Database, worker_id: str, *, clock: dict[str, Any]) -> bool:
    """Say that this worker is alive; False if its row is gone (pruned while it was away)."""
    return db.transaction(lambda conn: conn.execute(_BEAT, clock | {"b_worker": worker_id}).rowcount) == 1


def stop_worker(db: Database, worker_id: str, *, clock: dict[str, Any]) -> bool:
    """Write down that a worker said goodbye or that its process is certainly gone; True the first time."""
    return db.transaction(lambda conn: conn.execute(_STOP, clock | {"b_worker": worker_id}).rowcount) == 1


def running_workers(db: Database, *, clock: dict[str, Any]) -> list[WorkerRow]:
    """Every worker that has not said goodbye, with how long it has been silent."""
    statement = select(workers, seconds_between(db.family, workers.c.heartbeat_at, now()).label("silent_for")).where(
        workers.c.stopped_at.is_(None)
    )
    with db.read() as conn:
        rows = conn.execute(statement, clock).all()
    return [
        WorkerRow(
            id=row.id,
            nodename=row.nodename,
            host=row.host,
            pid=row.pid,
            boot_id=row.boot_id,
            pid_namespace=row.pid_namespace,
            process_started=row.process_started,
            pool=row.pool,
            capacity=row.capacity,
            tasks=row.tasks,
            queues=row.queues,
            silent_for=float(row.silent_for or 0.0),
        )
        for row in rows
    ]


def begin_sweep(db: Database, name: str, interval: float, *, clock: dict[str, Any]) -> bool:
    """Whether this caller does the sweep now: nobody began it within `interval` seconds. Reads before it writes."""
    parameters = clock | {"b_name": name, "b_ago": -interval}
    due = or_(sweeps.c.began_at <= after("b_ago"), sweeps.c.began_at > now())
    with db.read() as conn:
        found = conn.execute(
            select(due.label("due")).where(sweeps.c.name == bindparam("b_name")), parameters
        ).one_or_none()
    if found is not None and not found.due:
        return False

    def work(conn: Connection) -> bool:
        if found is None:
            conn.execute(insert(sweeps).values(name=name, began_at=now()), clock)
            return True
        claimed = update(sweeps).where(sweeps.c.name == bindparam("b_name"), due).values(began_at=now())
        return conn.execute(claimed, parameters).rowcount == 1

    try:
        return db.transaction(work)
    except IntegrityError:  # another worker made the row in between, and does the sweep
        return False


def orphans(db: Database, *, silent_for: float | None, limit: int, clock: dict[str, Any]) -> list[Orphan]:
    """Running steps whose worker has said goodbye, is unknown, or (`silent_for`) has not been heard of for so long."""
    gone: list[ColumnElement[bool]] = [workers.c.id.is_(None), workers.c.stopped_at.is_not(None)]
    parameters = dict(clock)
    if silent_for is not None:
        gone.append(workers.c.heartbeat_at < after("b_silent"))
        parameters["b_silent"] = -silent_for
    joined = _orphan_select(or_(*gone)).limit(limit)
    with db.read() as conn:
        return [_orphan(row) for row in conn.execute(joined, parameters)]


def running_on(db: Database, worker_id: str) -> list[Orphan]:
    """Every step that this worker is said to run."""
    statement = _orphan_select(steps.c.worker == bindparam("b_worker"))
    with db.read() as conn:
        return [_orphan(row) for row in conn.execute(statement, {"b_worker": worker_id})]


def overdue(db: Database, *, limit: int, clock: dict[str, Any]) -> list[Orphan]:
    """Running steps whose deadline has passed."""
    statement = _orphan_select(and_(steps.c.deadline.is_not(None), steps.c.deadline <= now())).limit(limit)
    with db.read() as conn:
        return [_orphan(row) for row in conn.execute(statement, clock)]


def one_running(db: Database, key: StepKey, attempt: int) -> Orphan | None:
    """A step that runs, by key and attempt: what the main process knows of a child's work."""
    statement = _orphan_select(
        and_(
            steps.c.session_id == key.session_id,
            steps.c.step == key.step,
            steps.c.item == key.item,
            steps.c.attempt == attempt,
        )
    )
    with db.read() as conn:
        row = conn.execute(statement).one_or_none()
    return None if row is None else _orphan(row)


def _orphan_select(condition: ColumnElement[bool]) -> Any:
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
    )


#: Rows that one transaction wakes at most, so that claims do not wait long for it.
_WAKE_BATCH = 200
_WAKE_NOW = update(steps).where(THIS_STEP).values(wake_at=now())


def wake_queued_by(db: Database, worker_ids: Sequence[str], *, clock: dict[str, Any]) -> int:
    """Make due at once what these dead workers had queued: their messages may never have been sent.

    A step that waits for its retry (nothing was sent yet) goes on waiting.
    """
    if not worker_ids:
        return 0
    held = (
        select(*STEP_KEY)
        .where(steps.c.worker.in_(bindparam("b_workers", expanding=True)), steps.c.sends > 0, _LATER_IF_EVER)
        .limit(_WAKE_BATCH)
    )
    return _wake_all(db, held, clock | {"b_workers": list(worker_ids)}, clock)


def wake_forsaken(db: Database, *, clock: dict[str, Any]) -> int:
    """Make due what somebody had queued for himself alone (no `wake_at`: a run without a broker) and then ended."""
    forsaken = (
        select(*STEP_KEY)
        .select_from(steps.join(workers, workers.c.id == steps.c.worker))
        .where(queued(), steps.c.wake_at.is_(None), workers.c.stopped_at.is_not(None))
        .limit(_WAKE_BATCH)
    )
    return _wake_all(db, forsaken, {}, clock)


def wake_oldest(db: Database, count: int, *, clock: dict[str, Any]) -> int:
    """Make the oldest queued steps due at once: a dead worker may have held so many messages in its memory."""
    oldest = (
        select(*STEP_KEY)
        .where(queued(), steps.c.sends == 1, steps.c.wake_at > now())
        .order_by(steps.c.wake_at)
        .limit(count)
    )
    return _wake(db, oldest, clock, clock)


#: Queued, and not due yet.
_LATER_IF_EVER = and_(queued(), or_(steps.c.wake_at.is_(None), steps.c.wake_at > now()))
_LOCK_TO_WAKE = lock_unheld(*STEP_KEY).where(_LATER_IF_EVER)


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
