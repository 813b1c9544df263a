"""Stored values that cannot be read any more: which column of which row (R121). For `doctor`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Table, Text, func, select, type_coerce

from celery_cascade.persistence.database import Database
from celery_cascade.persistence.surroundings import lacks_json
from celery_cascade.persistence.tables import (
    attempts,
    context_changes,
    definitions,
    heads,
    messages,
    sessions,
    signals,
    steps,
)

#: Rows of a table that are looked at where the database cannot say which text is JSON (PostgreSQL before 16).
MOST = 20_000

_STEP = ("session_id", "step")
_JSON: tuple[tuple[Table, Sequence[str], Sequence[str]], ...] = (
    (sessions, ("session_id",), ("input_data", "tags")),
    (heads, ("session_id",), ("output", "error", "context_variables", "plan_data")),
    (steps, _STEP, ("call", "output", "error", "context_delta")),
    (attempts, _STEP, ("error",)),
    (messages, _STEP, ("content", "extra")),
    (context_changes, _STEP, ("delta",)),
    (signals, ("session_id",), ("payload",)),
)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that cannot be read. `session` is None for a definition, which several may share."""

    table: str
    column: str
    session: str | None
    step: str | None
    why: str

    def __str__(self) -> str:
        where = f"session {self.session}" if self.session else "a definition"
        return f"{where}{f': step {self.step!r}' if self.step else ''}: {self.table}.{self.column} {self.why}"


def unreadable(db: Database, limit: int = 20) -> list[Unreadable]:
    """The first of them; empty if there are none."""
    found: list[Unreadable] = []
    by_itself = db.family == "mysql" or (db.family == "sqlite" and not lacks_json(db))
    with db.read() as connection:
        for value in _all(connection, by_itself, limit):
            found.append(value)
            if len(found) >= limit:
                break
    return found


def _all(connection: Connection, by_itself: bool, limit: int) -> Iterator[Unreadable]:
    for table, keys, columns in _JSON:
        for name in columns:
            yield from _bad_json(connection, by_itself, table.c[name], [table.c[key] for key in keys], limit)
    for row in connection.execute(select(definitions.c.digest, definitions.c.body, definitions.c.cascade_id)):
        if hashlib.sha256(bytes(row.body)).hexdigest() != row.digest:
            yield Unreadable("cascade_definitions", "body", None, None, f"of {row.cascade_id!r} was changed or damaged")


def _bad_json(
    connection: Connection, by_itself: bool, column: Column[Any], keys: Sequence[Column[Any]], limit: int
) -> Iterator[Unreadable]:
    """`by_itself`: the database can say which text is JSON."""
    if not by_itself:
        if connection.dialect.name == "postgresql" and column.name in ("context_variables", "plan_data"):
            return  # a type of its own, which takes nothing else
        statement = select(*keys, type_coerce(column, Text())).where(column.is_not(None)).limit(MOST)
        rows = [row for row in connection.execute(statement) if not _is_json(str(row[-1]))][:limit]
    else:
        bad = func.json_valid(column) == 0
        rows = list(connection.execute(select(*keys).where(column.is_not(None), bad).limit(limit)))
    for row in rows:
        step = row[1] if len(keys) > 1 else None
        yield Unreadable(column.table.name, column.name, row[0], step, "is no JSON")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
