"""Which sessions something in a session may come from: its turns before, what it was forked from, who started it."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from celery_cascade.persistence.conversations import up_to_turn
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.deleting import chunks
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.tables import sessions

_ROWS = select(
    sessions.c.session_id,
    sessions.c.definition_digest,
    sessions.c.forked_from,
    sessions.c.parent_session_id,
    sessions.c.conversation_id,
    sessions.c.turn,
).where(sessions.c.session_id.in_(bindparam("b_ids", expanding=True)))


def with_forebears(db: Database, session_ids: Iterable[str]) -> dict[str, str | None]:
    """Session -> digest of its definition, for these and all that they come from, as far as those are there."""
    found: dict[str, str | None] = {}
    with db.read() as conn:
        wanted = set(session_ids)
        while wanted:
            rows = [row for some in chunks(sorted(wanted)) for row in conn.execute(_ROWS, {"b_ids": some}).mappings()]
            found |= {row["session_id"]: row["definition_digest"] for row in rows}
            wanted = _before(conn, rows) - found.keys()
    return found


def _before(conn: Connection, rows: Iterable[Row]) -> set[str]:
    """What these sessions come from by one step; of a conversation all that was before."""
    found: set[str] = set()
    turns: dict[str, int] = {}
    for row in rows:
        found.update(one for one in (row["forked_from"], row["parent_session_id"]) if one is not None)
        conversation = row["conversation_id"]
        if conversation is not None:
            turns[conversation] = max(row["turn"], turns.get(conversation, 0))
    for conversation, turn in turns.items():
        found.update(up_to_turn(conn, conversation, turn - 1))
    return found
