"""A migration as a life: it dies before its n-th statement or at its n-th crash point, all counted together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from celery_cascade.crash_points import arm
from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database
from celery_cascade.testing.points import CRASHED
from crash.lives import Where

_LOOKS = ("SELECT", "PRAGMA", "SHOW", "DESCRIBE", "SET", "BEGIN")


def upgrade(where: Where, number: int, dies_at: int) -> None:
    """Bring the store to the newest tables; `dies_at` 0 = live."""
    places = 0

    def place(name: str) -> None:
        nonlocal places
        places += 1
        with where.log(number).open("a") as log:
            log.write(f"{name}\n")
        if places == dies_at:
            os._exit(CRASHED)

    def before(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(_LOOKS):
            place(" ".join(statement.split())[:100])

    event.listen(sa.Engine, "before_cursor_execute", before)
    arm(lambda point, _: place(point.value))
    migrate.upgrade(Database(where.database_url, null_pool=True))


def places_of(log: Path) -> list[str]:
    """The statements and points of a migration that was told to live."""
    return log.read_text().splitlines()


def shape(database: Database) -> dict[str, Any]:
    """The tables, columns, indexes, views and triggers that are there."""
    triggers = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
        "mysql": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = database()",
    }
    with database.read() as connection:
        look = sa.inspect(connection)
        found: dict[str, Any] = {
            name: (
                sorted((column["name"], str(column["type"]), column["nullable"]) for column in look.get_columns(name)),
                sorted(str(index["name"]) for index in look.get_indexes(name)),
            )
            for name in look.get_table_names()
        }
        found["views"] = sorted(look.get_view_names())
        found["triggers"] = sorted(connection.execute(sa.text(triggers[database.family])).scalars())
    return found
