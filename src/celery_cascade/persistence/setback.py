"""Attempts that did not succeed: failures, retries, timeouts, crashes. Each is fenced by the token."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, func, insert, null, select, update

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import ClaimLost
from celery_cascade.persistence.clock import after, now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.gate import lock_head, lost
from celery_cascade.persistence.rows import Moved, Setback, StepKey
from celery_cascade.persistence.tables import THIS_HEAD, THIS_STEP, attempts, heads, steps, workers
from celery_cascade.states import Halt

_MINE = and_(THIS_STEP, steps.c.token == bindparam("b_token"), steps.c.status == "running")


def write_setback(db: Database, what: Setback, *, clock: dict[str, Any]) -> Moved:
    """Record an attempt that did not succeed, and either queue the next one or fail the step and its session.

    Raises:
        ClaimLost: the token is not the step's any more; nothing was written.
    """
    may_be_mine = not what.from_outside  # an earlier call of whoever ran it may have written it, and no answer came

    def work(conn: Connection) -> Moved:
        nonlocal may_be_mine
        moved = _write(conn, what, clock)
        may_be_mine = True
        return moved

    try:
        return db.transaction(work)
    except ClaimLost:
        if may_be_mine and _noted(db, what):
            return _head(db, what.key)
        raise


def _write(conn: Connection, what: Setback, clock: dict[str, Any]) -> Moved:
    head, _ = lock_head(conn, what.key.session_id)
    version = head.version + 1
    running = lock_running(conn, what.key, what.token, silent_for=what.silent_for, clock=clock)
    if running is None:
        raise lost(what.key)
    note_attempt(conn, what, running, version, clock)
    values: dict[str, Any] = {"version": version, "updated_at": now()}
    halt = head.halt
    if what.delay is None:
        _end(conn, what, version, clock)
        park_queued(conn, what.key.session_id, version)
        values |= {"open_steps": heads.c.open_steps - 1, "error": func.coalesce(heads.c.error, what.error)}
        if halt in (None, Halt.SUSPENDED):
            halt = Halt.FAILED.value
            values |= {"halt": halt, "status_reason": null()}
    else:
        _again(conn, what, version, parked=halt is not None, clock=clock)
    conn.execute(update(heads).where(THIS_HEAD).values(**values), clock | {"b_session": what.key.session_id})
    reached(CrashPoint.SETBACK_OPEN, what.key)
    return Moved(version=version, open_steps=head.open_steps - int(what.delay is None), halt=halt)


def _key(key: StepKey) -> dict[str, Any]:
    return {"b_session": key.session_id, "b_step": key.step, "b_item": key.item}


#: The gate of this module: the row stays locked, so that what follows cannot find it changed.
_LOCK_MINE = select(steps.c.attempt, steps.c.worker, steps.c.started_at).where(_MINE).with_for_update()
_NOTE = insert(attempts).values(finished_at=now())


def note_attempt(conn: Connection, what: Setback, running: Any, version: int, clock: dict[str, Any]) -> None:
    """The row of `step_attempts` for an attempt that ends here; the caller holds the step's lock."""
    values = {
        "session_id": what.key.session_id,
        "step": what.key.step,
        "item": what.key.item,
        "attempt": running.attempt,
        "kind": what.kind,
        "error": what.error,
        "traceback": what.traceback,
        "worker": running.worker,
        "started_at": running.started_at,
        "version": version,
        "ended_step": int(what.delay is None),
    }
    conn.execute(_NOTE, clock | values)


def lock_running(conn: Connection, key: StepKey, token: str, *, silent_for: float | None, clock: dict[str, Any]) -> Any:
    """Lock a running step that bears this token, to take it from its worker; None if it is not to be taken.

    Args:
        silent_for: judge by age: the worker must have been silent for so many seconds at this moment; None = it
            is certain that nobody runs the step.
    """
    parameters = _key(key) | {"b_token": token}
    if silent_for is None:
        return conn.execute(_LOCK_MINE, parameters).one_or_none()
    return conn.execute(_LOCK_SILENT, clock | parameters | {"b_silent": -silent_for}).one_or_none()


_LOCK_SILENT = _LOCK_MINE.where(
    ~exists().where(
        workers.c.id == steps.c.worker,
        workers.c.stopped_at.is_(None),
        workers.c.heartbeat_at >= after("b_silent"),
    )
)


#: The moment that its attempt has: when the step runs again, only that is left to tell when it had failed (R23).
_ITS_ATTEMPTS = (
    select(attempts.c.finished_at)
    .where(
        attempts.c.session_id == steps.c.session_id,
        attempts.c.step == steps.c.step,
        attempts.c.item == steps.c.item,
        attempts.c.attempt == steps.c.attempt,
    )
    .correlate(steps)
    .scalar_subquery()
)


def _end(conn: Connection, what: Setback, version: int, clock: dict[str, Any]) -> None:
    conn.execute(
        update(steps)
        .where(THIS_STEP)
        .values(
            status="failed",
            error=what.error,
            reason=null(),
            failures=steps.c.failures + what.failures,
            crashes=steps.c.crashes + int(what.kind == "crash"),
            finished_at=_ITS_ATTEMPTS,
            deadline=null(),
            version=version,
        ),
        clock | _key(what.key),
    )


def _again(conn: Connection, what: Setback, version: int, *, parked: bool, clock: dict[str, Any]) -> None:
    """Queue the next attempt, due in `delay`; without a delay its message is sent by the caller at once."""
    values: dict[str, Any] = {
        "status": "pending" if parked else "queued",
        "attempt": steps.c.attempt + 1,
        "failures": steps.c.failures + what.failures,
        "retries": steps.c.retries + what.retries,
        "crashes": steps.c.crashes + int(what.kind == "crash"),
        "worker": what.worker,
        "runner": null(),
        "deadline": null(),
        "reason": null(),
        "queued_at": now(),
        "version": version,
    }
    if what.call is not None:
        values["call"] = what.call
    parameters = clock | _key(what.key)
    at_once = not what.delay
    values["sends"] = int(at_once and not parked)
    wait = what.resend_after if at_once else what.delay
    values["wake_at"] = null() if wait is None or parked else after("b_wait")
    if wait is not None and not parked:
        parameters["b_wait"] = wait
    conn.execute(update(steps).where(THIS_STEP).values(**values), parameters)


_PARK = (
    update(steps)
    .where(steps.c.session_id == bindparam("b_session"), steps.c.status == "queued")
    .values(status="pending", wake_at=null(), sends=0, reason=null(), version=bindparam("b_version"))
)


def park_queued(conn: Connection, session_id: str, version: int) -> int:
    """Take back what is queued and not claimed; `resume` queues it again. Returns how many steps that were."""
    return int(conn.execute(_PARK, {"b_session": session_id, "b_version": version}).rowcount)


def _noted(db: Database, what: Setback) -> bool:
    """Whether a commit whose answer was lost went through: the row bears my token, and my attempt is on record.

    The token alone does not tell: it is still there when a recovery has released the step from me.
    """
    ended = what.delay is None
    statement = select(steps.c.status).where(
        THIS_STEP,
        steps.c.token == bindparam("b_token"),
        steps.c.status.in_(["failed"] if ended else ["queued", "pending"]),
        attempts.c.session_id == steps.c.session_id,
        attempts.c.step == steps.c.step,
        attempts.c.item == steps.c.item,
        attempts.c.attempt == steps.c.attempt - int(not ended),
        attempts.c.kind == what.kind,
    )
    with db.read() as conn:
        return conn.execute(statement, _key(what.key) | {"b_token": what.token}).first() is not None


_READ_HEAD = select(heads.c.version, heads.c.open_steps, heads.c.halt).where(THIS_HEAD)


def _head(db: Database, key: StepKey) -> Moved:
    with db.read() as conn:
        row = conn.execute(_READ_HEAD, {"b_session": key.session_id}).one()
    return Moved(version=row.version, open_steps=row.open_steps, halt=row.halt)


def release_orphan(
    db: Database,
    key: StepKey,
    token: str,
    *,
    error: str | None,
    delay: float,
    worker: str | None,
    resend_after: float | None,
    silent_for: float | None,
    crash: bool,
    clock: dict[str, Any],
) -> bool:
    """Take a running step from a worker that is dead and queue it again; touches no head (rule 4).

    Args:
        silent_for: judge by age, tested under the step's lock; None = it is certain that nobody runs the step.
        crash: whether it counts against `cascade_max_crashes`.

    Returns False when there was nothing to release: another recovery was first, the step has ended, the worker
    beats again, or the session halts.
    """
    what = Setback(
        key=key,
        token=token,
        kind="crash" if crash else "requeue",
        delay=delay,
        error=error,
        worker=worker,
        resend_after=resend_after,
    )

    def work(conn: Connection) -> bool:
        running = lock_running(conn, key, token, silent_for=silent_for, clock=clock)
        if running is None:
            return False
        # Read after the lock and without one of its own. A halt that commits later than this look finds the step
        # queued and parks it when it settles.
        head = conn.execute(_READ_HEAD, {"b_session": key.session_id}).one_or_none()
        if head is None or head.halt is not None:
            return False
        note_attempt(conn, what, running, head.version, clock)
        _again(conn, what, head.version, parked=False, clock=clock)
        reached(CrashPoint.RELEASE_OPEN, key)
        return True

    return db.transaction(work)
