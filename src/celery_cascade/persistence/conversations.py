"""A conversation: the sessions of one thread that continue one another, each a turn (D12).

`conversation_id` is the id of its first session; the first one's own is NULL. A session that was started while an
earlier turn ran waits for it: suspended, and without `started_at`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, desc, func, literal_column, select, union_all

from celery_cascade.persistence.tables import heads, sessions
from celery_cascade.states import SuspendReason

CONVERSATION: ColumnElement[Any] = func.coalesce(sessions.c.conversation_id, sessions.c.session_id)
_JOINED = sessions.join(heads, heads.c.session_id == sessions.c.session_id)


def waiting_turns(head: Any = heads) -> ColumnElement[bool]:
    """Sessions that wait for their turn; in SQL what `states.waits_its_turn` is in Python."""
    return and_(
        head.c.status == literal_column("'suspended'"),
        head.c.started_at.is_(None),
        head.c.halt.is_(None),
        head.c.status_reason == SuspendReason.SIGNAL.value,
    )


def going(head: Any = heads) -> ColumnElement[bool]:
    """Sessions that have not ended."""
    found: ColumnElement[bool] = head.c.status.in_(["active", "suspended"])
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a session stands: in which conversation, at which turn; and the pair that it was started with."""

    session_id: str
    conversation: str
    turn: int
    thread_id: str | None
    resource_id: str | None

    @property
    def pair(self) -> tuple[str, str] | None:
        """Its thread and resource; None if it has no such pair."""
        return None if self.thread_id is None or self.resource_id is None else (self.thread_id, self.resource_id)

    @property
    def parameters(self) -> dict[str, Any]:
        """For the statements of this module."""
        return {"b_session": self.session_id, "b_conversation": self.conversation, "b_turn": self.turn}


_PLACE = select(
    sessions.c.session_id, CONVERSATION.label("conversation"), sessions.c.turn, sessions.c.thread_id,
    sessions.c.resource_id,
)  # fmt: skip
_PLACE_OF = _PLACE.where(sessions.c.session_id == bindparam("b_session"))


def place_of(conn: Connection, session_id: str) -> Place | None:
    """Where a session stands; None if it is gone."""
    row = conn.execute(_PLACE_OF, {"b_session": session_id}).mappings().one_or_none()
    return None if row is None else Place(**row)


def _members(columns: Any, *which: Any) -> Any:
    """The sessions of a conversation: the first by its id, the others by their index."""
    rows = select(*columns).select_from(_JOINED).where(*which)
    return union_all(
        rows.where(sessions.c.conversation_id == bindparam("b_conversation")),
        rows.where(sessions.c.session_id == bindparam("b_conversation")),
    )


_LAST = (
    _PLACE.where(sessions.c.conversation_id == bindparam("b_conversation"))
    .order_by(sessions.c.turn.desc(), sessions.c.session_id)
    .limit(1)
)


def last_of(conn: Connection, place: Place) -> Place:
    """The latest turn of a conversation; the given one if no other is there."""
    row = conn.execute(_LAST, place.parameters).mappings().one_or_none()
    return place if row is None else Place(**row)


_STATUS = (sessions.c.session_id, heads.c.status)
_RUNNING = _members(_STATUS, going(), heads.c.started_at.is_not(None), sessions.c.session_id != bindparam("b_session"))


def running_in(conn: Connection, place: Place) -> Any:
    """Another session of the conversation that has begun and not ended, with `session_id` and `status`; or None."""
    return conn.execute(_RUNNING, place.parameters).first()


_TURN: Any = bindparam("b_turn")
_EARLIER = _members(_STATUS, heads.c.status.in_(["active", "suspended", "failed"]), sessions.c.turn < _TURN)
_LOCK_FAILED = (
    select(heads.c.session_id, heads.c.status)
    .where(heads.c.session_id.in_(bindparam("b_ids", expanding=True)))
    .order_by(heads.c.session_id)
    .with_for_update(read=True)
)


def running_before(conn: Connection, place: Place) -> Any:
    """An earlier turn that has not ended, as `running_in`; also one that waits for its own turn.

    Those that failed are locked, shared: a resume of one of them waits, and then finds this one running.
    """
    found = conn.execute(_EARLIER, place.parameters).all()
    failed = [row.session_id for row in found if row.status == "failed"]
    if failed:
        found = [row for row in found if row.status != "failed"]
        found += conn.execute(_LOCK_FAILED, {"b_ids": failed}).all()
    return next((row for row in found if row.status in ("active", "suspended")), None)


_GOING = _members((sessions.c.session_id, sessions.c.turn), going()).order_by(desc("turn"))


def last_going(conn: Connection, place: Place, without: Collection[str]) -> str | None:
    """The latest session of a conversation that has not ended, but for these; None if there is none."""
    found = conn.execute(_GOING, place.parameters).all()
    return next((row.session_id for row in found if row.session_id not in without), None)


_BEGUN = (
    _members((sessions.c.session_id, sessions.c.turn), heads.c.started_at.is_not(None), sessions.c.turn < _TURN)
    .order_by(desc("turn"))
    .limit(1)
)


def begun_before(conn: Connection, place: Place) -> str | None:
    """The latest earlier turn that was ever begun; None if there is none any more."""
    row = conn.execute(_BEGUN, place.parameters).first()
    return None if row is None else str(row.session_id)


_UP_TO = _members((sessions.c.session_id,), sessions.c.turn <= _TURN)


def up_to(conn: Connection, place: Place) -> list[str]:
    """The sessions of a conversation up to this one, itself included."""
    return up_to_turn(conn, place.conversation, place.turn)


def up_to_turn(conn: Connection, conversation: str, turn: int) -> list[str]:
    """The sessions of a conversation up to a turn, and forks of those."""
    return list(conn.execute(_UP_TO, {"b_conversation": conversation, "b_turn": turn}).scalars())
