"""Steps whose message went to a worker that does not know their task: delayed, and woken for a worker that does.

Celery acks and drops what it does not know, so such a step stays queued with nobody to claim it. `reason` remembers
that until the next claim: without it a worker's start would have to send again whatever waits in a long queue.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, select, tuple_, update

from celery_cascade.persistence.clock import after, now, seconds_between
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.gate import lock_unheld
from celery_cascade.persistence.rows import Row, StepKey
from celery_cascade.persistence.tables import STEP_KEY, THIS_STEP, queued, steps

#: `session_steps.reason` of a queued step whose last message went to a worker that does not know its task.
UNKNOWN_TASK = "unknown_task"
#: No wait between two drops of one message is longer (seconds).
LONGEST_DELAY = 300.0
_DOUBLINGS = 20  #: enough for the longest, however short the first
_BATCH = 200

# A step without `wake_at` is run by the process that queued it, and no message of it was sent.
_DROPPED = and_(THIS_STEP, queued(), steps.c.attempt == bindparam("b_attempt"), steps.c.wake_at.is_not(None))
_READ_SENDS = select(steps.c.sends).where(_DROPPED)
_DELAY = update(steps).where(_DROPPED).values(wake_at=after("b_delay"), reason=UNKNOWN_TASK)


def delay_unknown(db: Database, key: StepKey, attempt: int, *, first: float, clock: dict[str, Any]) -> float | None:
    """Send the message of a queued attempt again soon; no head and no version change, as with a claim.

    Args:
        first: seconds of the first delay; each further send of the same attempt doubles it, up to `LONGEST_DELAY`.

    Returns the delay, or None if that attempt is not queued any more.
    """
    parameters = clock | {
        "b_session": key.session_id,
        "b_step": key.step,
        "b_item": key.item,
        "b_attempt": attempt,
    }
    with db.read() as conn:
        sends = conn.execute(_READ_SENDS, parameters).scalar()
    if sends is None:
        return None
    delay = min(LONGEST_DELAY, first * 2 ** min(max(sends - 1, 0), _DOUBLINGS))
    count = db.transaction(lambda conn: conn.execute(_DELAY, parameters | {"b_delay": delay}).rowcount)
    return delay if count else None


_MARKED = and_(queued(), steps.c.reason == UNKNOWN_TASK)
_ASLEEP = and_(_MARKED, steps.c.sends > 0)
_FIND = select(*STEP_KEY).where(_ASLEEP, steps.c.task.in_(bindparam("b_tasks", expanding=True))).limit(_BATCH)
_LOCK = lock_unheld(*STEP_KEY).where(_ASLEEP)
# `sends` begins anew: should an older worker take this message too, the next delay is a short one again.
_WAKE = update(steps).where(THIS_STEP).values(wake_at=now(), sends=0)
_STILL = select(*STEP_KEY).where(_MARKED, tuple_(*STEP_KEY).in_(bindparam("b_keys", expanding=True)))


def wake_known(db: Database, tasks: Collection[str], *, clock: dict[str, Any]) -> int:
    """Make due at once what waits for a worker that knows one of these tasks; returns how many steps."""
    woken = 0
    while tasks and (batch := _wake_batch(db, list(tasks), clock)):
        woken += batch
    return woken


def _wake_batch(db: Database, tasks: list[str], clock: dict[str, Any]) -> int:
    with db.read() as conn:  # mostly there is nothing, and a look costs no write lock
        found = [tuple(row) for row in conn.execute(_FIND, {"b_tasks": tasks})]
    if not found:
        return 0

    def work(conn: Connection) -> int:
        free = conn.execute(_LOCK, {"b_keys": found}).all()
        keys = [clock | {"b_session": row.session_id, "b_step": row.step, "b_item": row.item} for row in free]
        if keys:
            conn.execute(_WAKE, keys)
        return len(keys)

    return db.transaction(work)


def still_unclaimed(db: Database, keys: Collection[StepKey]) -> set[StepKey]:
    """Those of these dropped steps that nobody has claimed since."""
    if not keys:
        return set()
    with db.read() as conn:
        rows = conn.execute(_STILL, {"b_keys": [(key.session_id, key.step, key.item) for key in keys]}).all()
    return {StepKey(row.session_id, row.step, row.item) for row in rows}


def waiting_tasks(db: Database, session_ids: Collection[str] | None, *, clock: dict[str, Any]) -> list[Row]:
    """What queued steps wait to be run: task, `reason`, how many, and the seconds until the next message.

    Args:
        session_ids: a row a session, of these; None = over all sessions. Steps that a process runs by itself are
            left out.
    """
    wait = func.min(seconds_between(db.family, now(), steps.c.wake_at))
    columns = (steps.c.task, steps.c.reason)
    by = columns if session_ids is None else (steps.c.session_id, *columns)
    statement = (
        select(*by, func.count().label("count"), wait.label("wait"))
        .where(queued(), steps.c.wake_at.is_not(None))
        .group_by(*by)
        .order_by(*by)
    )
    parameters: dict[str, Any] = dict(clock)
    if session_ids is not None:
        statement = statement.where(steps.c.session_id.in_(bindparam("b_sessions", expanding=True)))
        parameters["b_sessions"] = list(session_ids)
    with db.read() as conn:
        return list(conn.execute(statement, parameters).mappings())
