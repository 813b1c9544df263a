"""Sessions that wait for their turn in a thread: which of them need not wait any longer (D12)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, func, select, update

from celery_cascade.persistence.conversations import going, last_going, place_of, waiting_turns
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.tables import heads, mappings, sessions

_JOINED = sessions.join(heads, heads.c.session_id == sessions.c.session_id)
_GIVEN = sessions.alias("given")
_THIS_ENDED = and_(
    _GIVEN.c.session_id == bindparam("b_session"),
    sessions.c.conversation_id == func.coalesce(_GIVEN.c.conversation_id, _GIVEN.c.session_id),
    sessions.c.turn > _GIVEN.c.turn,
)
_AFTER = (
    select(sessions.c.session_id)
    .select_from(_JOINED.join(_GIVEN, _THIS_ENDED))
    .where(waiting_turns())
    .order_by(sessions.c.turn)
    .limit(1)
)


def turn_after(db: Database, session_id: str) -> str | None:
    """The session that waits next in the conversation of one that has ended; None if there is none."""
    with db.read() as conn:
        return conn.execute(_AFTER, {"b_session": session_id}).scalar()


_AFTER_GONE = (
    select(sessions.c.conversation_id, sessions.c.session_id)
    .distinct()
    .select_from(_JOINED.join(_GIVEN, _GIVEN.c.conversation_id == sessions.c.conversation_id))
    .where(_GIVEN.c.continues.in_(bindparam("b_gone", expanding=True)), waiting_turns())
    .add_columns(sessions.c.turn)
    .order_by(sessions.c.conversation_id, sessions.c.turn.desc())
)


def turns_after_gone(db: Database, gone: Collection[str]) -> list[str]:
    """The sessions that wait next in the conversations of deleted ones."""
    with db.read() as conn:
        rows = conn.execute(_AFTER_GONE, {"b_gone": list(gone)}).all()
    return list({row.conversation_id: row.session_id for row in rows}.values())


_EARLIER, _ITS_HEAD = sessions.alias("earlier"), heads.alias("its_head")
_EARLIER_GOES = select(_EARLIER.c.session_id).select_from(
    _EARLIER.join(_ITS_HEAD, _ITS_HEAD.c.session_id == _EARLIER.c.session_id)
)


def _none_goes(*which: Any) -> Any:
    return ~exists(_EARLIER_GOES.where(*which, going(_ITS_HEAD)).correlate(sessions))


_READY = (
    select(sessions.c.session_id)
    .select_from(_JOINED)
    .where(
        waiting_turns(),
        _none_goes(_EARLIER.c.conversation_id == sessions.c.conversation_id, _EARLIER.c.turn < sessions.c.turn),
        _none_goes(_EARLIER.c.session_id == sessions.c.conversation_id),
    )
    .limit(bindparam("b_limit"))
)


def ready_turns(db: Database, *, limit: int) -> list[str]:
    """Sessions that wait although every earlier one has ended: whoever wrote that end did not come to wake them."""
    with db.read() as conn:
        return list(conn.execute(_READY, {"b_limit": limit}).scalars())


_HELD = select(mappings).where(mappings.c.session_id.in_(bindparam("b_gone", expanding=True)))
_HAND_BACK = (
    update(mappings)
    .where(mappings.c.thread_id == bindparam("b_thread"), mappings.c.resource_id == bindparam("b_resource"))
    .values(session_id=bindparam("b_new"))
)


def hand_back(conn: Connection, gone: Sequence[str]) -> None:
    """Before sessions are deleted: a thread whose earlier session still goes is that one's again."""
    for row in conn.execute(_HELD, {"b_gone": list(gone)}).all():
        place = place_of(conn, row.session_id)
        stays = None if place is None else last_going(conn, place, gone)
        if stays is not None:
            pair = {"b_thread": row.thread_id, "b_resource": row.resource_id}
            conn.execute(_HAND_BACK, pair | {"b_new": stays})
