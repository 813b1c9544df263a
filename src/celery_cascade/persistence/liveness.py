"""Who is alive: worker rows and shared sweeps. Database time is compared with database time only."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, insert, null, or_, select, update
from sqlalchemy.exc import IntegrityError

from celery_cascade.persistence.clock import after, now, seconds_between
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import WorkerRow
from celery_cascade.persistence.tables import sweeps, workers

_BEAT = update(workers).where(workers.c.id == bindparam("b_worker")).values(heartbeat_at=now(), stopped_at=null())
_STOP = (
    update(workers)
    .where(workers.c.id == bindparam("b_worker"), workers.c.stopped_at.is_(None))
    .values(stopped_at=now())
)
_ADD = insert(workers).values(started_at=now(), heartbeat_at=now())
_THIS_SWEEP = sweeps.c.name == bindparam("b_name")
_DUE = or_(sweeps.c.began_at <= after("b_ago"), sweeps.c.began_at > now())
_IS_DUE = select(_DUE.label("due")).where(_THIS_SWEEP)
_FIRST_SWEEP = insert(sweeps).values(name=bindparam("b_name"), began_at=now())
_BEGIN_SWEEP = update(sweeps).where(_THIS_SWEEP, _DUE).values(began_at=now())


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
    try:
        db.transaction(lambda conn: conn.execute(_ADD, clock | values))
    except IntegrityError:  # an earlier try whose answer was lost
        beat(db, worker.id, clock=clock)


def beat(db: Database, worker_id: str, *, clock: dict[str, Any]) -> bool:
    """Say that this worker is alive; False if its row is gone (pruned while it was away)."""
    return db.transaction(lambda conn: conn.execute(_BEAT, clock | {"b_worker": worker_id}).rowcount) == 1


def stop_worker(db: Database, worker_id: str, *, clock: dict[str, Any]) -> bool:
    """Write down that a worker said goodbye or that its process is certainly gone; True the first time."""
    return db.transaction(lambda conn: conn.execute(_STOP, clock | {"b_worker": worker_id}).rowcount) == 1


@cache
def _running(family: str) -> Any:
    silent_for = seconds_between(family, workers.c.heartbeat_at, now())
    return select(workers, silent_for.label("silent_for")).where(workers.c.stopped_at.is_(None))


def running_workers(db: Database, *, clock: dict[str, Any]) -> list[WorkerRow]:
    """Every worker that has not said goodbye, with how long it has been silent."""
    with db.read() as conn:
        rows = conn.execute(_running(db.family), clock).all()
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
    with db.read() as conn:
        found = conn.execute(_IS_DUE, parameters).one_or_none()
    if found is not None and not found.due:
        return False

    def work(conn: Connection) -> bool:
        if found is None:
            conn.execute(_FIRST_SWEEP, clock | {"b_name": name})
            return True
        return conn.execute(_BEGIN_SWEEP, parameters).rowcount == 1

    try:
        return db.transaction(work)
    except IntegrityError:  # another worker made the row in between, and does the sweep
        return False
