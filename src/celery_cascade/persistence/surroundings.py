"""What is around our tables, for `doctor`: others' tables, rows without their session, what SQLite can do."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.schema import OUR_TABLES

HOSTS_VERSION_TABLE = "alembic_version"


def foreign_tables(db: Database) -> list[str]:
    """The tables beside ours that somebody else has made, by name."""
    with db.read() as conn:
        return sorted(set(inspect(conn).get_table_names()) - OUR_TABLES)


def session_id_types(db: Database) -> dict[str, str]:
    """Table -> the type of its `session_id`, as the database tells it: all the same, or a foreign key may fail."""
    with db.read() as conn:
        inspector = inspect(conn)
        return {
            table: str(next(c["type"] for c in inspector.get_columns(table) if c["name"] == "session_id"))
            for table in ("cascade_sessions", "session_states", "session_steps", "session_messages")
            if inspector.has_table(table)
        }


def lost_rows(db: Database) -> dict[str, int]:
    """Table -> rows that refer to something which is not there. Only SQLite can have them.

    There a foreign key counts only on connections that say so, which the `sqlite3` program does not by itself.
    """
    if db.family != "sqlite":
        return {}
    with db.read() as conn:
        return dict(Counter(row[0] for row in conn.execute(text("PRAGMA foreign_key_check"))))


def lacks_json(db: Database) -> bool:
    """Whether this is an SQLite without JSON functions: none before 3.9, and left out of some later ones (R55).

    Nothing of ours needs them but the view `session_states_full`: values are kept as text.
    """
    if db.family != "sqlite":
        return False
    with db.read() as conn:
        try:
            conn.execute(text("SELECT json_quote('x')")).close()
        except DBAPIError:
            return True
    return False
