"""Claiming: a worker's right to run one attempt, taken by one conditional UPDATE whose count is believed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, bindparam, null, or_, select, update

from celery_cascade.persistence.clock import after, now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import ClaimedStep, StepKey
from celery_cascade.persistence.tables import THIS_STEP, steps

_RETURNED = (
    steps.c.attempt,
    steps.c.call,
    steps.c.failures,
    steps.c.retries,
    steps.c.crashes,
    steps.c.task,
)

# The second half recognises a claim whose commit's answer was lost: the row already bears my token.
_CLAIM = (
    update(steps)
    .where(
        THIS_STEP,
        or_(
            and_(steps.c.status == "queued", steps.c.attempt == bindparam("b_attempt")),
            and_(steps.c.status == "running", steps.c.token == bindparam("b_token")),
        ),
    )
    .values(
        status="running",
        worker=bindparam("b_worker"),
        runner=bindparam("b_runner"),
        token=bindparam("b_token"),
        reason=bindparam("b_on_crash"),  # instead of why it waited: see unknown.py
        started_at=now(),
        wake_at=null(),
        deadline=null(),
    )
)
_CLAIM_TIMED = _CLAIM.values(deadline=after("b_timeout"))
_CLAIM_RETURNING = _CLAIM.returning(*_RETURNED)
_CLAIM_TIMED_RETURNING = _CLAIM_TIMED.returning(*_RETURNED)
_READ_MINE = select(*_RETURNED).where(THIS_STEP)


def claim_step(
    db: Database,
    key: StepKey,
    *,
    attempt: int,
    token: str,
    worker: str,
    runner: str,
    timeout: float | None,
    on_crash: str | None,
    clock: dict[str, Any],
) -> ClaimedStep | None:
    """Take a queued attempt; None if it is not there to be taken.

    Args:
        token: random, made before the call, so that a retry of the call recognises its own claim.
        timeout: seconds after which a sweep ends the attempt; None = never.
        on_crash: what recovery does if this attempt loses its worker, `fail` or `ask`; None = queues it again. It
            stands in the row, as whoever finds the orphan may know neither the task nor what was said of it.
    """
    parameters = clock | {
        "b_session": key.session_id,
        "b_step": key.step,
        "b_item": key.item,
        "b_attempt": attempt,
        "b_token": token,
        "b_worker": worker,
        "b_runner": runner,
        "b_on_crash": on_crash,
    }
    if timeout is not None:
        parameters["b_timeout"] = timeout
    row = _claim_row(db, parameters, timed=timeout is not None)
    if row is None:
        return None
    return ClaimedStep(
        key=key,
        token=token,
        attempt=row.attempt,
        call=row.call,
        failures=row.failures,
        retries=row.retries,
        crashes=row.crashes,
        task=row.task,
    )


def _claim_row(db: Database, parameters: dict[str, Any], *, timed: bool) -> Any:
    if db.family != "mysql":  # one statement, which is a transaction by itself
        returning = _CLAIM_TIMED_RETURNING if timed else _CLAIM_RETURNING
        return db.single(lambda conn: conn.execute(returning, parameters).one_or_none())

    def work(conn: Connection) -> Any:
        # MySQL has no UPDATE … RETURNING
        if conn.execute(_CLAIM_TIMED if timed else _CLAIM, parameters).rowcount == 0:
            return None
        return conn.execute(_READ_MINE, parameters).one()

    return db.transaction(work)
