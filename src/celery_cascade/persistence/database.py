"""The connection to the store: engines that no fork crosses, transactions that are tried again.

Every connection is in the driver's autocommit mode. A statement that is a transaction by itself needs nothing else;
a transaction is begun in so many words, so that it is the one we want on each database.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, Engine, NullPool, QueuePool, StaticPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError

from celery_cascade.config.contradictions import schema_problem
from celery_cascade.errors import CascadeError, ConfigError, StoreDamaged
from celery_cascade.lazy import lazy
from celery_cascade.persistence import database_dialects as dialects
from celery_cascade.persistence import database_words as words
from celery_cascade.persistence import mysql_tls, packets, servers, sqlite_file
from celery_cascade.persistence.database_errors import Trouble, is_database_error, translated, trouble

T = TypeVar("T")

TRIES = 10  #: of one transaction that others are in the way of
IDLE = 30.0  #: seconds in the pool after which a connection is asked whether it still lives; busy ones never are
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.5

_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)

# A child that inherits an open SQLite connection makes the process forget its locks on the file (fcntl locks belong
# to the process and the file), so another may delete the log under it. Idle connections are closed before a fork.
_SQLITE: WeakSet[Database] = WeakSet()


def _close_idle() -> None:
    for database in list(_SQLITE):
        database.dispose()


os.register_at_fork(before=_close_idle)


class Database:
    """A store's database, in whatever process it is used.

    Args:
        url: SQLAlchemy URL; without a driver's name the one of our extras is taken. A path is an SQLite file.
        busy_timeout: seconds that a transaction waits and tries again while others are in its way.
        schema: PostgreSQL schema in which our tables are, and nothing else is seen; None = the role's own path.
        null_pool: no connection outlives its use. For the main process of a prefork worker: it forks at any time,
            and a pooled connection would be open in the child too.

    Raises:
        ConfigError: the URL cannot be used.
    """

    def __init__(
        self, url: str | Path, *, schema: str | None = None, busy_timeout: float = 30.0, null_pool: bool = False
    ) -> None:
        self.url, self.family = dialects.read_url(url)
        if schema is not None and (problem := schema_problem(schema, self.url.drivername)):
            raise ConfigError(problem)
        self.schema = schema
        self.busy_timeout = busy_timeout
        self.null_pool = null_pool
        self.memory = dialects.is_memory(self.url)
        self.file = sqlite_file.path_of(self.url)  #: of an SQLite store
        self._looked_at = False
        self._damaged: tuple[tuple[int, int] | None, str] | None = None
        # One engine a process. Those of ancestors stay here untouched for as long as the child lives: closing one
        # of their connections, or letting it be collected, would speak on a socket that the parent uses.
        self._engines: dict[tuple[int, int], Engine] = {}
        self._turn: AbstractContextManager[Any] = RLock() if self.memory else nullcontext()
        dialects.check_driver(self.url, self.family)
        if self.family == "sqlite" and not self.memory:
            _SQLITE.add(self)

    def __repr__(self) -> str:
        return f"Database({self.shown!r})"

    @property
    def shown(self) -> str:
        """The URL for people: without secrets."""
        return dialects.shown(self.url) + (f" (schema {self.schema})" if self.schema else "")

    @lazy
    def place(self) -> str:
        """Where it is, for others to read: travels with messages."""
        return dialects.place(self.url, socket.gethostname())

    @property
    def engine(self) -> Engine:
        """An engine for SQLAlchemy's ORM: its transactions begin as ours do. For the process that asks.

        On SQLite each takes the write lock with its first statement, a SELECT too: end it soon.
        """
        engine = self._own.execution_options()
        event.listen(engine, "begin", self._begin)
        return engine

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection on which each statement is a transaction. Nothing is tried again: see `single`.

        Raises:
            StoreUnavailable: the database cannot be reached, or the connection was lost.
        """
        with self._turn, self._connected() as connection:
            try:
                yield connection
            except BaseException as error:
                self._distrust(connection, error)
                ours = self._told(error)
                if ours is None:
                    raise
                raise ours from error

    read = autocommit  #: for reads; a plain SELECT needs no transaction on any of the databases

    def single(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which executes one statement that is a transaction by itself; tried again as `transaction`."""
        return self._insistently(lambda connection: work(connection))

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction that may write, and commit.

        The whole of it is run again when another transaction was in the way, and once when the connection was
        lost. A commit may have happened although its answer was lost: `work` must recognise what it did before
        (our statements do by their token or nonce).

        Raises:
            StoreUnavailable: the database cannot be reached, or others held it for `busy_timeout`.
            PayloadTooLarge: MySQL and MariaDB, a statement over the server's `max_allowed_packet`.
        """
        return self._insistently(lambda connection: self._in_transaction(connection, work))

    def ping(self) -> None:
        """Ask the database for an answer.

        Raises:
            StoreUnavailable: there is none.
        """
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close this process's connections. The next use opens new ones."""
        engine = self._engines.pop(self._process, None)
        if engine is not None:
            engine.dispose()

    def _insistently(self, work: Callable[[Connection], T]) -> T:
        give_up_at = time.monotonic() + self.busy_timeout
        lost = tries = 0
        while True:
            tries += 1
            try:
                with self._turn, self._connected() as connection:
                    try:
                        return work(connection)
                    except BaseException as error:
                        self._distrust(connection, error)
                        raise
            except SQLAlchemyError as error:
                kind = trouble(error)
                self._refuse_too_large(error)
                if kind is Trouble.LOST and not lost:
                    lost += 1
                elif kind is Trouble.BUSY and tries < TRIES and time.monotonic() < give_up_at:
                    time.sleep(_pause(tries))
                else:
                    ours = self._told(error)
                    if ours is None:
                        raise
                    raise ours from error

    def _refuse_too_large(self, error: SQLAlchemyError) -> None:
        """Tell a server that has hung up for the statement's size from one that has gone."""
        if self.family != "mysql" or not isinstance(error, DBAPIError) or not packets.suspicious(error):
            return
        try:
            with self._connected() as connection:
                limit = packets.limit_of(connection)
        except (SQLAlchemyError, CascadeError):
            return  # it has gone
        if (size := packets.size_of(error)) > limit:
            raise packets.refusal(size, limit) from error

    def _in_transaction(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        self._begin(connection)
        try:
            result = work(connection)
        except BaseException as error:
            if is_database_error(error) and not connection.invalidated and trouble(error) is not Trouble.LOST:
                connection.rollback()
            raise
        try:
            connection.commit()
        except BaseException as error:
            if not self.memory:
                connection.invalidate(error)  # whether it still holds a transaction is not known
            raise
        return result

    def _begin(self, connection: Connection) -> None:
        for statement in dialects.BEGIN[self.family]:
            connection.exec_driver_sql(statement)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        self._check_sound()
        try:
            connection = self._own.connect()
        except SQLAlchemyError as error:
            ours = self._told(error, connecting=True)
            if ours is None or trouble(error) is Trouble.BUSY:
                raise
            raise ours from error
        except RuntimeError as error:
            refused = servers.refused_login(error, self.shown)
            if refused is None:
                raise
            raise refused from error
        with connection:
            yield connection

    def _distrust(self, connection: Connection, error: BaseException) -> None:
        """Throw away a connection that may be in the middle of an answer.

        An exception that is not the database's (a soft time limit, SystemExit) may have struck between question
        and answer; whoever got that connection next would read an answer that is not his.
        """
        if connection.invalidated or connection.closed or self.memory:
            return
        if trouble(error) is Trouble.LOST or not is_database_error(error):
            connection.invalidate(error)

    @property
    def _process(self) -> tuple[int, int]:
        return os.getpid(), _forks  # a recycled process id is not the same process

    @property
    def _own(self) -> Engine:
        """This process's engine. Two threads that ask at once may make two; the one that loses never connects."""
        return self._engines.get(self._process) or self._engines.setdefault(self._process, self._make_engine())

    def _make_engine(self) -> Engine:
        options: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 5, "max_overflow": 15, "pool_timeout": 30}
        if self.memory:
            options = {"poolclass": StaticPool}
        elif self.null_pool:
            options = {"poolclass": NullPool}
        self._make_folder()
        self._refuse_damage()
        try:
            engine = create_engine(
                self.url,
                isolation_level="AUTOCOMMIT",
                connect_args=dialects.connect_args(self.url, self.family, self.busy_timeout, self.schema),
                pool_reset_on_return=None,  # every way out of this class has ended its transaction
                **options,
            )
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"the driver for {self.shown} is not installed ({error.name})",
                hint=f"Run: pip install {dialects.package_of(self.url, self.family, error.name)}",
            ) from error
        if self.family == "mysql":
            dialects.spare_rollbacks(engine.dialect)
            event.listen(engine, "do_connect", mysql_tls.connect)
        event.listen(engine, "connect", self._prepare, insert=True)
        if not self.memory and not self.null_pool:
            event.listen(engine, "checkin", _note_idle)
            event.listen(engine, "checkout", _ask_idle(engine))
            if self.file is not None:
                event.listen(engine, "checkout", _ask_moved(self.file))
        return engine

    def _make_folder(self) -> None:
        """The folder of an SQLite file is made on first use (R92)."""
        if self.file is not None:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise words.no_folder(self.url, error) from error

    def _refuse_damage(self) -> None:
        """A damaged file is never opened for writing (D4). A child trusts what its parent has looked at."""
        if self.file is None or self._looked_at:
            return
        found = sqlite_file.damage(self.file, largest=sqlite_file.LOOKED_THROUGH)
        if found:
            self._damaged = (sqlite_file.identity(self.file), found[0])
            self._check_sound()
        self._looked_at = True

    def _check_sound(self) -> None:
        """Refuse a file in which damage was seen, until another one stands in its place."""
        if self._damaged is None or self.file is None:
            return
        which, said = self._damaged
        if sqlite_file.identity(self.file) == which:
            raise words.damaged(self.url, said)
        self._damaged, self._looked_at = None, False
        self.dispose()

    def _told(self, error: BaseException, *, connecting: bool = False) -> CascadeError | None:
        """Our error for one of the driver's; damage is remembered."""
        ours = translated(error, self.url, connecting=connecting)
        if isinstance(ours, StoreDamaged) and self.file is not None:
            self._damaged = (sqlite_file.identity(self.file), str(getattr(error, "orig", error)))
        return ours

    def _prepare(self, connection: Any, record: Any) -> None:
        try:
            dialects.prepare(
                connection, self.family, memory=self.memory, busy_timeout=self.busy_timeout, schema=self.schema
            )
        except BaseException:
            connection.close()  # nobody else knows of it yet
            raise
        if self.file is not None:
            record.info["file"] = sqlite_file.identity(self.file)


def _ask_moved(path: Path) -> Callable[[Any, Any, Any], None]:
    """A file that was moved aside or replaced (`doctor --fix`, a restored backup): its old connections write to what
    nobody reads any more. The question costs a microsecond.
    """

    def ask(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info.get("file") != sqlite_file.identity(path):
            raise DisconnectionError(f"another file stands at {path}")

    return ask


def _pause(tries: int) -> float:
    longest: float = min(_FIRST_PAUSE * 2**tries, _LONGEST_PAUSE)
    return random.uniform(0.5, 1.0) * longest  # noqa: S311 - jitter


def _note_idle(_connection: Any, record: Any) -> None:
    record.info["idle_since"] = time.monotonic()


def _ask_idle(engine: Engine) -> Callable[[Any, Any, Any], None]:
    """A restart of the server or a firewall's timeout shows in connections that have slept; a ping on each use would
    cost a round trip on the hot path.
    """

    def ask(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("idle_since", time.monotonic()) < IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:
            raise DisconnectionError(str(error)) from error

    return ask
