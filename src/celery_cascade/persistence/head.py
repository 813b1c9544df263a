"""The head of a session: asked to halt, brought to its end, brought back. Each locks the head first (rule 4)."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, null, select, update

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import SessionConflict
from celery_cascade.persistence.clock import after, now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.doubts import ANSWERED, refuse_doubts
from celery_cascade.persistence.inheriting import inherit_late
from celery_cascade.persistence.notes import ENGINE, Note, note, note_completion
from celery_cascade.persistence.rows import QueuedStep, Setback, StepKey
from celery_cascade.persistence.setback import lock_running, note_attempt, park_queued
from celery_cascade.persistence.tables import THIS_HEAD, THIS_STEP, actions, heads, steps
from celery_cascade.persistence.threads import keep_thread, refuse_before_its_turn
from celery_cascade.persistence.views import not_found_on
from celery_cascade.states import FINAL_SESSION, Halt, SessionStatus, SuspendReason, stronger, waits_its_turn

_LOCK = (
    select(heads.c.status, heads.c.status_reason, heads.c.halt, heads.c.version, heads.c.open_steps, heads.c.started_at)
    .where(THIS_HEAD)
    .with_for_update()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What an operator did, or the engine in nobody's name, for `session_actions`."""

    action: str
    actor: str | None = None
    reason: str | None = None
    detail: str | None = None


_ENGINE_ASKS = {
    Halt.SUSPENDED: "suspend",
    Halt.FAILED: "fail",
    Halt.CANCELLED: "cancel",
    Halt.EXPIRED: "expire",
}


def lock(db: Database, conn: Connection, session_id: str) -> Any:
    """Lock a session's head (rule 4: always first). Raises SessionNotFound."""
    row = conn.execute(_LOCK, {"b_session": session_id}).one_or_none()
    if row is None:
        raise not_found_on(conn, db, session_id)
    return row


def move(conn: Connection, session_id: str, head: Any, clock: dict[str, Any], **values: Any) -> int:
    """Change a locked head; returns its new version."""
    version: int = head.version + 1
    parameters = clock | {"b_session": session_id}
    conn.execute(update(heads).where(THIS_HEAD).values(version=version, updated_at=now(), **values), parameters)
    return version


def record(
    conn: Connection,
    session_id: str,
    action: Action | None,
    version: int,
    clock: dict[str, Any],
    *,
    nonce: str | None = None,
) -> None:
    """Write down what an operator did; `nonce` is the row's id, by which a later try knows its own."""
    if action is None:
        return
    conn.execute(
        insert(actions).values(done_at=now()),
        clock
        | {
            "id": nonce or str(uuid.uuid4()),
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

    Returns the status found; a final one was left as it is. The caller settles afterwards. Without an action it is the
    engine that asks; that is written down, too, or no row would bear the version (R23).
    """

    def work(conn: Connection) -> SessionStatus:
        head = lock(db, conn, session_id)
        status = SessionStatus(head.status)
        ends = halt in (Halt.CANCELLED, Halt.EXPIRED)
        if (status is not SessionStatus.ACTIVE and not ends) or status in FINAL_SESSION - {SessionStatus.FAILED}:
            return status
        if status is SessionStatus.FAILED and halt is Halt.EXPIRED:
            return status
        values: dict[str, Any] = {}
        asked = Halt(head.halt) if head.halt else None
        if stronger(halt, reason, asked, head.status_reason):
            values = {"halt": halt.value, "status_reason": reason}
        parked = park_queued(conn, session_id, head.version + 1)
        if values or parked or action is not None:
            asks = action or Action(action=_ENGINE_ASKS[halt], actor=ENGINE, reason=reason)
            record(conn, session_id, asks, move(conn, session_id, head, clock, **values), clock)
        reached(CrashPoint.HALT_OPEN)
        return status

    return db.transaction(work)


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
        head = lock(db, conn, session_id)
        if head.halt in (None, Halt.SUSPENDED) and head.open_steps == 0:
            return _complete(conn, session_id, head, output, error, clock)
        if head.halt is None:
            return None
        if _park_all(conn, session_id, head.version):
            return None
        return _end_halted(conn, session_id, head, clock)

    return db.transaction(work)


def _park_all(conn: Connection, session_id: str, version: int) -> bool:
    """Take back what is queued; whether a step runs.

    A recovery that had not seen the halt may queue a step again, for it locks no head. So what counts is a look
    that finds nothing queued: from then on only a running step can change without the head's lock. As that queueing
    made no version, neither does its end: the next change of the step would leave no row that bears it (R23).
    """
    while True:
        park_queued(conn, session_id, version)
        busy = set(conn.execute(_BUSY, {"b_session": session_id}).scalars())
        if "queued" not in busy:
            return bool(busy)


def _complete(
    conn: Connection, session_id: str, head: Any, output: str | None, error: str | None, clock: dict[str, Any]
) -> SessionStatus | None:
    if head.status != SessionStatus.ACTIVE or (output is None and error is None):
        return None  # without an output: the last step ended after the caller had looked
    end = SessionStatus.COMPLETED if error is None else SessionStatus.FAILED
    values = {"status": end.value, "halt": null(), "status_reason": null(), "output": output, "error": error}
    version = move(conn, session_id, head, clock, **values, finished_at=now())
    if error is not None:
        note(conn, session_id, Note.FAILED, version, clock, detail=error, at_its_end=True)
    reached(CrashPoint.END_OPEN)
    return end


def _end_halted(conn: Connection, session_id: str, head: Any, clock: dict[str, Any]) -> SessionStatus:
    halt = Halt(head.halt)
    end = SessionStatus(halt.value)
    values: dict[str, Any] = {"status": end.value, "halt": null()}
    if halt in (Halt.CANCELLED, Halt.EXPIRED):
        conn.execute(_CANCEL_STEPS, clock | {"b_session": session_id, "b_version": head.version + 1})
        values["open_steps"] = 0
    ended = end in FINAL_SESSION
    if ended:
        values["finished_at"] = now()
    version = move(conn, session_id, head, clock, **values)
    note(conn, session_id, Note(end.value), version, clock, reason=head.status_reason, at_its_end=ended)
    reached(CrashPoint.END_OPEN)
    return end


_QUEUED = (
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
    its_turn: bool = False,
    clock: dict[str, Any],
) -> tuple[SessionStatus, list[QueuedStep]]:
    """Set a suspended or failed session going again: parked and failed steps are queued.

    One that waits for its turn begins, with the context of the session that it continues.

    Args:
        its_turn: only if it waits for its turn; any other is a conflict.

    Returns the status found and the steps whose messages are to be sent (none unless it was suspended or failed).

    Raises:
        NotResumable: one of its steps is in doubt; see `answer`.
        SessionConflict: it waits for an earlier session of its thread; or that goes on in another one.
    """

    def work(conn: Connection) -> tuple[SessionStatus, list[QueuedStep]]:
        head = lock(db, conn, session_id)
        status = SessionStatus(head.status)
        waits = waits_its_turn(head.status, head.status_reason, head.started_at)
        if its_turn and (not waits or head.halt is not None):
            raise SessionConflict(
                f"session {session_id} is {status.value}; it does not wait for its turn",
                hint=f"Look: cascade show {session_id}",
            )
        if head.halt in (Halt.CANCELLED, Halt.EXPIRED):
            return SessionStatus(head.halt), []  # asked for, and not to be called off by a resume
        halting = status is SessionStatus.ACTIVE and head.halt is not None
        if status not in (SessionStatus.SUSPENDED, SessionStatus.FAILED) and not halting:
            return status, []
        refuse_doubts(conn, session_id)
        begins: dict[str, Any] = {"started_at": now()} if waits else {}
        if waits:
            refuse_before_its_turn(conn, session_id)
        version, queued = set_going(
            conn, session_id, head, worker=worker, resend_after=resend_after, clock=clock, **begins
        )
        if waits:
            inherit_late(conn, session_id, version, clock)
        if action is None:
            note(conn, session_id, Note.RESUMED, version, clock)
        record(conn, session_id, action, version, clock)
        reached(CrashPoint.REVIVE_OPEN)
        return status, queued

    return db.transaction(work)


def set_going(
    conn: Connection,
    session_id: str,
    head: Any,
    *,
    worker: str | None,
    resend_after: float | None,
    closed: int = 0,
    clock: dict[str, Any],
    **values: Any,
) -> tuple[int, list[QueuedStep]]:
    """Queue what is parked and what has failed, and make the session active; its head is locked.

    Args:
        closed: how many steps the caller has ended in this transaction.
        values: what else changes in the head.

    Returns its new version and the steps whose messages are to be sent.
    """
    keep_thread(conn, session_id, clock)
    queue, parameters = _requeue(resend_after)
    parameters |= clock | {"b_session": session_id, "b_worker": worker, "b_version": head.version + 1}
    again = int(conn.execute(_FAILED.values(**queue, **_FRESH), parameters).rowcount)
    conn.execute(_PARKED.values(**queue), parameters)
    version = move(
        conn,
        session_id,
        head,
        clock,
        status="active",
        status_reason=null(),
        halt=null(),
        error=null(),
        finished_at=null(),
        open_steps=heads.c.open_steps + (again - closed),
        **values,
    )
    return version, queued_in(conn, session_id)


def queued_in(conn: Connection, session_id: str, version: int | None = None) -> list[QueuedStep]:
    """The queued steps of a session; with `version` those that this change of it has queued."""
    statement = _QUEUED if version is None else _QUEUED.where(steps.c.version == version)
    return [
        QueuedStep(
            key=StepKey(session_id, row.step, row.item),
            task=row.task,
            attempt=row.attempt,
            epoch=row.epoch,
            retries=row.retries,
        )
        for row in conn.execute(statement, {"b_session": session_id})
    ]


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
}


def _requeue(resend_after: float | None) -> tuple[dict[str, Any], dict[str, Any]]:
    values = {
        "status": "queued",
        "sends": 1,
        "queued_at": now(),
        "crashes": 0,
        "reason": null(),
        "error": null(),
        "worker": bindparam("b_worker"),
        "version": bindparam("b_version"),
    }
    if resend_after is None:
        return values | {"wake_at": null()}, {}
    return values | {"wake_at": after("b_resend")}, {"b_resend": resend_after}


_PINNED = select(heads.c.pinned, heads.c.version, heads.c.status).where(THIS_HEAD).with_for_update()


def pin_session(db: Database, session_id: str, pinned: bool, action: Action | None, *, clock: dict[str, Any]) -> bool:
    """Keep a session from being pruned, or no longer; False if it was so already. Raises SessionNotFound."""

    def work(conn: Connection) -> bool:
        head = conn.execute(_PINNED, {"b_session": session_id}).one_or_none()
        if head is None:
            raise not_found_on(conn, db, session_id)
        if bool(head.pinned) == pinned:
            return False
        note_completion(conn, session_id, head, clock)
        asks = action or Action(action="keep" if pinned else "unkeep", actor=ENGINE)
        record(conn, session_id, asks, move(conn, session_id, head, clock, pinned=int(pinned)), clock)
        return True

    return db.transaction(work)


_PARK_ORPHAN = (
    update(steps)
    .where(THIS_STEP)
    .values(
        status="pending",
        attempt=steps.c.attempt + 1,
        crashes=steps.c.crashes + bindparam("b_crashes"),
        reason=bindparam("b_reason"),
        error=bindparam("b_error"),
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

    With a reason that an operator has to lift, the step bears it as well, and what happened, until it is answered.
    Returns False when another recovery was first, or (`silent_for`) the worker beats again. The caller settles
    afterwards.
    """
    doubt = reason is not None and reason.value in ANSWERED
    kind = "crash" if crash or doubt else "requeue"
    what = Setback(key=key, token=token, kind=kind, delay=0.0, error=error)

    def work(conn: Connection) -> bool:
        head = lock(db, conn, key.session_id)
        if reason is None and head.halt is None:
            return False  # a resume has called the halt off since the caller looked: parked, the step would stay so
        running = lock_running(conn, key, token, silent_for=silent_for, clock=clock)
        if running is None:
            return False
        version = head.version + 1
        note_attempt(conn, what, running, version, clock)
        this_step = {"b_session": key.session_id, "b_step": key.step, "b_item": key.item}
        told = {"b_reason": reason.value if doubt and reason else None, "b_error": error if doubt else None}
        conn.execute(_PARK_ORPHAN, this_step | told | {"b_version": version, "b_crashes": int(crash)})
        values: dict[str, Any] = {}
        if reason is not None:
            asked = Halt(head.halt) if head.halt else None
            if stronger(Halt.SUSPENDED, reason, asked, head.status_reason):
                values = {"halt": Halt.SUSPENDED.value, "status_reason": reason.value}
            if asked is None and error is not None:
                values["error"] = error
            park_queued(conn, key.session_id, version)
        move(conn, key.session_id, head, clock, **values)
        if reason is not None:
            of_step = json.dumps({"step": key.step, "item": key.item, "crash": crash})
            note(conn, key.session_id, Note.PARKED, version, clock, reason=reason.value, detail=of_step)
        reached(CrashPoint.PARK_OPEN, key)
        return True

    return db.transaction(work)
