"""Lists: a page of sessions, all pages one after the other, and how many there are. No payload is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import Select, func, literal, select, union_all

from celery_cascade.persistence.columns import HEAD_COLUMNS, SESSION_COLUMNS
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.finding import Place, SessionFilter
from celery_cascade.persistence.rows import Row
from celery_cascade.persistence.tables import heads, sessions
from celery_cascade.persistence.ways import found_by, places_of, ways

_COLUMNS = (*SESSION_COLUMNS, *HEAD_COLUMNS)


def session_rows(db: Database, wanted: SessionFilter) -> list[Row]:
    """A page of sessions, newest first, without inputs and outputs. Rows bear their places in the list, too.

    Which they are is found first, and their columns are read then: not those of all that were passed by.
    """
    with db.read() as conn:
        found = [places_of(way, wanted) for way in ways(conn, wanted)]
        return list(conn.execute(_rows_at(found, wanted.limit)).mappings()) if found else []


def _rows_at(found: list[Select[Any]], limit: int) -> Select[Any]:
    places = found[0].subquery("places")
    if len(found) > 1:
        every = union_all(*(select(page.subquery()) for page in found)).subquery()
        newest = select(every).order_by(every.c.listed_at.desc(), every.c.listed_id.desc()).limit(limit)
        places = newest.subquery("places")
    tables = places.join(sessions, sessions.c.session_id == places.c.session_id)
    tables = tables.join(heads, heads.c.session_id == places.c.session_id)
    columns = (*_COLUMNS, places.c.listed_at, places.c.listed_id)
    ordered = select(*columns).select_from(tables).order_by(places.c.listed_at.desc(), places.c.listed_id.desc())
    return ordered.prefix_with("STRAIGHT_JOIN", dialect="mysql").prefix_with("STRAIGHT_JOIN", dialect="mariadb")


def place_of(row: Row) -> Place:
    """Where a list goes on after this row of it; for `SessionFilter.before` of the same filter."""
    return row["listed_at"], row["listed_id"]


def all_rows(db: Database, wanted: SessionFilter, size: int = 500) -> Iterator[Row]:
    """Every session that the filter finds, read page by page, newest first; its limit is left aside.

    What begins meanwhile is not in it, and what changes meanwhile is in it once at most: the walk goes on by the
    moment at which sessions began, which never changes.
    """
    wanted = replace(wanted, limit=size)
    while rows := session_rows(db, wanted):
        yield from rows
        if len(rows) < size:
            return
        wanted = replace(wanted, before=place_of(rows[-1]))


def count_sessions(db: Database, wanted: SessionFilter, most: int | None = None) -> int:
    """How many sessions a filter finds, its limit and cursor left aside; with `most`, `most + 1` = more than that."""
    with db.read() as conn:
        found = [found_by(way, wanted, (literal(1).label("one"),)).limit(_beyond(most)) for way in ways(conn, wanted)]
        if not found:
            return 0
        every = union_all(*(select(part.subquery()) for part in found)).limit(_beyond(most)).subquery()
        return int(conn.execute(select(func.count()).select_from(every)).scalar_one())


def _beyond(most: int | None) -> int | None:
    return None if most is None else most + 1
