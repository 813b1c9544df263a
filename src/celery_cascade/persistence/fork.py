"""Forks: a session that begins with steps of another one, copied in one transaction. No row of the origin changes.

Copied rows bear version 1 and the reason `kept`; a skipped one keeps why it was skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, func, insert, literal, null, or_, select

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import SessionConflict
from celery_cascade.persistence.clock import after, now
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.head import Action, record
from celery_cascade.persistence.origin import Origin
from celery_cascade.persistence.rows import NewSession, NewStep
from celery_cascade.persistence.start import (
    head_values,
    insert_steps,
    write_belongings,
    write_definition,
    write_session,
    written_once,
)
from celery_cascade.persistence.tables import THIS_HEAD, heads, messages, sessions, steps
from celery_cascade.persistence.threads import take_thread
from celery_cascade.persistence.views import not_found_on

#: Why a step of a fork has ended that it has not run itself.
KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFork:
    """What a fork takes from its origin.

    Args:
        origin: as it was read; what has ended since is not part of the fork.
        step: at which it forks; None = after all that had ended well.
        version: of the origin, up to which the two are the same; None = this is a rerun, and they share nothing.
        kept: the steps whose rows are copied.
        done: how many of them have succeeded.
        turns: the sessions of the origin's conversation before it, and it: whose messages are copied. Empty = none are.
        action: who did it, for the record of the new session.
    """

    origin: Origin
    step: str | None = None
    version: int | None = None
    kept: Collection[str] = ()
    done: int = 0
    turns: Sequence[str] = ()
    action: Action | None = None


def fork_session(
    db: Database,
    new: NewSession,
    fork: NewFork,
    rows: Sequence[NewStep],
    *,
    worker: str | None,
    resend_after: float | None,
    clock: dict[str, Any],
) -> bool:
    """Write a session that begins with the kept steps of its origin, as `start_session` writes one.

    Raises:
        SessionNotFound: the origin is gone.
        SessionConflict: the session id is taken, the thread is in a session that runs, or kept steps are gone.
    """
    origin = fork.origin.session_id

    def work(conn: Connection) -> None:
        if conn.execute(_ORIGIN, {"b_session": origin}).first() is None:
            raise not_found_on(conn, db, origin)
        write_definition(conn, db, new, clock)
        take_thread(conn, new, clock)
        link = {"forked_from": origin, "forked_step": fork.step, "forked_version": fork.version}
        write_session(conn, new, clock, **link)
        conn.execute(_INSERT_HEAD[new.expires_in is not None], clock | head_values(new) | {"current_step": fork.done})
        write_belongings(conn, new, clock)
        _copy_steps(conn, new.session_id, fork)
        _copy_messages(conn, new.session_id, fork)
        insert_steps(conn, new.session_id, rows, version=1, worker=worker, resend_after=resend_after, clock=clock)
        if fork.action is not None:
            record(conn, new.session_id, fork.action, 1, clock)
        reached(CrashPoint.FORK_OPEN)

    return written_once(db, new, work)


#: Shared: whoever would delete the origin waits, or is waited for; nothing of it is written.
_ORIGIN = select(heads.c.version).where(THIS_HEAD).with_for_update(read=True)


_INSERT_HEAD_PLAIN = insert(heads).values(created_at=now(), started_at=now(), updated_at=now())
_INSERT_HEAD = {False: _INSERT_HEAD_PLAIN, True: _INSERT_HEAD_PLAIN.values(expires_at=after("expires_in"))}

#: What of a step is its own history and not the new session's.
_COPIED = (
    steps.c.step, steps.c.item, steps.c.status, steps.c.task, steps.c.call, steps.c.attempt, steps.c.failures,
    steps.c.retries, steps.c.crashes, steps.c.worker, steps.c.output, steps.c.queued_at, steps.c.started_at,
    steps.c.finished_at,
)  # fmt: skip
_NEW = bindparam("b_new", type_=steps.c.session_id.type)


def _copy_of(*which: Any) -> Any:
    kept = case((steps.c.status == "succeeded", literal(KEPT)), else_=steps.c.reason)
    ended = and_(
        steps.c.session_id == bindparam("b_origin"),
        steps.c.status.in_(("succeeded", "skipped")),
        steps.c.version <= bindparam("b_seen"),
        *which,
    )
    return insert(steps).from_select(
        ["session_id", *(column.name for column in _COPIED), "reason", "needs_left", "sends", "version"],
        select(_NEW, *_COPIED, kept, literal(0), literal(0), literal(1)).where(ended),
    )


#: The shorter list of names is sent: of the steps that are kept, or of those that are not.
_COPY_ALL_BUT = _copy_of(steps.c.step.not_in(bindparam("b_steps", expanding=True)))
_COPY_ALL, _COPY_THESE = _copy_of(), _copy_of(steps.c.step.in_(bindparam("b_steps", expanding=True)))


#: Of an INSERT SQLAlchemy asks for the count only if it is told to.
_COUNTED = {"preserve_rowcount": True}


def _copy_steps(conn: Connection, session_id: str, fork: NewFork) -> None:
    if not fork.kept:
        return
    ended = fork.origin.ended
    left = ended.keys() - set(fork.kept)
    values: dict[str, Any] = {"b_new": session_id, "b_origin": fork.origin.session_id, "b_seen": fork.origin.version}
    statement = _COPY_ALL
    if left:
        fewer = len(left) < len(fork.kept)
        statement = _COPY_ALL_BUT if fewer else _COPY_THESE
        values["b_steps"] = list(left if fewer else fork.kept)
    copied = conn.execute(statement, values, execution_options=_COUNTED).rowcount
    expected = sum(ended[step].rows for step in fork.kept)
    if copied != expected:
        raise SessionConflict(
            f"session {fork.origin.session_id}: {copied} of {expected} finished steps could be copied; the others are "
            "no longer as they were when they were read",
            hint=f"Look: cascade show {fork.origin.session_id}\nThen fork it again",
        )


_OWN = messages.c.session_id == bindparam("b_origin")
_KEPT_STEPS = select(steps.c.step).where(steps.c.session_id == bindparam("b_new"))
_SAID_BEFORE = or_(
    messages.c.session_id != bindparam("b_origin"),
    and_(messages.c.step.is_(None), messages.c.version <= bindparam("b_seen")),
    messages.c.step.in_(_KEPT_STEPS),
)
#: A step of an earlier turn is no step of this session.
_BY_STEP = case((_OWN, messages.c.step), else_=null())
_COPY_MESSAGES = insert(messages).from_select(
    ["session_id", "seq", "role", "content", "extra", "step", "created_at", "version"],
    select(
        _NEW,
        func.row_number().over(order_by=(sessions.c.turn, messages.c.session_id, messages.c.seq)),
        messages.c.role,
        messages.c.content,
        messages.c.extra,
        _BY_STEP,
        messages.c.created_at,
        literal(1),
    )
    .select_from(messages.join(sessions, sessions.c.session_id == messages.c.session_id))
    .where(messages.c.session_id.in_(bindparam("b_turns", expanding=True)), _SAID_BEFORE),
)


def _copy_messages(conn: Connection, session_id: str, fork: NewFork) -> None:
    """What was said up to the fork, in all turns; the copied steps are there already, and no others."""
    if fork.turns:
        about = {"b_new": session_id, "b_origin": fork.origin.session_id, "b_seen": fork.version}
        conn.execute(_COPY_MESSAGES, about | {"b_turns": list(fork.turns)})
