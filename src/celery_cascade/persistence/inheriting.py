"""What a session takes over from the one that it continues: the context, and seldom the messages (D12)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, literal, null, select

from celery_cascade import deltas
from celery_cascade.persistence.context import add_change, plain_context
from celery_cascade.persistence.conversations import Place, begun_before, place_of, up_to
from celery_cascade.persistence.rows import NewSession
from celery_cascade.persistence.tables import messages, sessions
from celery_cascade.persistence.threads import Turn


def with_inherited_context(conn: Connection, new: NewSession, turn: Turn) -> NewSession:
    """The session that is to be written, with the context that it goes on with.

    What the start says itself is laid over what is taken over, key by key.
    """
    taken = None if turn.source is None else plain_context(conn, turn.source)
    if not taken:
        return new
    given = {} if new.context is None else json.loads(new.context)
    return replace(new, context=json.dumps(taken | given))


def inherit_late(conn: Connection, session_id: str, version: int, clock: dict[str, Any]) -> None:
    """The context for a session whose turn has come; what is in its own already stays. Its head is locked."""
    place = place_of(conn, session_id)
    source = None if place is None else begun_before(conn, place)
    taken = None if source is None else plain_context(conn, source)
    if taken:
        own = plain_context(conn, session_id)
        delta = deltas.diff(own, {**taken, **own})
        if delta:
            add_change(conn, session_id, version, deltas.written(delta), clock)


_COPY = insert(messages).from_select(
    ["session_id", "seq", "role", "content", "extra", "step", "created_at", "version"],
    select(
        bindparam("b_new", type_=messages.c.session_id.type),
        func.row_number().over(order_by=(sessions.c.turn, messages.c.session_id, messages.c.seq)),
        messages.c.role,
        messages.c.content,
        messages.c.extra,
        null(),  # a step of another session
        messages.c.created_at,
        literal(1),
    )
    .select_from(messages.join(sessions, sessions.c.session_id == messages.c.session_id))
    .where(messages.c.session_id.in_(bindparam("b_turns", expanding=True))),
)


def copy_messages(conn: Connection, session_id: str, place: Place) -> None:
    """What was said up to this place, as the beginning of a conversation that goes another way."""
    conn.execute(_COPY, {"b_new": session_id, "b_turns": up_to(conn, place)})
