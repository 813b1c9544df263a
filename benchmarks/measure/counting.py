"""Counts what a process says to its database, by SQLAlchemy's events; the runner reads it from a shared file.

A BEGIN and a COMMIT are round trips, no statements. A statement that writes outside a transaction commits by itself.
Not seen: what a driver does of its own accord (the set-up of a new connection).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

_READS = ("SELECT", "PRAGMA", "SHOW")
_BEGINS = ("BEGIN", "START")


@dataclass
class Counts:
    """What was counted, of one process or several."""

    reads: float = 0
    writes: float = 0
    begins: float = 0
    commits: float = 0
    explicit_ends: float = 0  #: COMMIT and ROLLBACK that were sent

    @property
    def statements(self) -> float:
        return self.reads + self.writes

    @property
    def round_trips(self) -> float:
        return self.statements + self.begins + self.explicit_ends

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __truediv__(self, count: float) -> Counts:
        return Counts(*(getattr(self, f.name) / count for f in fields(self)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


_NAMES = [field.name for field in fields(Counts)]
_SHAPE = struct.Struct(f"={len(_NAMES)}q")


class _Shared:
    """This process's counters, in a file that others can read at any time; a child that is forked has its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = 0
        self._map: Any = None

    def add(self, name: str) -> None:
        if self._pid != os.getpid():
            self._open()
        at = 8 * _NAMES.index(name)
        (value,) = struct.unpack_from("=q", self._map, at)
        struct.pack_into("=q", self._map, at, value + 1)

    def _open(self) -> None:
        self._pid = os.getpid()
        with (self._folder / f"counts.{self._pid}").open("w+b") as file:
            file.write(bytes(_SHAPE.size))
            file.flush()
            self._map = mmap.mmap(file.fileno(), _SHAPE.size)


def install(folder: Path) -> None:
    """Count every engine of this process and of the children that it forks."""
    shared = _Shared(folder)

    def before_execute(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        word = statement.lstrip("( \n").partition(" ")[0].upper()
        if word in _BEGINS:
            connection.info["bench_begun"] = True
            shared.add("begins")
        elif word in _READS:
            shared.add("reads")
        else:
            shared.add("writes")
            if not connection.info.get("bench_begun"):
                shared.add("commits")

    def ended(connection: Any, *, committed: bool) -> None:
        if connection.info.pop("bench_begun", False):
            shared.add("explicit_ends")
            if committed:
                shared.add("commits")

    event.listen(Engine, "before_cursor_execute", before_execute)
    event.listen(Engine, "commit", lambda connection: ended(connection, committed=True))
    event.listen(Engine, "rollback", lambda connection: ended(connection, committed=False))


def total(folder: Path, pids: Iterable[int]) -> Counts:
    """What these processes have counted so far."""
    found = Counts()
    for pid in pids:
        path = folder / f"counts.{pid}"
        data = path.read_bytes() if path.exists() else b""
        if len(data) == _SHAPE.size:
            found += Counts(*_SHAPE.unpack(data))
    return found
