"""What sessions are about: their input `topic`, from the beginning of the inputs, so that lists read no payloads."""

from __future__ import annotations

import json
from collections.abc import Collection

from sqlalchemy import case, func, null, select

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.planner import contains
from celery_cascade.persistence.tables import sessions

#: Characters of the inputs that are looked at; a topic that begins beyond them is none.
LOOKED_AT = 2000
_LONGEST = 200
_read = json.JSONDecoder().raw_decode


def topics(db: Database, session_ids: Collection[str]) -> dict[str, str]:
    """Session -> its topic, for those that have one."""
    if not session_ids:
        return {}
    begin = func.substr(sessions.c.input_data, 1, LOOKED_AT)
    text = case((contains(begin, '"topic":'), begin), else_=null())
    statement = select(sessions.c.session_id, text.label("begin")).where(sessions.c.session_id.in_(list(session_ids)))
    with db.read() as conn:
        found = {row.session_id: topic_in(row.begin) for row in conn.execute(statement) if row.begin is not None}
    return {session: topic for session, topic in found.items() if topic}


def topic_in(text: str) -> str | None:
    """The text under the key `topic` of a JSON object, of which only the beginning may be there."""
    place = 1
    try:
        while text[place] == '"':
            key, place = _read(text, place)
            value, place = _read(text, place + 1)
            if key == "topic":
                return value[:_LONGEST] if isinstance(value, str) else None
            place += 1
    except (ValueError, IndexError, RecursionError):  # cut off, or damaged
        pass
    return None
