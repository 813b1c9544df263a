"""Databases of a server with our tables in them, made once a process and emptied after each test.

The tables take a server longer than most of a test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Base
from celery_cascade.persistence.schema import VERSION_TABLE
from support import services

FRESH = {"postgresql": services.fresh_postgresql_url, "mariadb": services.fresh_mariadb_url}
KEPT = {"cascade_meta", VERSION_TABLE}
Place = TypeVar("Place", str, Path)
_idle: dict[str, list[str]] = defaultdict(list)


@contextmanager
def migrated_url(kind: str) -> Iterator[str]:
    """A database of our own with our tables, which hold nothing."""
    url = _idle[kind].pop() if _idle[kind] else migrated(services.kept.enter_context(FRESH[kind]()))
    yield url
    services.end_connections(url)
    if _emptied(url):
        _idle[kind].append(url)


def migrated(place: Place) -> Place:
    """A database, or an SQLite file, with our tables in it from now on."""
    database = Database(place, null_pool=True)
    migrate.upgrade(database)
    database.dispose()
    return place


def _emptied(url: str) -> bool:
    """False: a test has left other tables behind, and nobody else is to have them."""
    database = Database(url, null_pool=True)
    ours = set(Base.metadata.tables) | KEPT
    with database.engine.begin() as connection:
        same = set(sa.inspect(connection).get_table_names()) == ours
        for table in reversed(Base.metadata.sorted_tables) if same else ():
            if table.name not in KEPT:
                connection.execute(table.delete())
    database.dispose()
    return same
