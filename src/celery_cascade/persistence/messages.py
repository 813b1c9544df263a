"""The conversation: messages of a session, and those of the earlier turns that it continues (D12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, union_all

from celery_cascade.persistence import head
from celery_cascade.persistence.clock import now
from celery_cascade.persistence.context import OPEN, ended
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.deleting import chunks
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.mappings import touch_mapping
from celery_cascade.persistence.rows import NewMessage, Row
from celery_cascade.persistence.tables import messages, sessions
from celery_cascade.persistence.turns import Turn, turns_up_to
from celery_cascade.persistence.views import not_found

_THIS = messages.c.session_id == bindparam("b_session")
_LAST = select(func.coalesce(func.max(messages.c.seq), 0)).where(_THIS)
_INSERT = insert(messages).values(created_at=now())


def add_messages(
    conn: Connection,
    session_id: str,
    version: int,
    said: Sequence[NewMessage],
    clock: dict[str, Any],
    *,
    step: str | None = None,
) -> int:
    """Add messages under the head's lock, so that nobody takes the same number; the number of the last."""
    last: int = conn.execute(_LAST, {"b_session": session_id}).scalar_one()
    rows = [
        clock
        | {
            "session_id": session_id,
            "seq": seq,
            "role": message.role,
            "content": message.content,
            "extra": message.extra,
            "step": step,
            "version": version,
        }
        for seq, message in enumerate(said, last + 1)
    ]
    conn.execute(_INSERT, rows)
    return last + len(rows)


_SAID = select(messages.c.role, messages.c.content, messages.c.extra).where(
    _THIS, messages.c.seq == bindparam("b_seq"), messages.c.version == bindparam("b_version"), messages.c.step.is_(None)
)


def say(db: Database, session_id: str, said: NewMessage, action: Action | None, *, clock: dict[str, Any]) -> int:
    """Add a message from outside; returns its number.

    Raises:
        SessionConflict: the session has ended for good.
        SessionNotFound: it is not there.
    """
    tried: list[dict[str, Any]] = []  # what an earlier try wrote, if its commit went through

    def work(conn: Connection) -> int:
        found = head.lock(db, conn, session_id)
        if tried:
            row = conn.execute(_SAID, tried[-1]).one_or_none()
            if row is not None and tuple(row) == (said.role, said.content, said.extra):
                return int(tried[-1]["b_seq"])
        if found.status not in OPEN:
            raise ended(session_id, found.status, "nothing can be said in it any more")
        version = head.move(conn, session_id, found, clock)
        seq = add_messages(conn, session_id, version, [said], clock)
        head.record(conn, session_id, action, version, clock)
        touch_mapping(conn, session_id, clock)
        tried.append({"b_session": session_id, "b_seq": seq, "b_version": version})
        return seq

    return db.transaction(work)


_TURN = (sessions.c.session_id, sessions.c.turn, sessions.c.continues)
_ME = select(*_TURN, sessions.c.conversation_id).where(sessions.c.session_id == bindparam("b_session"))
#: Two looks, each by its index: OR over both columns would read the table on some databases.
_TURNS = union_all(
    *(
        select(*_TURN).where(column == bindparam("b_conversation"), sessions.c.turn < bindparam("b_turn"))
        for column in (sessions.c.conversation_id, sessions.c.session_id)
    )
)
_OF = select(messages).where(messages.c.session_id.in_(bindparam("b_sessions", expanding=True)))


def conversation(db: Database, session_id: str) -> list[Row]:
    """The messages of a session and of the turns before it, in the order in which they were said.

    Raises:
        SessionNotFound: it is not there.
    """
    with db.read() as conn:
        me = conn.execute(_ME, {"b_session": session_id}).one_or_none()
        if me is None:
            raise not_found(db, session_id)
        earlier = []
        if me.conversation_id is not None:
            of_it = {"b_conversation": me.conversation_id, "b_turn": me.turn}
            earlier = [Turn(*row) for row in conn.execute(_TURNS, of_it)]
        order = {one: number for number, one in enumerate(turns_up_to(Turn(*me[:3]), earlier))}
        found: list[Row] = []
        for some in chunks(list(order)):
            found += conn.execute(_OF, {"b_sessions": some}).mappings()
    return sorted(found, key=lambda row: (order[row["session_id"]], row["seq"]))
