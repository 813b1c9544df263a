"""Salvaging the rows of a damaged SQLite store into a new one (D4). The damaged file is only read.

Each table is read by SQLite from its first row forward and from its last row backward, up to the damage. What lies
beyond is looked for page by page (see `sqlite_pages`). The new store's own constraints decide what is a valid row.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery_cascade.persistence.schema import OUR_TABLES, TABLES
from celery_cascade.persistence.sqlite_file import read_only
from celery_cascade.persistence.sqlite_pages import Pages

#: Not carried over: when a sweep last began is of no use to a new store.
_LEFT = ("cascade_sweeps",)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
#: The column that tells which of two copies of a row is the later one.
_VERSIONED = ("session_states", "session_steps")
_EACH = 10_000  # rows between two words of progress


@dataclass
class Salvaged:
    """What could be saved.

    Attributes:
        rows: table -> rows in the new store.
        refused: table -> rows that were read but are no valid ones: cut, or without the row that they belong to.
        damaged: tables of which a part could not be read.
        by_shape: the schema was lost, so rows were told apart by their columns; some may be out of date.
        strangers: tables of other programs; they stay in the old file.
    """

    rows: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    by_shape: bool = False
    strangers: list[str] = field(default_factory=list)


def salvage(damaged: Path, into: Path, progress: Callable[[str, int], None] = lambda table, rows: None) -> Salvaged:
    """Copy what can be read of `damaged` into `into`, a store that was just made.

    Args:
        damaged: the file; its -wal is read too, nothing of it is changed.
        into: migrated, without sessions.
        progress: called now and then with a table and how many rows of it were copied so far.
    """
    found = Salvaged()
    with closing(sqlite3.connect(into, isolation_level=None)) as new:
        new.execute("PRAGMA foreign_keys = OFF")  # rows come in any order; see `_drop_orphans`
        new.execute("BEGIN")
        copies = {name: _Copy(new, name, found, progress) for name in TABLES if name not in _LEFT}
        _by_sqlite(damaged, copies, found)
        if found.damaged:
            _by_page(damaged, [copies[name] for name in found.damaged])
        _drop_orphans(new, found)
        for name in copies:
            found.rows[name] = new.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
        new.execute("COMMIT")
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return found


class _Copy:
    """Writes rows of one table into the new store."""

    def __init__(self, new: sqlite3.Connection, table: str, found: Salvaged, progress: Callable[[str, int], None]):
        self._new, self.table, self._found, self._progress = new, table, found, progress
        info = new.execute(f"PRAGMA table_info({table})").fetchall()
        self.columns = [row[1] for row in info]
        self._kinds = [(row[2].upper(), bool(row[3])) for row in info]
        self._done = 0

    def write(self, columns: Sequence[str], values: Sequence[Any]) -> None:
        """One row; of two copies the later one stays."""
        marks = ", ".join("?" * len(columns))
        conflict = "DO NOTHING"
        if self.table in _VERSIONED:
            changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
            conflict = f"DO UPDATE SET {changes} WHERE excluded.version > {self.table}.version"
        elif self.table == "cascade_meta":  # the store's id: messages that are under way name it
            conflict = "DO UPDATE SET value = excluded.value"
        words = f"INSERT INTO {self.table} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT {conflict}"  # noqa: S608
        try:
            self._new.execute(words, tuple(values))
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, OverflowError, UnicodeError):
            self.refuse()
            return
        self._done += 1
        if self._done % _EACH == 0:
            self._progress(self.table, self._done)

    def refuse(self) -> None:
        """Count a row that is not valid."""
        self._found.refused[self.table] = self._found.refused.get(self.table, 0) + 1

    def fits(self, values: Sequence[Any]) -> bool:
        """Whether a row without a name could be one of this table's."""
        if len(values) != len(self._kinds):
            return False
        return all(_fits(value, kind, required) for value, (kind, required) in zip(values, self._kinds, strict=True))


def _fits(value: Any, kind: str, required: bool) -> bool:
    if value is None:
        return not required
    if kind.startswith("INT"):
        return isinstance(value, int)
    if kind == "BLOB":
        return isinstance(value, bytes)
    if kind == "DATETIME":
        return isinstance(value, str) and bool(_MOMENT.match(value))
    if kind.startswith("VARCHAR"):
        return isinstance(value, str) and len(value) <= int(kind[8:-1])
    return isinstance(value, str) or (kind == "JSON" and isinstance(value, (int, float)))


def _by_sqlite(damaged: Path, copies: dict[str, _Copy], found: Salvaged) -> None:
    """Whatever SQLite gives; notes in `found.damaged` where it gave up."""
    try:
        old = read_only(damaged)
    except sqlite3.DatabaseError:
        found.damaged, found.by_shape = list(copies), True
        return
    with closing(old):
        try:
            names = {row[0] for row in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.DatabaseError:
            found.damaged, found.by_shape = list(copies), True
            return
        found.strangers = sorted(name for name in names - OUR_TABLES if not name.startswith("sqlite_"))
        old.text_factory = bytes  # one text that is no UTF-8 must not end the reading
        for name, copy in copies.items():
            if name in names and not _copy_table(old, copy):
                found.damaged.append(name)


def _copy_table(old: sqlite3.Connection, copy: _Copy) -> bool:
    """Copy forward, and backward from the end if there is damage in between. Whether all of it was read."""
    last = 0
    try:
        known = {row[1].decode() for row in old.execute(f"PRAGMA table_info({copy.table})")}
        columns = [name for name in copy.columns if name in known]
        for rowid, *values in _read(old, copy.table, columns, "ASC", 0):
            _write(copy, columns, values)
            last = rowid
    except sqlite3.DatabaseError:
        try:
            for _, *values in _read(old, copy.table, columns, "DESC", last):
                _write(copy, columns, values)
        except sqlite3.DatabaseError:
            pass
        return False
    return True


def _read(old: sqlite3.Connection, table: str, columns: Sequence[str], order: str, after: int) -> Iterator[Any]:
    listed = ", ".join(columns)
    words = f"SELECT rowid, {listed} FROM {table} WHERE rowid > ? ORDER BY rowid {order}"  # noqa: S608
    return old.execute(words, (after,))


def _write(copy: _Copy, columns: Sequence[str], values: Sequence[Any]) -> None:
    try:
        texts = [
            value.decode() if isinstance(value, bytes) and name != "body" else value
            for name, value in zip(columns, values, strict=True)
        ]
    except UnicodeDecodeError:
        copy.refuse()
        return
    copy.write(columns, texts)


def _by_page(damaged: Path, copies: Sequence[_Copy]) -> None:
    for values in Pages(damaged).rows():
        for copy in copies:
            if copy.fits(values):
                copy.write(copy.columns, values)
                break


def _drop_orphans(new: sqlite3.Connection, found: Salvaged) -> None:
    """Rows whose session is lost; what belongs to them is found at the next look. A session whose definition is lost
    stays without it: its inputs and outputs are there to be read.
    """
    while orphans := new.execute("PRAGMA foreign_key_check").fetchall():
        for table, rowid, parent, _ in orphans:
            if parent == "cascade_definitions":
                _without_definition(new, rowid)
            elif new.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,)).rowcount:  # noqa: S608
                found.refused[table] = found.refused.get(table, 0) + 1


def _without_definition(new: sqlite3.Connection, rowid: int) -> None:
    """Written anew, since sessions are immutable."""
    cursor = new.execute("SELECT * FROM cascade_sessions WHERE rowid = ?", (rowid,))
    columns = [name for name, *_ in cursor.description]
    row = dict(zip(columns, cursor.fetchone(), strict=True)) | {"definition_digest": None}
    new.execute("DELETE FROM cascade_sessions WHERE rowid = ?", (rowid,))
    marks = ", ".join("?" * len(columns))
    words = f"INSERT INTO cascade_sessions ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
    new.execute(words, tuple(row.values()))
