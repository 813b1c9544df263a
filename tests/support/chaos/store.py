"""What a run left in its store, read at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.tables import actions, attempts, heads, sessions, steps

Rows = Sequence[Any]


@dataclass(frozen=True)
class Left:
    """Rows of the tables."""

    sessions: Rows
    heads: Rows
    steps: Rows
    attempts: Rows
    actions: Rows


def read(url: str) -> Left:
    database = Database(url, null_pool=True)
    with database.read() as connection:
        tables = (sessions, heads, steps, attempts, actions)
        return Left(*(connection.execute(sa.select(table)).all() for table in tables))


def unfinished(url: str) -> int:
    """Sessions that have not ended."""
    database = Database(url, null_pool=True)
    with database.read() as connection:
        count = sa.select(sa.func.count()).select_from(heads).where(heads.c.finished_at.is_(None))
        return int(connection.execute(count).scalar() or 0)
