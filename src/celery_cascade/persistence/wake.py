"""Due steps: retries whose moment has come and messages that nobody claimed. Taken first, published after."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Float, Integer, and_, bindparam, case, cast, literal, select, union_all, update

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.persistence.clock import after, now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.gate import lock_unheld
from celery_cascade.persistence.rows import QueuedStep, StepKey
from celery_cascade.persistence.tables import STEP_KEY, THIS_STEP, heads, queued, running, steps
from celery_cascade.persistence.unknown import UNKNOWN_TASK

#: No wait between two sends of one message is longer (seconds).
LONGEST_RESEND = 3600.0

_STEP = (
    *STEP_KEY,
    steps.c.attempt,
    steps.c.epoch,
    steps.c.retries,
    steps.c.sends,
    steps.c.task,
    steps.c.reason,
)
_IS_DUE = and_(steps.c.wake_at <= now(), queued())
_FIND_DUE = select(*STEP_KEY).where(_IS_DUE).order_by(steps.c.wake_at).limit(bindparam("b_limit"))
_LOCK_DUE = lock_unheld(*_STEP).where(_IS_DUE)
#: Doublings after which every delay is over the longest, however short the first: 2**30 would overflow an integer.
_DOUBLINGS = 29
# Doubling by shift and not by power: SQLite may be built without the mathematical functions.
_DELAY = case(
    (steps.c.sends > _DOUBLINGS, literal(LONGEST_RESEND)),
    else_=bindparam("b_first", type_=Float()) * cast(literal(1).op("<<")(steps.c.sends), Integer),
)
_CAPPED = case((_DELAY > LONGEST_RESEND, LONGEST_RESEND), else_=_DELAY)


def _taken(next_moment: Any) -> Any:
    # `sends` comes last: MySQL reads a column that the same UPDATE has already set as its new value.
    return (
        update(steps)
        .where(THIS_STEP)
        .ordered_values(
            (steps.c.wake_at, next_moment),
            (steps.c.worker, bindparam("b_worker")),
            (steps.c.sends, steps.c.sends + 1),
        )
    )


_TAKE = _taken(after(_CAPPED))
# A retry's first message is no resend: its delay starts at the beginning.
_TAKE_FIRST = _taken(after("b_first"))


def take_due(db: Database, *, worker: str | None, first: float, limit: int, clock: dict[str, Any]) -> list[QueuedStep]:
    """Take queued steps whose `wake_at` has passed and push their next moment back; the caller then publishes.

    Args:
        first: seconds until the first resend of a message; each later one waits twice as long, at most an hour.
    """
    with db.read() as conn:  # mostly there is nothing, and a look costs no write lock
        found = [tuple(row) for row in conn.execute(_FIND_DUE, clock | {"b_limit": limit})]
    if not found:
        return []

    def work(conn: Connection) -> list[QueuedStep]:
        due = conn.execute(_LOCK_DUE, clock | {"b_keys": found}).all()
        for statement, rows in (
            (_TAKE, [row for row in due if row.sends]),
            (_TAKE_FIRST, [row for row in due if not row.sends]),
        ):
            if rows:
                both = clock | {"b_worker": worker, "b_first": first}
                conn.execute(statement, [both | _key_of(row) for row in rows])
        reached(CrashPoint.TIMER_OPEN)
        return [_queued(row) for row in due]

    return db.transaction(work)


def _key_of(row: Any) -> dict[str, Any]:
    return {"b_session": row.session_id, "b_step": row.step, "b_item": row.item}


def _queued(row: Any) -> QueuedStep:
    return QueuedStep(
        key=StepKey(row.session_id, row.step, row.item),
        task=row.task,
        attempt=row.attempt,
        epoch=row.epoch,
        retries=row.retries,
        dropped=row.reason == UNKNOWN_TASK,
    )


_LATER = update(steps).where(THIS_STEP, queued()).values(wake_at=after("b_delay"))
_READY = (
    select(*_STEP)
    .where(steps.c.session_id == bindparam("b_session"), queued(), (steps.c.sends > 0) | (steps.c.wake_at <= now()))
    .order_by(steps.c.queued_at, steps.c.step)
)
_RUNS = select(literal(1)).where(steps.c.session_id == heads.c.session_id, running()).exists()
_HALTING = select(heads.c.session_id).where(heads.c.halt.is_not(None), (heads.c.status != "active") | ~_RUNS)
_ALL_ENDED = select(heads.c.session_id).where(
    heads.c.status == "active", heads.c.open_steps == 0, heads.c.halt.is_(None)
)
_UNSETTLED = union_all(_HALTING, _ALL_ENDED).limit(bindparam("b_limit"))
_PAST_EXPIRY = (
    select(heads.c.session_id)
    .where(
        heads.c.expires_at <= now(),
        heads.c.status.in_(["active", "suspended"]),
        (heads.c.halt.is_(None)) | (heads.c.halt.not_in(["expired", "cancelled"])),
    )
    .limit(bindparam("b_limit"))
)


def wake_later(db: Database, key: StepKey, delay: float, *, clock: dict[str, Any]) -> None:
    """Try a step's message again in `delay` seconds: its publish failed, or nobody here knows its task."""
    parameters = clock | {
        "b_session": key.session_id,
        "b_step": key.step,
        "b_item": key.item,
        "b_delay": delay,
    }
    db.transaction(lambda conn: conn.execute(_LATER, parameters))


def queued_steps(db: Database, session_id: str, *, clock: dict[str, Any]) -> list[QueuedStep]:
    """The queued steps of one session that are ready to run now: for whoever drives it in this process."""
    with db.read() as conn:
        return [_queued(row) for row in conn.execute(_READY, clock | {"b_session": session_id})]


def unsettled(db: Database, *, limit: int) -> list[str]:
    """Active sessions whose end was not written: every step ended, or they halt and nothing runs any more."""
    with db.read() as conn:
        return list(conn.execute(_UNSETTLED, {"b_limit": limit}).scalars())


def past_expiry(db: Database, *, limit: int, clock: dict[str, Any]) -> list[str]:
    """Active and suspended sessions whose `expires_at` has passed and that were not told so yet."""
    with db.read() as conn:
        return list(conn.execute(_PAST_EXPIRY, clock | {"b_limit": limit}).scalars())
