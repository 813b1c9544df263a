"""Steps that lost their worker and wait for an operator's word: which they are, and how the word is given.

Such a step is parked (`pending`) and bears its reason. A parked step without one only waits for its session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from celery_cascade.errors import NotResumable
from celery_cascade.persistence.tables import steps
from celery_cascade.states import SuspendReason
from celery_cascade.words import listed

#: Reasons that a parked step bears until somebody has answered, the stronger one first.
ANSWERED = (SuspendReason.IN_DOUBT.value, SuspendReason.POISONED.value)

WAITING = (steps.c.status == "pending") & steps.c.reason.in_(ANSWERED)
_WAITING = (
    select(steps.c.step, steps.c.item, steps.c.attempt, steps.c.reason, steps.c.error)
    .where(steps.c.session_id == bindparam("b_session"), WAITING)
    .order_by(steps.c.step, steps.c.item)
)


def waiting(conn: Connection, session_id: str) -> Sequence[Any]:
    """The steps of a session that wait for an answer."""
    return conn.execute(_WAITING, {"b_session": session_id}).all()


def refuse_doubts(conn: Connection, session_id: str) -> None:
    """Pass if no step is in doubt. Raises NotResumable: to run it again is for a person to decide."""
    doubtful = [row.step for row in waiting(conn, session_id) if row.reason == SuspendReason.IN_DOUBT]
    if doubtful:
        raise in_doubt(session_id, doubtful)


def in_doubt(session_id: str, doubtful: Sequence[str]) -> NotResumable:
    """The refusal of a resume that does not say what became of these steps."""
    several = len(doubtful) > 1
    which = f"steps {listed(doubtful)} lost their workers" if several else f"step {doubtful[0]!r} lost its worker"
    return NotResumable(
        f"session {session_id} is in doubt: {which}, and the work may be done or not; say what became of it",
        hint="\n".join(answers(session_id, doubtful)),
    )


def answers(session_id: str, steps: Sequence[str]) -> list[str]:
    """The three answers as commands, one a line; with several steps for the first of them.

    RESULT is no JSON and is refused: a value that was pasted unread would be the step's checkpoint for good.
    """
    of = f"{session_id} --step {steps[0]}" if len(steps) > 1 else session_id
    lines = [
        f"It has done its work (put what it returned, as JSON, for RESULT): cascade resume {of} --done RESULT",
        f"It has not, or a second time does no harm: cascade resume {of} --again",
        f"Go on without it, and without what needs nothing else: cascade resume {of} --skip",
    ]
    return [f"Of step {steps[0]!r}, then of the next:", *lines] if len(steps) > 1 else lines
