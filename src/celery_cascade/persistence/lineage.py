"""Which session a session was forked from, and that one, and so on."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.tables import sessions

#: More forks of forks than anybody makes; the end of a circle that somebody wrote by hand.
MOST = 1000
_ORIGIN = select(
    sessions.c.session_id,
    sessions.c.forked_from,
    sessions.c.forked_step,
    sessions.c.forked_version,
    sessions.c.trigger,
).where(sessions.c.session_id == bindparam("b_session"))


def lineage(db: Database, session_id: str) -> list[Row]:
    """The session itself, the one it was forked from or is a rerun of, and so on up to the first.

    An origin that was deleted since is the last that is named, by the session before it.
    """
    found: list[Row] = []
    wanted: str | None = session_id
    with db.read() as conn:
        while wanted is not None and len(found) < MOST:
            row = conn.execute(_ORIGIN, {"b_session": wanted}).mappings().one_or_none()
            if row is None:
                break
            found.append(row)
            wanted = row["forked_from"]
    return found
