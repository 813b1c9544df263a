"""The checkpoint: a step's output, the arrivals at its successors and the head, in one transaction (rule 3).

PostgreSQL does it in one statement (`checkpoint_postgresql`); elsewhere it is this transaction of at most four
statements for a step with one successor. Both take the head's lock first and believe the gate's row count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, null, select, update

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import ClaimLost
from celery_cascade.persistence import checkpoint_postgresql
from celery_cascade.persistence.clock import after, now
from celery_cascade.persistence.context import add_change
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.gate import ended_by_me, lock_head, lost
from celery_cascade.persistence.messages import add_messages
from celery_cascade.persistence.rows import Checkpoint, Moved
from celery_cascade.persistence.start import insert_steps, parked
from celery_cascade.persistence.tables import THIS_HEAD, THIS_STEP, heads, steps


def write_checkpoint(db: Database, done: Checkpoint, *, clock: dict[str, Any]) -> Moved:
    """Record that a step ended and queue what follows.

    Raises:
        ClaimLost: the token is not the step's any more; nothing was written.
    """
    try:
        if db.family == "postgresql":
            return checkpoint_postgresql.write(db, done, clock=clock)
        return db.transaction(lambda conn: _write(conn, done, clock))
    except ClaimLost:
        if ended_by_me(db, done.key, done.token, done.status):
            return _head_after(db, done)
        raise


def _write(conn: Connection, done: Checkpoint, clock: dict[str, Any]) -> Moved:
    head, joins = lock_head(conn, done.key.session_id, tuple(done.arrivals))
    version = head.version + 1
    _end_step(conn, done, version, clock)
    _insert_followers(conn, done, version, halted=head.halt is not None, clock=clock)
    ready = tuple(step for step, left in joins.items() if left == done.arrivals[step])
    _arrive(conn, done, version, queued=() if head.halt is not None else ready, clock=clock)
    parameters = clock | {
        "b_session": done.key.session_id,
        "b_version": version,
        "b_closed": done.closed,
        "b_phase": done.phase,
        "b_done": int(done.status == "succeeded"),
    }
    conn.execute(_MOVE_HEAD, parameters)
    if done.context_delta is not None:
        add_change(conn, done.key.session_id, version, done.context_delta, clock, step=done.key.step)
    if done.messages:
        add_messages(conn, done.key.session_id, version, done.messages, clock, step=done.key.step)
    reached(CrashPoint.CHECKPOINT_OPEN, done.key)
    return Moved(
        version=version,
        open_steps=head.open_steps - done.closed,
        halt=head.halt,
        ready=ready if head.halt is None else (),
    )


_END_STEP = (
    update(steps)
    .where(THIS_STEP, steps.c.token == bindparam("b_token"), steps.c.status == "running")
    .values(
        status=bindparam("b_status"),
        output=bindparam("b_output"),
        reason=bindparam("b_reason"),
        finished_at=now(),
        deadline=null(),
        version=bindparam("b_version"),
    )
)


def _end_step(conn: Connection, done: Checkpoint, version: int, clock: dict[str, Any]) -> None:
    parameters = clock | {
        "b_session": done.key.session_id,
        "b_step": done.key.step,
        "b_item": done.key.item,
        "b_token": done.token,
        "b_status": done.status,
        "b_output": done.output,
        "b_reason": done.reason,
        "b_version": version,
    }
    if conn.execute(_END_STEP, parameters).rowcount == 0:
        raise lost(done.key)


def _insert_followers(conn: Connection, done: Checkpoint, version: int, *, halted: bool, clock: dict[str, Any]) -> None:
    queued = [parked(row) for row in done.queued] if halted else list(done.queued)
    insert_steps(
        conn,
        done.key.session_id,
        [*queued, *done.skipped],
        version=version,
        worker=done.worker,
        resend_after=done.resend_after,
        clock=clock,
    )


def follow_parked(conn: Connection, done: Checkpoint, version: int, clock: dict[str, Any]) -> None:
    """What follows from a step's end, parked: for a session that does not run just then; its head is locked."""
    _insert_followers(conn, done, version, halted=True, clock=clock)
    _arrive(conn, done, version, queued=(), clock=clock)


def _arrival(**ready: Any) -> Any:
    # needs_left comes last: MySQL reads a column that the same UPDATE has already set as its new value.
    return (
        update(steps)
        .where(
            steps.c.session_id == bindparam("b_session"),
            steps.c.item == -1,
            steps.c.step.in_(bindparam("b_joins", expanding=True)),
        )
        .ordered_values(
            *((steps.c[name], value) for name, value in ready.items()),
            (steps.c.version, bindparam("b_version")),
            (steps.c.needs_left, steps.c.needs_left - bindparam("b_count")),
        )
    )


_ARRIVE = _arrival()
_ARRIVE_LAST = _arrival(
    status="queued", sends=1, worker=bindparam("b_worker"), queued_at=now(), wake_at=after("b_resend")
)
_ARRIVE_LAST_DRIVEN = _arrival(status="queued", sends=1, worker=bindparam("b_worker"), queued_at=now())


def _arrive(conn: Connection, done: Checkpoint, version: int, *, queued: Sequence[str], clock: dict[str, Any]) -> None:
    groups: dict[tuple[int, bool], list[str]] = {}
    for step, count in done.arrivals.items():
        groups.setdefault((count, step in queued), []).append(step)
    for (count, last), names in groups.items():
        parameters: dict[str, Any] = {
            "b_session": done.key.session_id,
            "b_joins": names,
            "b_version": version,
            "b_count": count,
        }
        statement = _ARRIVE
        if last:
            parameters |= clock | {"b_worker": done.worker}
            statement = _ARRIVE_LAST_DRIVEN
            if done.resend_after is not None:
                statement, parameters["b_resend"] = _ARRIVE_LAST, done.resend_after
        conn.execute(statement, parameters)


_MOVE_HEAD = (
    update(heads)
    .where(THIS_HEAD)
    .values(
        version=bindparam("b_version"),
        open_steps=heads.c.open_steps - bindparam("b_closed"),
        current_step=heads.c.current_step + bindparam("b_done"),
        current_phase=bindparam("b_phase"),
        updated_at=now(),
    )
)


def _head_after(db: Database, done: Checkpoint) -> Moved:
    """The head as it is, for a checkpoint that was found to be done; its ready joins are sent again (a hint)."""
    with db.read() as conn:
        head = conn.execute(
            select(heads.c.version, heads.c.open_steps, heads.c.halt).where(THIS_HEAD),
            {"b_session": done.key.session_id},
        ).one()
        ready = conn.execute(
            select(steps.c.step).where(
                steps.c.session_id == done.key.session_id,
                steps.c.status == "queued",
                steps.c.step.in_(list(done.arrivals)),
            )
        ).scalars()
        names = tuple(ready)
    return Moved(version=head.version, open_steps=head.open_steps, halt=head.halt, ready=names)
