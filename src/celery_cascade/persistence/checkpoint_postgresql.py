"""The checkpoint on PostgreSQL: one autocommitted statement, head then step then arrivals then inserts.

Each part is conditional on the one before; when the gate (the step, by token) finds no row, the last expression
divides by zero, so that nothing of a late writer's half can commit. The parameters are arrays, so that one
prepared statement serves every shape of cascade. The head is changed before the gate is known, so a zombie's
`open_steps` is kept from falling below 0: the constraint's error would hide that it lost its claim.

A change of the context and messages are two more parts, in a statement of their own: most checkpoints have neither.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, DateTime, String, bindparam, select, text
from sqlalchemy.exc import DataError

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.gate import lost
from celery_cascade.persistence.rows import Checkpoint, Moved
from celery_cascade.persistence.tables import THIS_HEAD, heads

_NOW = "coalesce(CAST(:clock AS timestamptz), statement_timestamp())"
_LATER = f"{_NOW} + make_interval(secs => CAST(:resend AS double precision))"

_PLAIN = f"""
WITH head AS (
  UPDATE session_states
     SET version = version + 1, open_steps = greatest(open_steps - CAST(:closed AS integer), 0),
         current_step = current_step + CAST(:done AS integer), current_phase = CAST(:phase AS varchar),
         updated_at = {_NOW}
   WHERE session_id = CAST(:session AS varchar)
  RETURNING version, open_steps, halt
), step AS (
  UPDATE session_steps s
     SET status = CAST(:status AS varchar), output = CAST(:output AS text), reason = CAST(:reason AS varchar),
         finished_at = {_NOW}, deadline = NULL, version = head.version
    FROM head
   WHERE s.session_id = CAST(:session AS varchar) AND s.step = CAST(:step AS varchar)
     AND s.item = CAST(:item AS integer) AND s.token = CAST(:token AS varchar) AND s.status = 'running'
  RETURNING 1 AS one
), arrival AS (
  UPDATE session_steps j
     SET needs_left = j.needs_left - a.count, version = head.version,
         status = CASE WHEN j.needs_left = a.count AND head.halt IS NULL THEN 'queued' ELSE j.status END,
         sends = CASE WHEN j.needs_left = a.count AND head.halt IS NULL THEN 1 ELSE j.sends END,
         worker = CASE WHEN j.needs_left = a.count AND head.halt IS NULL THEN CAST(:worker AS varchar)
                       ELSE j.worker END,
         queued_at = CASE WHEN j.needs_left = a.count AND head.halt IS NULL THEN {_NOW} ELSE j.queued_at END,
         wake_at = CASE WHEN j.needs_left = a.count AND head.halt IS NULL THEN {_LATER} ELSE j.wake_at END
    FROM head, step, unnest(CAST(:joins AS varchar[]), CAST(:counts AS integer[])) AS a(step, count)
   WHERE j.session_id = CAST(:session AS varchar) AND j.step = a.step AND j.item = -1
  RETURNING j.step, j.status
), added AS (
  INSERT INTO session_steps (session_id, step, item, status, task, call, reason, worker, sends, version,
                             queued_at, wake_at, finished_at)
  SELECT CAST(:session AS varchar), n.step, n.item,
         CASE WHEN n.status = 'queued' AND head.halt IS NOT NULL THEN 'pending' ELSE n.status END,
         n.task, n.call, n.reason,
         CASE WHEN n.status = 'queued' AND head.halt IS NULL THEN CAST(:worker AS varchar) END,
         CASE WHEN n.status = 'queued' AND head.halt IS NULL THEN 1 ELSE 0 END, head.version,
         CASE WHEN n.status = 'queued' AND head.halt IS NULL THEN {_NOW} END,
         CASE WHEN n.status = 'queued' AND head.halt IS NULL THEN {_LATER} END,
         CASE WHEN n.status = 'skipped' THEN {_NOW} END
    FROM head, step,
         unnest(CAST(:steps AS varchar[]), CAST(:items AS integer[]), CAST(:statuses AS varchar[]),
                CAST(:tasks AS varchar[]), CAST(:calls AS text[]), CAST(:reasons AS varchar[]))
           AS n(step, item, status, task, call, reason)
)"""  # noqa: S608 - made of constants
#: `seq` counts from what the statement sees when it begins, so messages need the head's lock before it.
_SHARED = f"""
, context AS (
  INSERT INTO session_context (session_id, version, delta, step, set_at)
  SELECT CAST(:session AS varchar), head.version, CAST(:delta AS text), CAST(:step AS varchar), {_NOW}
    FROM head, step
   WHERE CAST(:delta AS text) IS NOT NULL
), said AS (
  INSERT INTO session_messages (session_id, seq, role, content, extra, step, created_at, version)
  SELECT CAST(:session AS varchar), last.seq + m.number, m.role, m.content, m.extra, CAST(:step AS varchar), {_NOW},
         head.version
    FROM head, step,
         (SELECT coalesce(max(seq), 0) AS seq FROM session_messages WHERE session_id = CAST(:session AS varchar)) last,
         unnest(CAST(:roles AS varchar[]), CAST(:contents AS text[]), CAST(:extras AS text[])) WITH ORDINALITY
           AS m(role, content, extra, number)
)"""  # noqa: S608
_ANSWER = """
SELECT head.version, head.open_steps, head.halt, 1 / (SELECT count(*) FROM step) AS gate,
       (SELECT array_agg(arrival.step) FROM arrival WHERE arrival.status = 'queued') AS ready
  FROM head
"""


def _statement(*parts: str) -> Any:
    clock, output = bindparam("clock", type_=DateTime(timezone=True)), bindparam("output", type_=String())
    return text("".join(parts)).bindparams(clock, output)


_STATEMENT = _statement(_PLAIN, _ANSWER)
_STATEMENT_SHARED = _statement(_PLAIN, _SHARED, _ANSWER)
_LOCK = select(heads.c.version).where(THIS_HEAD).with_for_update()

_DIVISION_BY_ZERO = "22012"


def write(db: Database, done: Checkpoint, *, clock: dict[str, Any]) -> Moved:
    """Run the statement; ClaimLost if the gate or the session is gone."""
    rows = [*done.queued, *done.skipped]
    parameters = clock | {
        "session": done.key.session_id,
        "step": done.key.step,
        "item": done.key.item,
        "token": done.token,
        "status": done.status,
        "output": done.output,
        "reason": done.reason,
        "closed": done.closed,
        "done": int(done.status == "succeeded"),
        "phase": done.phase,
        "worker": done.worker,
        "resend": done.resend_after,
        "joins": list(done.arrivals),
        "counts": list(done.arrivals.values()),
        "steps": [row.step for row in rows],
        "items": [row.item for row in rows],
        "statuses": [row.status for row in rows],
        "tasks": [row.task for row in rows],
        "calls": [row.call for row in rows],
        "reasons": [row.reason for row in rows],
    }
    reached(CrashPoint.CHECKPOINT_OPEN, done.key)
    try:
        row = _execute(db, done, parameters)
    except DataError as error:
        if getattr(error.orig, "sqlstate", None) != _DIVISION_BY_ZERO:
            raise
        raise lost(done.key) from None
    if row is None:
        raise lost(done.key)
    return Moved(version=row.version, open_steps=row.open_steps, halt=row.halt, ready=tuple(row.ready or ()))


def _execute(db: Database, done: Checkpoint, parameters: dict[str, Any]) -> Any:
    if done.context_delta is None and not done.messages:
        return db.single(lambda conn: conn.execute(_STATEMENT, parameters).one_or_none())
    parameters |= {
        "delta": done.context_delta,
        "roles": [message.role for message in done.messages],
        "contents": [message.content for message in done.messages],
        "extras": [message.extra for message in done.messages],
    }

    def work(conn: Connection) -> Any:
        if done.messages:  # a statement that waits for the lock goes on with what it saw before
            conn.execute(_LOCK, {"b_session": done.key.session_id})
        return conn.execute(_STATEMENT_SHARED, parameters).one_or_none()

    return db.transaction(work) if done.messages else db.single(work)
