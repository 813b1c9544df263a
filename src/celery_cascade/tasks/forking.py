"""No fork while this process speaks to the store, and none with an open connection in hand.

A pool's main process forks whenever it replaces a child, while our threads work in it. What a child would inherit
from that moment is harmful: half of an exchange on a socket, and, with SQLite, a connection's idea of which locks its
process holds. The second was tried: with a connection open in the parent, a forked child's own connection to the same
file holds none of its locks at all, so that others may delete the log that it reads (sqlite.org/howtocorrupt.html).
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import nullcontext

from celery_cascade.persistence.database import Database

logger = logging.getLogger("celery_cascade")

#: Seconds that a fork waits for an exchange with the store to end. A server that does not answer must not stop the
#: worker, so after that it forks all the same: a child never uses what it inherits of a server's connection.
PATIENCE = 10.0


class Forks:
    """Holds a process's forks and its exchanges with one database apart.

    `protect` for a process that forks and has threads of ours: its exchanges take turns. Without it, a child that is
    forked in the middle of one may hang, or corrupt an SQLite store, one in some thousand times.
    """

    def __init__(self) -> None:
        self._turn = threading.RLock()
        self._databases: list[Database] = []
        self._holder: int | None = None
        os.register_at_fork(
            before=self.before, after_in_parent=self.after_in_parent, after_in_child=self.after_in_child
        )

    def protect(self, database: Database) -> None:
        """From now on `database` is used by one thread at a time, and not while this process forks."""
        if database not in self._databases:
            self._databases.append(database)
            database._turn = self._turn

    def release(self, database: Database) -> None:
        """Undo `protect`: the worker has ended, its process goes on."""
        if database in self._databases:
            self._databases.remove(database)
            database._turn = nullcontext()

    def before(self) -> None:
        """Wait for the exchange that is under way, then close what is idle: the next use opens it again."""
        if not self._databases:
            return
        if not self._turn.acquire(timeout=PATIENCE):
            logger.warning("the store has not answered for %.0f s; the worker forks without waiting for it", PATIENCE)
            return
        self._holder = threading.get_ident()
        for database in self._databases:
            if not database.memory:
                database.dispose()

    def after_in_parent(self) -> None:
        """Go on."""
        if self._holder == threading.get_ident():
            self._holder = None
            self._turn.release()

    def after_in_child(self) -> None:
        """A child has one thread, and locks that nobody will release: make them anew."""
        self._turn = threading.RLock()
        self._holder = None
        for database in self._databases:
            database._turn = self._turn if database.memory else nullcontext()
        self._databases = []


FORKS = Forks()
