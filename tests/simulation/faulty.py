"""The store's database as simulated processes reach it: the real one, with a scheduler at its door and faults in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from celery_cascade.persistence import database_words as words
from celery_cascade.persistence.database import Database


def lost() -> OperationalError:
    """The driver's word for a connection that broke: whether the commit was done nobody knows."""
    return OperationalError("COMMIT", None, ConnectionError("the server went away"), connection_invalidated=True)


def busy() -> OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return OperationalError("BEGIN IMMEDIATE", None, error)


class FaultyDatabase(Database):
    """SQLite in memory, one connection for all.

    What the layer above sees of a fault is what a driver would raise, so its own tries, tokens and nonces are at work.
    """

    world: Any = None  #: of the history that is played

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        self.world.at("read")
        with super().autocommit() as connection:
            yield connection

    read = autocommit

    def single(self, work: Callable[[Connection], Any]) -> Any:
        self.world.at("write")
        return super().single(lambda connection: self._faulty(connection, work, self.world.commit_fault()))

    def transaction(self, work: Callable[[Connection], Any]) -> Any:
        self.world.at("write")
        return super().transaction(work)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        if self.world.store_is_away():
            raise words.away(self.url, "simulated", code=None, connecting=False)
        with super()._connected() as connection:
            yield connection

    def _in_transaction(self, connection: Connection, work: Callable[[Connection], Any]) -> Any:
        fault = self.world.commit_fault()
        if fault == "failed":
            raise busy()
        self._begin(connection)
        self.world.inside = True
        try:
            result = work(connection)
        except BaseException:
            connection.rollback()  # as a server does with what a dead or failed client had begun
            raise
        finally:
            self.world.inside = False
        if fault == "timed out and not done":
            connection.rollback()
            raise lost()
        connection.commit()
        return self._done(connection, result, fault)

    def _faulty(self, connection: Connection, work: Callable[[Connection], Any], fault: str | None) -> Any:
        if fault == "failed":
            raise busy()
        if fault == "timed out and not done":
            raise lost()
        return self._done(connection, work(connection), fault)

    def _done(self, connection: Connection, result: Any, fault: str | None) -> Any:
        self.world.committed(connection)
        if fault == "timed out but done":
            raise lost()
        return result
