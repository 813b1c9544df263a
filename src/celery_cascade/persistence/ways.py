"""How a list is walked: at which index it begins, so that a page of a million sessions costs what a page of ten does.

A list is sorted by the moment at which its sessions began. The index that gives this order for what is asked for
leads; every other condition is a look at the rows that it comes by. Planners guess here, and one wrong guess reads
all that ever ran, so it is said to them: SQLite and MariaDB are told, PostgreSQL is led by the ORDER BY.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, FromClause, Select, Table, and_, func, literal, or_, select

from celery_cascade.persistence.finding import SessionFilter, conditions, tagged
from celery_cascade.persistence.planner import bare, led
from celery_cascade.persistence.tables import heads, sessions, tags
from celery_cascade.persistence.types import StoredMoment, UtcDateTime

#: As many rows are read and sorted at once if no index has them in order; of more the newest are looked through.
FEW = 5_000
#: A cascade, or a set of files, with no more sessions is looked through for a state: the state may have very many.
_RARE = 500
#: By which the head or a tag may have been written earlier or later than its session, at most.
_SLACK = timedelta(days=1)
#: With this one among them the states are most of all sessions, and a cascade or a mode is fewer.
_COMMON = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where a list begins.

    Args:
        leads: the column by which rows are found; of the table that is read first.
        index: of this table, by which it is read.
        status: of the heads that are read.
        sort: the index does not have the order: all that it finds is read and sorted.
        order: the table whose moments are the order, if it is not the one that `sort` or the index says.
    """

    leads: Any
    index: str
    status: str | None = None
    sort: bool = False
    order: Table | None = None

    @property
    def table(self) -> Table:
        """Which is read first."""
        return self.leads.table  # type: ignore[no-any-return]

    @property
    def place(self) -> tuple[Any, Any]:
        """The two columns by which the list is sorted; the second is the one that the index ends with on InnoDB."""
        table = self.order if self.order is not None else (sessions if self.sort else self.table)
        return table.c.created_at, table.c.id if table is heads else table.c.session_id


_COLUMNS = sessions.c
_BY_AGE = Way(leads=_COLUMNS.created_at, index="ix_cascade_sessions_created_at")
_BY_ID = Way(leads=_COLUMNS.session_id, index="PRIMARY", sort=True)
_BY_PARENT = Way(leads=_COLUMNS.parent_session_id, index="ix_cascade_sessions_parent_session_id", sort=True)
_BY_ORIGIN = Way(leads=_COLUMNS.forked_from, index="ix_cascade_sessions_forked_from", sort=True)
_BY_ROOT = Way(leads=_COLUMNS.root_session_id, index="ix_cascade_sessions_root_session_id", sort=True)
_BY_THREAD = Way(leads=_COLUMNS.thread_id, index="ix_cascade_sessions_thread_id_created_at")
_BY_TAG = Way(leads=tags.c.tag, index="ix_session_tags_tag_created_at")
_BY_RESOURCE = Way(leads=_COLUMNS.resource_id, index="ix_cascade_sessions_resource_id_created_at")
_BY_CASCADE = Way(leads=_COLUMNS.cascade_id, index="ix_cascade_sessions_cascade_id_created_at")
_BY_FILES = Way(leads=_COLUMNS.execution_key, index="ix_cascade_sessions_execution_key_created_at")
_BY_MODE = Way(leads=heads.c.mode, index="idx_session_states_mode", sort=True)


def _by_status(status: str) -> Way:
    return Way(leads=heads.c.status, index="ix_session_states_status_created_at", status=status)


def ways(conn: Connection, wanted: SessionFilter) -> list[Way]:
    """The ways whose pages, put together, are the page; several states have one each."""
    found = _by_index(wanted)
    if found and found[0].status is not None:
        return _by_what_is_rare(conn, wanted) or found
    in_order = [way.table for way in found] == [sessions] and not found[0].sort
    if in_order and wanted.mode is not None and _few(conn, _BY_MODE.leads, wanted.mode):
        return [_BY_MODE]
    return found


def _by_what_is_rare(conn: Connection, wanted: SessionFilter) -> list[Way]:
    """Instead of the states, in the same order: where a page ended, the next one begins by whichever way."""
    for value, way in ((wanted.execution_key, _BY_FILES), (wanted.cascade, _BY_CASCADE)):
        if value is not None and _few(conn, way.leads, value, _RARE):
            return [replace(way, sort=True, order=heads)]
    return []


def order_of(wanted: SessionFilter) -> str:
    """The table whose moments give a list its order: it depends on what is asked for, so a cursor bears it."""
    found = _by_index(wanted)
    return found[0].place[0].table.name if found else sessions.name


def _by_index(wanted: SessionFilter) -> list[Way]:
    """What names few sessions comes first, whatever else is asked for."""
    for value, way in (
        (wanted.prefix, _BY_ID),
        (wanted.parent, _BY_PARENT),
        (wanted.forked_from, _BY_ORIGIN),
        (wanted.root, _BY_ROOT),
        (wanted.thread_id, _BY_THREAD),
        (wanted.tags or None, _BY_TAG),
        (wanted.resource_id, _BY_RESOURCE),
    ):
        if value is not None:
            return [way]
    statuses = wanted.statuses
    fewer = wanted.execution_key is not None or wanted.cascade is not None
    if statuses is not None and (_COMMON not in statuses or not fewer):
        return [_by_status(status) for status in dict.fromkeys(statuses)]
    if wanted.execution_key is not None:
        return [_BY_FILES]
    return [_BY_AGE if wanted.cascade is None else _BY_CASCADE]


def _few(conn: Connection, column: Any, value: str, most: int = FEW) -> bool:
    some = select(literal(1).label("one")).where(column == value).limit(most + 1).subquery()
    return int(conn.execute(select(func.count()).select_from(some)).scalar_one()) <= most


def joined(way: Way) -> FromClause:
    """Sessions and heads, to be read from the table where the way begins."""
    if way.table is sessions:
        return sessions.join(heads, heads.c.session_id == bare(sessions.c.session_id))
    if way.table is heads:
        return heads.join(sessions, sessions.c.session_id == bare(heads.c.session_id))
    found = tags.join(sessions, sessions.c.session_id == bare(tags.c.session_id))
    return found.join(heads, heads.c.session_id == bare(sessions.c.session_id))


def found_by(way: Way, wanted: SessionFilter, columns: Iterable[Any]) -> Select[Any]:
    """What a way finds, in no order and without a limit."""
    statement = select(*columns).select_from(joined(way)).where(*conditions(wanted, way.leads), *_of_way(way, wanted))
    return _told(statement, way, wanted)


def places_of(way: Way, wanted: SessionFilter) -> Select[Any]:
    """A page of what a way finds, newest first: ids, with their places as `listed_at` and `listed_id`."""
    at, by = way.place
    places = (StoredMoment.of(at).label("listed_at"), by.label("listed_id"))
    statement = found_by(way, wanted, (sessions.c.session_id, *places))
    if wanted.before is not None:
        given, last = wanted.before
        moment = literal(given, UtcDateTime() if isinstance(given, datetime) and given.tzinfo else StoredMoment())
        # A bound for the index; a comparison of rows is none on MySQL.
        statement = statement.where(at <= moment, or_(at < moment, by < last))
    first = bare(at) if way.sort else at
    return statement.order_by(first.desc(), by.desc()).limit(wanted.limit)


def _of_way(way: Way, wanted: SessionFilter) -> list[Any]:
    found: list[Any] = []
    if way.status is not None:
        found.append(led(heads.c.status == way.status))
    elif wanted.statuses is not None:
        found.append(bare(heads.c.status).in_(list(wanted.statuses)))
    if way.table is tags:
        found.append(led(tags.c.tag == wanted.tags[0]))
    found += [tagged(tag) for tag in wanted.tags[1 if way.table is tags else 0 :]]
    if way.table is not sessions and not way.sort:  # where the walk along the index begins and ends
        at = way.place[0]
        if wanted.since is not None:
            found.append(at >= wanted.since - _SLACK)
        if wanted.until is not None:
            found.append(at < wanted.until + _SLACK)
    return [and_(*found)] if found else []


def _told(statement: Select[Any], way: Way, wanted: SessionFilter) -> Select[Any]:
    """With the words for MySQL and MariaDB: the order of the tables, and the index of the first.

    To look into texts without a bound, all rows are read as they lie: by age they would be jumped to one by one.
    """
    all_of_them = way is _BY_AGE and wanted.by_text and wanted.since is None and wanted.until is None
    told = f"IGNORE INDEX ({way.index})" if all_of_them else f"FORCE INDEX ({way.index})"
    for dialect in ("mysql", "mariadb"):
        statement = statement.prefix_with("STRAIGHT_JOIN", dialect=dialect).with_hint(way.table, told, dialect)
    return statement
