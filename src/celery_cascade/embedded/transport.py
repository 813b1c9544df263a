"""The embedded broker's transport: kombu's for SQLAlchemy, with what SQLite needs among several processes."""

from __future__ import annotations

import functools
import random
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from kombu.transport import sqlalchemy as kombus
from kombu.transport.sqlalchemy.models import metadata
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import class_mapper, sessionmaker

from celery_cascade.forks import GATE

#: Seconds that a writer waits for the others.
BUSY_TIMEOUT = 30.0


class _Process:
    """This process's engines and the turn to use them. A fork happens in nobody's turn, with nothing open.

    A child that inherits an open SQLite connection believes that it holds its locks, and holds none: others may then
    delete the log under it (tried; see tasks/forking.py).
    """

    def __init__(self) -> None:
        self.turn = threading.RLock()
        self.engines: dict[str, tuple[Engine, Any]] = {}
        GATE.on_fork(before=self._before, in_child=self._in_child)

    def _before(self) -> None:
        for engine, _ in self.engines.values():
            engine.dispose()

    def _in_child(self) -> None:
        self.turn, self.engines = threading.RLock(), {}


PROCESS = _Process()


def _in_turn(method: Callable[..., Any]) -> Callable[..., Any]:
    """One thread at a time; afterwards no connection is held, so that a fork finds none."""

    @functools.wraps(method)
    def alone(self: Any, *args: Any, **kwargs: Any) -> Any:
        with GATE, PROCESS.turn:
            try:
                return method(self, *args, **kwargs)
            finally:
                if self._session is not None:
                    self._session.close()

    return alone


class Channel(kombus.Channel):
    """kombu's channel, whose every operation is one turn."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        with GATE, PROCESS.turn, warnings.catch_warnings():
            # kombu maps its tables with lazy="noload", which SQLAlchemy 2.1 warns of; not ours to change, harmless.
            warnings.filterwarnings("ignore", message="The ``noload`` loader strategy is deprecated")
            super().__init__(connection, **kwargs)  # type: ignore[no-untyped-call]
            class_mapper(self.message_cls)  # now, and not at the first query: this is where it warns

    def _open(self) -> tuple[Engine, Any]:
        url = self.connection.client.hostname
        if url not in PROCESS.engines:
            engine = self._engine_from_config()
            _make_tables(engine)
            PROCESS.engines[url] = engine, sessionmaker(bind=engine)
        return PROCESS.engines[url]

    def _engine_from_config(self) -> Engine:
        # By hand: SQLAlchemy 2.1 undoes the percent signs of a file's name, 2.0 takes them as they are.
        file = Path(unquote(self.connection.client.hostname.partition(":///")[2]))
        file.parent.mkdir(parents=True, exist_ok=True)
        url = URL.create("sqlite", database=str(file))
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False})
        event.listen(engine, "connect", _prepare)
        return engine

    def _get_or_create(self, queue: str) -> Any:
        """A queue's row. Of two processes that are the first to need it, kombu's own fails in the second."""
        try:
            return super()._get_or_create(queue)  # type: ignore[no-untyped-call]
        except IntegrityError:
            self.session.rollback()
            return super()._get_or_create(queue)  # type: ignore[no-untyped-call]

    _new_queue = _in_turn(kombus.Channel._new_queue)
    _put = _in_turn(kombus.Channel._put)
    _get = _in_turn(kombus.Channel._get)
    _purge = _in_turn(kombus.Channel._purge)
    _size = _in_turn(kombus.Channel._size)


class Transport(kombus.Transport):
    """kombu's transport, with a shorter wait between two looks: 60 ms from sent to started instead of 900."""

    Channel = Channel
    polling_interval = 0.1

    def __init__(self, client: Any, **kwargs: Any) -> None:
        # No two workers look in step, or the one that looks just before the other would get every message.
        self.polling_interval *= random.uniform(0.8, 1.2)  # noqa: S311
        super().__init__(client, **kwargs)  # type: ignore[no-untyped-call]


def _prepare(connection: Any, _record: Any) -> None:
    give_up_at = time.monotonic() + BUSY_TIMEOUT
    while True:  # several processes that open a new file at once: the switch does not wait for a lock by itself
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = NORMAL")


def _make_tables(engine: Engine) -> None:
    """Another process may make the same table between our look and our CREATE."""
    for _ in range(5):
        try:
            metadata.create_all(engine)
            return
        except OperationalError as error:
            if "already exists" not in str(error):
                raise
    metadata.create_all(engine)
