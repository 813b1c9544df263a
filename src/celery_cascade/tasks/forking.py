"""A worker that forks: nothing of ours is under way in it at that moment, and no connection to the store is open.

With SQLite the second matters as much as the first (see `celery_cascade.forks`): with a connection open in the parent,
a forked child's own connection to the same file holds none of its locks at all, so that others may delete the log that
it reads (tried; sqlite.org/howtocorrupt.html).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from celery_cascade.forks import GATE, Gate
from celery_cascade.persistence.database import Database


class Forks:
    """Keeps a process's forks apart from its exchanges with a store, and from what else is done `apart`.

    `protect` for a process that forks and has threads of ours. Without it, a child that is forked in the middle of
    something may hang, or corrupt an SQLite store, one in some hundred times.
    """

    def __init__(self, gate: Gate = GATE) -> None:
        self._gate = gate
        self._databases: list[Database] = []
        gate.on_fork(before=self._close, in_child=self._leave)

    def protect(self, database: Database) -> None:
        """From now on this process does not fork while `database` is used."""
        if database not in self._databases and not database.memory:
            self._databases.append(database)
            database._turn = self._gate

    def release(self, database: Database) -> None:
        """Undo `protect`: the worker has ended, its process goes on."""
        if database in self._databases:
            self._databases.remove(database)
            database._turn = nullcontext()

    def apart(self) -> AbstractContextManager[Any]:
        """A section in which a protected process does not fork; nothing in any other process."""
        return self._gate if self._databases else nullcontext()

    def _close(self) -> None:
        for database in self._databases:
            database.dispose()

    def _leave(self) -> None:
        for database in list(self._databases):
            self.release(database)


FORKS = Forks()
