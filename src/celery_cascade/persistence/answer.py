"""An operator's answer for a step that is in doubt or poisoned: its end or its next attempt, in one transaction.

What follows is written as a checkpoint would, but parked; the last answer then sets all that is parked going.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, bindparam, null, select, update

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import CascadeError, NotResumable, SessionConflict
from celery_cascade.persistence.checkpoint import follow_parked
from celery_cascade.persistence.clock import now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.doubts import ANSWERED, WAITING, waiting
from celery_cascade.persistence.head import Action, lock, move, queued_in, record, set_going
from celery_cascade.persistence.rows import Answer, Answered, Checkpoint
from celery_cascade.persistence.tables import THIS_STEP, actions, heads, steps
from celery_cascade.states import Halt, SessionStatus

_NEVER_AGAIN = frozenset({SessionStatus.COMPLETED, SessionStatus.CANCELLED, SessionStatus.EXPIRED})


def answer_step(
    db: Database,
    answer: Answer,
    action: Action,
    *,
    worker: str | None,
    resend_after: float | None,
    clock: dict[str, Any],
) -> Answered:
    """End a step that waits for an answer, or let it run again; with the last answer its session goes on.

    Raises:
        SessionConflict: it does not wait for this answer (any more): somebody else was first.
        NotResumable: its session has ended for good.
        SessionNotFound: no such session.
    """
    session_id = answer.key.session_id

    def work(conn: Connection) -> Answered:
        head = lock(db, conn, session_id)
        before = conn.execute(_MINE, {"b_nonce": answer.nonce}).scalar()
        if before is not None:  # an earlier try, whose commit's answer was lost
            left = tuple(row.step for row in waiting(conn, session_id))
            return Answered(version=head.version, queued=queued_in(conn, session_id, before), left=left)
        _refuse_unless_waiting(conn, answer, head)
        version = head.version + 1
        values = _run_again(conn, answer, version) if answer.done is None else _end(conn, answer.done, version, clock)
        answered = _go_on(conn, answer, head, values, worker=worker, resend_after=resend_after, clock=clock)
        record(conn, session_id, action, version, clock, nonce=answer.nonce)
        reached(CrashPoint.REVIVE_OPEN, answer.key)
        return answered

    return db.transaction(work)


_MINE = select(actions.c.version).where(actions.c.id == bindparam("b_nonce"))
_GATE = select(steps.c.attempt).where(THIS_STEP, WAITING, steps.c.attempt == bindparam("b_attempt")).with_for_update()
_EARLIER = (
    select(actions.c.detail, actions.c.actor)
    .where(actions.c.session_id == bindparam("b_session"), actions.c.action == "resume", actions.c.detail.is_not(None))
    .order_by(actions.c.version.desc())
)


def _this(answer: Answer) -> dict[str, Any]:
    return {"b_session": answer.key.session_id, "b_step": answer.key.step, "b_item": answer.key.item}


def _refuse_unless_waiting(conn: Connection, answer: Answer, head: Any) -> None:
    ends = head.halt in (Halt.CANCELLED, Halt.EXPIRED)
    if not ends and conn.execute(_GATE, _this(answer) | {"b_attempt": answer.attempt}).first() is not None:
        return
    raise _refusal(conn, answer, str(head.halt if ends else head.status))


def _refusal(conn: Connection, answer: Answer, status: str) -> CascadeError:
    session_id, step = answer.key.session_id, answer.key.step
    look = f"Look: cascade show {session_id}"
    for row in conn.execute(_EARLIER, {"b_session": session_id}):
        said = json.loads(row.detail)
        if said.get("step") == step and said.get("attempt") == answer.attempt - 1:
            who = f" by {row.actor}" if row.actor else ""
            return SessionConflict(
                f"session {session_id}: step {step!r} was answered already{who}: {said.get('answer')}", hint=look
            )
    if status in _NEVER_AGAIN:
        return NotResumable(f"session {session_id} is {status}; there is nothing to answer", hint=look)
    return SessionConflict(f"session {session_id}: step {step!r} does not wait for an answer", hint=look)


_AGAIN = update(steps).where(THIS_STEP).values(reason=null(), error=null(), crashes=0, version=bindparam("b_version"))
#: The attempt that was parked is the one that the answer is about; the token keeps its late worker out.
_END = (
    update(steps)
    .where(THIS_STEP)
    .values(
        status=bindparam("b_status"),
        output=bindparam("b_output"),
        reason=bindparam("b_reason"),
        error=null(),
        token=bindparam("b_token"),
        attempt=steps.c.attempt - 1,
        finished_at=now(),
        version=bindparam("b_version"),
    )
)


def _run_again(conn: Connection, answer: Answer, version: int) -> dict[str, Any]:
    """Parked as any other step from now on."""
    conn.execute(_AGAIN, _this(answer) | {"b_version": version})
    return {}


def _end(conn: Connection, done: Checkpoint, version: int, clock: dict[str, Any]) -> dict[str, Any]:
    """The step's end and what follows; returns what that changes in the head."""
    parameters = clock | {
        "b_session": done.key.session_id,
        "b_step": done.key.step,
        "b_item": done.key.item,
        "b_status": done.status,
        "b_output": done.output,
        "b_reason": done.reason,
        "b_token": done.token,
        "b_version": version,
    }
    conn.execute(_END, parameters)
    follow_parked(conn, done, version, clock)
    return {"current_step": heads.c.current_step + int(done.status == "succeeded"), "current_phase": done.phase}


def _go_on(
    conn: Connection,
    answer: Answer,
    head: Any,
    values: dict[str, Any],
    *,
    worker: str | None,
    resend_after: float | None,
    clock: dict[str, Any],
) -> Answered:
    """With the last answer the session goes on; until then it waits, for what is left."""
    session_id = answer.key.session_id
    closed = 0 if answer.done is None else answer.done.closed
    left = waiting(conn, session_id)
    if not left:
        version, queued = set_going(
            conn, session_id, head, worker=worker, resend_after=resend_after, closed=closed, clock=clock, **values
        )
        return Answered(version=version, queued=queued)
    values["open_steps"] = heads.c.open_steps - closed
    if head.status_reason in ANSWERED:
        strongest = min(left, key=lambda row: ANSWERED.index(row.reason))
        values |= {"status_reason": strongest.reason, "error": strongest.error}
    version = move(conn, session_id, head, clock, **values)
    return Answered(version=version, left=tuple(row.step for row in left))
