"""A store with as many sessions as after years, written by the database itself: a million in a minute or two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, NullPool, create_engine, insert, inspect, text

from celery_cascade.definition.cascade import Source
from celery_cascade.persistence import migrate, tables
from celery_cascade.persistence.database import Database

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
APART = 30  #: seconds between two sessions
CHUNK = {"sqlite": 50_000, "postgresql": 50_000, "mysql": 250_000}
#: What half of all sessions ran, so that they can be forked and run again. Its tasks: `shop.charge`, `shop.ship`.
ORDER = Source(
    body=b"""cascade: order
steps:
  - {id: charge, task: shop.charge}
  - {id: ship, task: shop.ship, needs: [charge]}
""",
    format="yaml",
)
#: For a store that nobody else has: no waiting for the disk, no look at what refers to what.
_IN_HASTE = {
    "sqlite": ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -400000"),
    "postgresql": ("SET synchronous_commit = off", "SET session_replication_role = replica"),
    "mysql": ("SET foreign_key_checks = 0", "SET unique_checks = 0"),
}
TABLES = (tables.sessions, tables.heads, tables.steps, tables.tags)
#: InnoDB keeps rows by their key, which is random.
_ORDER = {"sqlite": "", "postgresql": "", "mysql": " ORDER BY 1"}
_ANALYZE = {"sqlite": "ANALYZE {}", "postgresql": "VACUUM ANALYZE {}", "mysql": "ANALYZE TABLE {}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """How one kind of database says it; `n` is the number of a session, 0 the oldest."""

    numbers: str
    moment: str
    hex: str
    join: str


_WORDS = {
    "sqlite": _Words(
        numbers="(WITH RECURSIVE c(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c WHERE n < {last})"
        " SELECT n FROM c)",
        moment="strftime('%Y-%m-%d %H:%M:%f000', {begin} + {n} * {apart}, 'unixepoch')",
        hex="printf('%08x', {0})",
        join="{0} || {1} || {2}",
    ),
    "postgresql": _Words(
        numbers="(SELECT n FROM generate_series({first}::bigint, {last}::bigint) AS g(n))",
        moment="to_timestamp({begin} + {n} * {apart})",
        hex="lpad(to_hex({0}), 8, '0')",
        join="{0} || {1} || {2}",
    ),
    "mysql": _Words(
        numbers="(SELECT seq AS n FROM seq_{first}_to_{last})",
        moment="timestampadd(SECOND, {n} * {apart}, '2025-01-01')",
        hex="lpad(lower(hex({0})), 8, '0')",
        join="concat({0}, {1}, {2})",
    ),
}


def moment_of(number: int) -> datetime:
    """When a session began."""
    return BEGIN + timedelta(seconds=number * APART)


def id_of(number: int) -> str:
    """Its id, scattered as random ones are."""
    return f"{number * 2654435761 % 4294967296:08x}-{number}"


def fill(url: str, count: int) -> Database:
    """A new store with so many sessions.

    One in a hundred has failed, 200 run, one in fifty of the oldest tenth waits, the others are completed. Half are of
    one cascade, whose definition is stored, the others of fifty; ten make a tree; each has two steps, inputs of 200
    bytes and every other field.
    """
    database = Database(url)
    migrate.upgrade(database)
    statements = _statements(_WORDS[database.family], count)
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        about = {"digest": ORDER.digest, "cascade_id": "order", "format": ORDER.format, "body": ORDER.body}
        connection.execute(insert(tables.definitions), about)
        for word in _IN_HASTE[database.family]:
            connection.execute(text(word)).close()
        with _sorted_load(connection, database.family):
            for first in range(0, count, CHUNK[database.family]):
                last = min(first + CHUNK[database.family], count) - 1
                numbers = _WORDS[database.family].numbers.format(first=first, last=last)
                for statement in statements:
                    said = statement.replace("NUMBERS", numbers).replace(":", "\\:")
                    connection.execute(text(said + _ORDER[database.family])).close()
        for table in TABLES:
            connection.execute(text(_ANALYZE[database.family].format(table.name))).close()
    return database


@contextmanager
def _sorted_load(connection: Connection, family: str) -> Iterator[None]:
    """InnoDB makes indexes by sorting if the rows are there first; row by row in small memory they take an hour."""
    indexes = [index for table in TABLES for index in table.indexes] if family == "mysql" else []
    there = {found["name"] for table in TABLES for found in inspect(connection).get_indexes(table.name)}
    indexes = [index for index in indexes if index.name in there]
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)


def _statements(words: _Words, count: int) -> list[str]:
    def joined(*parts: str) -> str:
        return words.join.format(*parts)

    def identity(number: str) -> str:
        return joined(words.hex.format(f"(({number}) * 2654435761) % 4294967296"), "'-'", _text(words, f"({number})"))

    def label(before: str, number: str) -> str:
        return joined(f"'{before}'", "''", _text(words, f"({number})"))

    moment = words.moment.format(begin=int(BEGIN.timestamp()), n="n", apart=APART)
    this, root = identity("n"), identity("n - n % 10")
    status = (
        f"CASE WHEN n >= {count - 200} THEN 'active' WHEN n % 50 = 3 AND n < {count // 10} THEN 'suspended' "
        "WHEN n % 100 = 7 THEN 'failed' ELSE 'completed' END"
    )
    inputs = joined(
        label('{"order_id":', "n"), "',\"customer\":'", joined("'\"ann'", _text(words, "(n % 5000)"), "'\",'")
    )
    inputs = joined(inputs, f'\'"note":"{"x" * 140}"\'', "'}'")
    error = joined('\'{"type":"ValueError","message":"no stock of \'', _text(words, "(n % 97)"), "'\"}'")
    cascade = f"CASE WHEN n % 2 = 0 THEN 'order' ELSE {label('cascade-', '(n / 2) % 50')} END"
    if words is _WORDS["mysql"]:
        cascade = cascade.replace("(n / 2)", "(n DIV 2)")
    ended_as = f"CASE WHEN ({status}) = 'failed' THEN 'failed' ELSE 'succeeded' END"
    ended = f"CASE WHEN ({status}) IN ('failed', 'completed') THEN {moment} END"
    tail = "FROM NUMBERS numbers"
    step = "session_id, step, item, status, task, output, finished_at, queued_at, version"
    shipped = f"CASE WHEN ({status}) IN ('failed', 'completed') THEN {ended_as} ELSE 'pending' END"
    rows = {
        "cascade_sessions (session_id, cascade_id, input_data, parent_session_id, root_session_id, depth, forked_from, "
        "execution_key, thread_id, resource_id, created_at, definition_digest, definition_format)": (
            f"{this}, {cascade}, {inputs}, CASE WHEN n % 10 > 0 THEN {root} END, {root}, "
            f"CASE WHEN n % 10 > 0 THEN 1 ELSE 0 END, CASE WHEN n % 100 = 50 THEN {identity('n - 1')} END, "
            f"{label('k', 'n % 100')}, {label('t', 'n % 100000')}, {label('r', 'n % 1000')}, {moment}, "
            f"CASE WHEN n % 2 = 0 THEN '{ORDER.digest}' END, CASE WHEN n % 2 = 0 THEN '{ORDER.format}' END {tail}"
        ),
        "session_states (id, session_id, mode, status, current_phase, current_step, open_steps, total_steps, error, "
        "created_at, started_at, updated_at, finished_at, version)": (
            f"{label('h', 'n')}, {this}, CASE WHEN n % 1000 = 5 THEN 'audit' ELSE 'cascade' END, {status}, 'ship', 1, "
            f"CASE WHEN ({status}) = 'active' THEN 1 ELSE 0 END, 2, CASE WHEN n % 100 = 7 THEN {error} END, {moment}, "
            f"{moment}, {moment}, {ended}, 3 {tail}"
        ),
        f"session_steps ({step})": (
            f"{this}, 'charge', -1, 'succeeded', 'shop.charge', '\"ok\"', {moment}, {moment}, 2 {tail}"
        ),
        f"session_steps ({step}) ": f"{this}, 'ship', -1, {shipped}, 'shop.ship', NULL, {ended}, {moment}, 3 {tail}",
        "session_tags (session_id, tag, created_at)": f"{this}, 'nightly', {moment} {tail} WHERE n % 10 = 0",
        "session_tags (session_id, tag, created_at) ": (
            f"{this}, {label('day-', 'n % 1000')}, {moment} {tail} WHERE n % 5 = 0"
        ),
    }
    return [f"INSERT INTO {into} SELECT {values}" for into, values in rows.items()]


def _text(words: _Words, number: str) -> str:
    """A number where text is wanted: PostgreSQL joins no numbers."""
    return f"CAST({number} AS CHAR(20))" if words is _WORDS["mysql"] else f"CAST({number} AS VARCHAR(20))"
