"""Crash points: every place where the order of two effects matters has a name, so that tests can crash there.

`reached` does nothing until somebody arms it (`celery_cascade.testing`); in production it costs one look at a
module's variable. A point is never a place to hang behaviour on: production code must not arm it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

Visit = Callable[["CrashPoint", Any], None]


class CrashPoint(StrEnum):
    """What is true at each point, in the order in which a session meets them.

    `…_OPEN` points lie inside a transaction whose statements have run; PostgreSQL's checkpoint is one statement, and
    its point lies before that.
    """

    START_OPEN = "start_open"  #: the session's rows are written, nothing is committed
    STARTED = "started"  #: the session is in SQL, none of its messages is sent
    FORK_OPEN = "fork_open"  #: a fork's or a rerun's rows are written, the copied ones among them, nothing is committed
    FORKED = "forked"  #: the fork or rerun is in SQL, none of its messages is sent
    PUBLISH = "publish"  #: a step is queued in SQL, its message is not sent
    PUBLISHED = "published"  #: its message is sent; whoever sent it has nothing left to do for it
    FAN_OUT_HALF = "fan_out_half"  #: of several steps that became ready together some messages are sent, others not
    CLAIM = "claim"  #: a worker has the message, the step is not claimed
    CLAIMED = "claimed"  #: the claim is committed, the call is not rendered and the body has not begun
    BODY = "body"  #: the body is about to begin
    IN_BODY = "in_body"  #: the body has had its effect outside and has not returned; reached by bodies of tests
    BODY_ENDED = "body_ended"  #: the body has returned or raised, nothing of it is written
    CHECKPOINT_OPEN = "checkpoint_open"  #: the checkpoint is on its way, nothing of it is committed
    CHECKPOINTED = "checkpointed"  #: output, arrivals and head are committed, what follows is not sent
    JOIN_ARRIVED = "join_arrived"  #: a member's arrival at a join is committed, others are still missing
    JOIN_READY = "join_ready"  #: the last arrival is committed and the join queued, its message is not sent
    SETBACK_OPEN = "setback_open"  #: the end of a failed attempt is on its way, nothing of it is committed
    RETRY_SCHEDULED = "retry_scheduled"  #: the next attempt and its moment are committed, the message is still held
    STEP_FAILED = "step_failed"  #: the step has failed for good, the session's end is not written
    ACK = "ack"  #: the step is done, its message is not acknowledged; reached in the worker's main process
    ACKED = "acked"  #: its message is acknowledged
    TIMER_OPEN = "timer_open"  #: due steps have a new moment, nothing is committed
    TIMER_TAKEN = "timer_taken"  #: due steps were taken, their messages are not sent
    HALT_OPEN = "halt_open"  #: a cancel, a suspend or an expiry is on its way, nothing of it is committed
    HALTED = "halted"  #: the session is asked to halt and what was queued is taken back, its end is not written
    END_OPEN = "end_open"  #: the session's end is on its way, nothing of it is committed
    ENDED = "ended"  #: the session's end is committed, nobody is told
    REVIVE_OPEN = "revive_open"  #: a resume is on its way, nothing of it is committed
    REVIVED = "revived"  #: a resume has queued steps again, none of their messages is sent
    BURIED = "buried"  #: a dead worker's row says so, its steps are not given back
    RELEASE_OPEN = "release_open"  #: a dead worker's step is being queued again, nothing is committed
    RELEASED = "released"  #: a dead worker's step is queued again, its message is not sent
    PARK_OPEN = "park_open"  #: a dead worker's step is being parked, nothing is committed
    PARKED = "parked"  #: a dead worker's step is parked, its session's end is not written
    RECOVERY_HALF = "recovery_half"  #: some of a dead worker's steps are given back, others not
    PRUNE_OPEN = "prune_open"  #: the rows of some sessions are deleted, nothing is committed
    PRUNED = "pruned"  #: one batch is gone for good, later ones and what nothing refers to are still there
    MIGRATION_OPEN = "migration_open"  #: a migration's statements have run, nothing is committed (MySQL: no more to do)
    MIGRATED = "migrated"  #: the tables are the new ones, whoever asked for it is not told


#: Points inside an open transaction: a crash there must leave nothing behind.
INSIDE = frozenset(point for point in CrashPoint if point.endswith("_open"))

_visit: Visit | None = None


def reached(point: CrashPoint, of: Any = None) -> None:
    """Say that this point is reached; nothing happens unless somebody has armed it.

    Args:
        point: where.
        of: what has a `step` (a key, a reference), for those who want to know whose point it is.
    """
    if _visit is not None:
        _visit(point, of)


def arm(visit: Visit | None) -> None:
    """Have `visit` called at every point that this process reaches, on the thread that reaches it; None = no longer.

    For tests. It is inherited by forked children.
    """
    global _visit
    _visit = visit
