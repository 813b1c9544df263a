"""What goes over the wire: every statement and commit of a block of code, and faults put in on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

_BEGIN = ("BEGIN", "START TRANSACTION")
_READS = ("SELECT", "PRAGMA", "EXPLAIN")


@dataclass
class Traffic:
    """What was said to the database.

    Attributes:
        statements: (SQL, parameters), BEGIN and COMMIT left aside.
        commits: explicit ones, and statements that write outside of a transaction.
        compiled_anew: statements that SQLAlchemy did not find in its cache.
    """

    statements: list[tuple[str, Any]] = field(default_factory=list)
    commits: int = 0
    compiled_anew: list[str] = field(default_factory=list)

    @property
    def cost(self) -> tuple[int, int]:
        return len(self.statements), self.commits

    @property
    def size(self) -> int:
        """Characters of statements and parameters, lengths of the ids' digits included."""
        return sum(len(sql) + len(repr(parameters)) for sql, parameters in self.statements)


def is_begin(statement: str) -> bool:
    return statement.startswith(_BEGIN)


def is_read(statement: str) -> bool:
    return statement.lstrip().startswith(_READS)


@contextmanager
def watched() -> Iterator[Traffic]:
    """Record what this thread's connections say."""
    traffic, inside, me = Traffic(), [False], threading.get_ident()

    def before(_conn: Any, _cursor: Any, statement: str, parameters: Any, context: Any, _many: bool) -> None:
        if threading.get_ident() != me:
            return
        if is_begin(statement):
            inside[0] = True
            return
        traffic.statements.append((statement, parameters))
        if context.cache_hit.name != "CACHE_HIT":
            traffic.compiled_anew.append(f"{context.cache_hit.name}: {statement}")
        if not inside[0] and not is_read(statement):
            traffic.commits += 1

    def commit(_conn: Any) -> None:
        if threading.get_ident() == me:
            traffic.commits += 1
            inside[0] = False

    def rollback(_conn: Any) -> None:
        if threading.get_ident() == me:
            inside[0] = False

    handlers: list[tuple[str, Callable[..., None]]] = [
        ("before_cursor_execute", before),
        ("commit", commit),
        ("rollback", rollback),
    ]
    for name, handler in handlers:
        event.listen(Engine, name, handler)
    try:
        yield traffic
    finally:
        for name, handler in handlers:
            event.remove(Engine, name, handler)


class _Deadlock(Exception):
    sqlstate = "40P01"


def deadlock() -> OperationalError:
    return OperationalError("a statement", {}, _Deadlock("deadlock detected"))


def connection_lost() -> OperationalError:
    return OperationalError("a statement", {}, Exception("server closed the connection"), connection_invalidated=True)


@contextmanager
def deadlock_at(position: int) -> Iterator[list[str]]:
    """The statement at this position (from 0, BEGIN not counted) is refused, once. Yields what was refused."""
    refused: list[str] = []
    count = [0]

    def before(_conn: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if is_begin(statement):
            return
        if count[0] == position and not refused:
            refused.append(statement)
            raise deadlock()
        count[0] += 1

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield refused
    finally:
        event.remove(Engine, "before_cursor_execute", before)


@contextmanager
def lost_answers(times: int) -> Iterator[list[str]]:
    """The first commits go through, but their answers do not come back. Yields what was committed so."""
    lost: list[str] = []
    inside: set[int] = set()
    original = Connection.commit

    def after(conn: Connection, _cursor: Any, statement: str, *_more: Any) -> None:
        if is_begin(statement):
            inside.add(id(conn))
        elif id(conn) not in inside and not is_read(statement) and len(lost) < times:
            lost.append(statement)
            raise connection_lost()

    def commit(conn: Connection) -> None:
        original(conn)
        inside.discard(id(conn))
        if len(lost) < times:
            lost.append("COMMIT")
            raise connection_lost()

    event.listen(Engine, "after_cursor_execute", after)
    try:
        with mock.patch.object(Connection, "commit", commit):
            yield lost
    finally:
        event.remove(Engine, "after_cursor_execute", after)
