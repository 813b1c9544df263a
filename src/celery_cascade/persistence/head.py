"""The head of a session: asked to halt, brought to its end, brought back. Each locks the head first (rule 4)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, null, select, update

from celery_cascade.persistence.clock import after, now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import QueuedStep, Setback, StepKey
from celery_cascade.persistence.setback import lock_running, note_attempt, park_queued
from celery_cascade.persistence.tables import THIS_HEAD, THIS_STEP, actions, heads, steps
from celery_cascade.persistence.threads import keep_thread
from celery_cascade.persistence.views import not_found_on
from celery_cascade.states import FINAL_SESSION, Halt, SessionStatus, SuspendReason

_LOCK = (
    select(heads.c.status, heads.c.status_reason, heads.c.halt, heads.c.version, heads.c.open_steps)
    .where(THIS_HEAD)
    .with_for_update()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What an operator did, for `session_actions`."""

    action: str
    actor: str | None = None
    reason: str | None = None
    detail: str | None = None


def _lock(db: Database, conn: Connection, session_id: str) -> Any:
    row = conn.execute(_LOCK, {"b_session": session_id}).one_or_none()
    if row is None:
        raise not_found_on(conn, db, session_id)
    return row


def _move(conn: Connection, session_id: str, head: Any, clock: dict[str, Any], **values: Any) -> int:
    version: int = head.version + 1
    parameters = clock | {"b_session": session_id}
    conn.execute(update(heads).where(THIS_HEAD).values(version=version, updated_at=now(), **values), parameters)
    return version


def _record(conn: Connection, session_id: str, action: Action | None, version: int, clock: dict[str, Any]) -> None:
    if action is None:
        return
    conn.execute(
        insert(actions).values(done_at=now()),
        clock
        | {
            "id": str(uuid.uuid4()),
            "session_id": session_id,
            "action": action.action,
            "actor": action.actor,
            "reason": action.reason,
            "detail": action.detail,
            "version": version,
        },
    )


def halt_session(
    db: Database, session_id: str, halt: Halt, reason: str | None, action: Action | None, *, clock: dict[str, Any]
) -> SessionStatus:
    """Ask a session to end or to suspend: what is queued is taken back, what runs still ends.

    Returns the status found; a final one was left as it is. The caller settles afterwards.
    """

    def work(conn: Connection) -> SessionStatus:
        head = _lock(db, conn, session_id)
        status = SessionStatus(head.status)
        ends = halt in (Halt.CANCELLED, Halt.EXPIRED)
        if (status is not SessionStatus.ACTIVE and not ends) or status in FINAL_SESSION - {SessionStatus.FAILED}:
            return status
        if status is SessionStatus.FAILED and halt is Halt.EXPIRED:
            return status
        values: dict[str, Any] = {}
        asked = Halt(head.halt) if head.halt else None
        if asked is None or _stronger(halt, reason, asked, head.status_reason):
            values = {"halt": halt.value, "status_reason": reason}
        parked = park_queued(conn, session_id, head.version + 1)
        if values or parked or action is not None:
            _record(conn, session_id, action, _move(conn, session_id, head, clock, **values), clock)
        return status

    return db.transaction(work)


def _stronger(halt: Halt, reason: str | None, asked: Halt, asked_reason: str | None) -> bool:
    if halt is Halt.SUSPENDED and asked is Halt.SUSPENDED:
        order = [str(member) for member in SuspendReason]
        return reason in order and (asked_reason not in order or order.index(reason) < order.index(asked_reason))
    return halt.rank > asked.rank


_UNSTARTED = and_(steps.c.session_id == bindparam("b_session"), steps.c.status.in_(["pending", "queued", "waiting"]))
_BUSY = (
    select(steps.c.status)
    .where(steps.c.session_id == bindparam("b_session"), steps.c.status.in_(["queued", "running"]))
    .distinct()
)
_CANCEL_STEPS = (
    update(steps)
    .where(_UNSTARTED)
    .values(status="cancelled", finished_at=now(), wake_at=null(), deadline=null(), version=bindparam("b_version"))
)


def settle_session(
    db: Database, session_id: str, *, output: str | None, error: str | None, clock: dict[str, Any]
) -> SessionStatus | None:
    """Bring a session to where its halt or its last checkpoint leads, once nothing of it runs any more.

    Args:
        output: the session's output, in case every step has ended; a session is not completed without it.
        error: why there is no output although every step has ended (its template fails).

    Returns the status it now has, or None if there was nothing to settle.
    """

    def work(conn: Connection) -> SessionStatus | None:
        head = _lock(db, conn, session_id)
        if head.halt in (None, Halt.SUSPENDED) and head.open_steps == 0:
            return _complete(conn, session_id, head, output, error, clock)
        if head.halt is None:
            return None
        parked, busy = _park_all(conn, session_id, head.version + 1)
        if busy:
            if parked:
                _move(conn, session_id, head, clock)
            return None
        return _end_halted(conn, session_id, head, clock)

    return db.transaction(work)


def _park_all(conn: Connection, session_id: str, version: int) -> tuple[int, bool]:
    """Take back what is queued; how many, and whether a step runs.

    A recovery that had not seen the halt may queue a step again, for it locks no head. So what counts is a look
    that finds nothing queued: from then on only a running step can change without the head's lock.
    """
    parked = 0
    while True:
        parked += park_queued(conn, session_id, version)
        busy = set(conn.execute(_BUSY, {"b_session": session_id}).scalars())
        if "queued" not in busy:
            return parked, bool(busy)


def _complete(
    conn: Connection, session_id: str, head: Any, output: str | None, error: str | None, clock: dict[str, Any]
) -> SessionStatus | None:
    if head.status != SessionStatus.ACTIVE or (output is None and error is None):
        return None  # without an output: the last step ended after the caller had looked
    end = SessionStatus.COMPLETED if error is None else SessionStatus.FAILED
    values = {"status": end.value, "halt": null(), "status_reason": null(), "output": output, "error": error}
    _move(conn, session_id, head, clock, **values, finished_at=now())
    return end


def _end_halted(conn: Connection, session_id: str, head: Any, clock: dict[str, Any]) -> SessionStatus:
    halt = Halt(head.halt)
    end = SessionStatus(halt.value)
    values: dict[str, Any] = {"status": end.value, "halt": null()}
    if halt in (Halt.CANCELLED, Halt.EXPIRED):
        conn.execute(_CANCEL_STEPS, clock | {"b_session": session_id, "b_version": head.version + 1})
        values["open_steps"] = 0
    if end in FINAL_SESSION:
        values["finished_at"] = now()
    _move(conn, session_id, head, clock, **values)
    return end


_REVIVED = (
    select(steps.c.step, steps.c.item, steps.c.attempt, steps.c.epoch, steps.c.retries, steps.c.task)
    .where(steps.c.session_id == bindparam("b_session"), steps.c.status == "queued")
    .order_by(steps.c.step, steps.c.item)
)


def revive_session(
    db: Database,
    session_id: str,
    action: Action | None,
    *,
    worker: str | None,
    resend_after: float | None,
    clock: dict[str, Any],
) -> tuple[SessionStatus, list[QueuedStep]]:
    """Set a suspended or failed session going again: parked and failed steps are queued.

    Returns the status found and the steps whose messages are to be sent (none unless it was suspended or failed).
    """

    def work(conn: Connection) -> tuple[SessionStatus, list[QueuedStep]]:
        head = _lock(db, conn, session_id)
        status = SessionStatus(head.status)
        if head.halt in (Halt.CANCELLED, Halt.EXPIRED):
            return SessionStatus(head.halt), []  # asked for, and not to be called off by a resume
        halting = status is SessionStatus.ACTIVE and head.halt is not None
        if status not in (SessionStatus.SUSPENDED, SessionStatus.FAILED) and not halting:
            return status, []
        keep_thread(conn, session_id, clock)
        values, parameters = _requeue(resend_after)
        parameters |= clock | {"b_session": session_id, "b_worker": worker, "b_version": head.version + 1}
        again = int(conn.execute(_FAILED.values(**values, **_FRESH), parameters).rowcount)
        conn.execute(_PARKED.values(**values), parameters)
        version = _move(
            conn,
            session_id,
            head,
            clock,
            status="active",
            status_reason=null(),
            halt=null(),
            error=null(),
            finished_at=null(),
            open_steps=heads.c.open_steps + again,
        )
        _record(conn, session_id, action, version, clock)
        rows = conn.execute(_REVIVED, {"b_session": session_id}).all()
        return status, [
            QueuedStep(
                key=StepKey(session_id, row.step, row.item),
                task=row.task,
                attempt=row.attempt,
                epoch=row.epoch,
                retries=row.retries,
            )
            for row in rows
        ]

    return db.transaction(work)


_FAILED = update(steps).where(steps.c.session_id == bindparam("b_session"), steps.c.status == "failed")
_PARKED = update(steps).where(
    steps.c.session_id == bindparam("b_session"), steps.c.status == "pending", steps.c.needs_left == 0
)
#: A failed step begins anew: a whole budget of failures, and another task id (`epoch`).
_FRESH = {
    "attempt": steps.c.attempt + 1,
    "epoch": steps.c.epoch + 1,
    "failures": 0,
    "retries": 0,
    "finished_at": null(),
    "error": null(),
}


def _requeue(resend_after: float | None) -> tuple[dict[str, Any], dict[str, Any]]:
    values = {
        "status": "queued",
        "sends": 1,
        "queued_at": now(),
        "crashes": 0,
        "worker": bindparam("b_worker"),
        "version": bindparam("b_version"),
    }
    if resend_after is None:
        return values | {"wake_at": null()}, {}
    return values | {"wake_at": after("b_resend")}, {"b_resend": resend_after}


_PINNED = select(heads.c.pinned, heads.c.version).where(THIS_HEAD).with_for_update()


def pin_session(db: Database, session_id: str, pinned: bool, action: Action | None, *, clock: dict[str, Any]) -> bool:
    """Keep a session from being pruned, or no longer; False if it was so already. Raises SessionNotFound."""

    def work(conn: Connection) -> bool:
        head = conn.execute(_PINNED, {"b_session": session_id}).one_or_none()
        if head is None:
            raise not_found_on(conn, db, session_id)
        if bool(head.pinned) == pinned:
            return False
        _record(conn, session_id, action, _move(conn, session_id, head, clock, pinned=int(pinned)), clock)
        return True

    return db.transaction(work)


_PARK_ORPHAN = (
    update(steps)
    .where(THIS_STEP)
    .values(
        status="pending",
        attempt=steps.c.attempt + 1,
        crashes=steps.c.crashes + bindparam("b_crashes"),
        runner=null(),
        deadline=null(),
        wake_at=null(),
        sends=0,
        version=bindparam("b_version"),
    )
)


def park_orphan(
    db: Database,
    key: StepKey,
    token: str,
    *,
    reason: SuspendReason | None,
    error: str | None,
    silent_for: float | None,
    crash: bool,
    clock: dict[str, Any],
) -> bool:
    """Take a running step from a dead worker without queueing it: its session halts already, or must (`reason`).

    Returns False when another recovery was first, or (`silent_for`) the worker beats again. The caller settles
    afterwards.
    """
    what = Setback(key=key, token=token, kind="crash" if crash else "requeue", delay=0.0, error=error)

    def work(conn: Connection) -> bool:
        head = _lock(db, conn, key.session_id)
        if reason is None and head.halt is None:
            return False  # a resume has called the halt off since the caller looked: parked, the step would stay so
        running = lock_running(conn, key, token, silent_for=silent_for, clock=clock)
        if running is None:
            return False
        version = head.version + 1
        note_attempt(conn, what, running, version, clock)
        this_step = {"b_session": key.session_id, "b_step": key.step, "b_item": key.item}
        conn.execute(_PARK_ORPHAN, this_step | {"b_version": version, "b_crashes": int(crash)})
        values: dict[str, Any] = {}
        if reason is not None:
            asked = Halt(head.halt) if head.halt else None
            if asked is None or _stronger(Halt.SUSPENDED, reason, asked, head.status_reason):
                values = {"halt": Halt.SUSPENDED.value, "status_reason": reason.value}
            if asked is None and error is not None:
                values["error"] = error
            park_queued(conn, key.session_id, version)
        _move(conn, key.session_id, head, clock, **values)
        return True

    return db.transaction(work)
