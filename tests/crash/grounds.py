"""Where runs take place: a database that is cleared between runs, and a queue or a broker's file for each run."""

from __future__ import annotations

import queue
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import kombu
import redis

from celery_cascade.persistence import tables
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.store import Store
from crash.lives import Where
from support import services
from support.stores import migrated

DATABASES = ("sqlite", "postgresql", "mariadb")
TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}
POOLS = ("prefork", "threads", "solo")
#: The three stacks of the test suite.
BROKERS = {"sqlite": "embedded", "postgresql": "redis", "mariadb": "rabbitmq"}
#: Emptied in this order: what refers to sessions goes with them.
_EMPTIED = (tables.mappings, tables.sessions, tables.definitions, tables.workers, tables.sweeps)


class Ground:
    """A database and a broker of one kind, for one run at a time.

    Args:
        database: which kind.
        url: of the database; None = SQLite, a new file each run.
        template: a migrated SQLite store without sessions.
        broker: its URL; None = the embedded one, a new file each run.
        folder: under which each run has its own.
    """

    def __init__(self, database: str, url: str | None, template: Path, broker: str | None, folder: Path) -> None:
        self.database = database
        self._url = url
        self._template = template
        self._broker = broker
        self._folder = folder
        self._runs = 0
        self._server = None if url is None else Store(Database(url))

    @contextmanager
    def run(
        self, pool: str, *, acks_late: bool, concurrency: int = 2, settings: dict[str, Any] | None = None
    ) -> Iterator[tuple[Where, Store]]:
        """A place for one run: an empty store, an empty queue. Its folder stays if the run fails."""
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        if self._server is None:
            shutil.copyfile(self._template, folder / "store.sqlite")
            store = Store(Database(folder / "store.sqlite"))
        else:
            store = self._server
            store.database.transaction(lambda conn: [conn.execute(table.delete()) for table in _EMPTIED])
        where = Where(
            folder=str(folder),
            database_url=store.database.url.render_as_string(hide_password=False),
            broker_url=self._broker or f"cascade-sqlite+sqlite:///{folder / 'broker.sqlite'}",
            queue=f"crash-{folder.parent.name}-{self._runs}",
            pool=pool,
            acks_late=acks_late,
            concurrency=concurrency,
            settings=settings or {},
        )
        yield where, store
        self._tidy(where, store)

    def _tidy(self, where: Where, store: Store) -> None:
        if self._server is None:
            store.database.dispose()
        if self._broker is not None and self._broker.startswith("amqp"):
            with kombu.Connection(self._broker) as connection:
                connection.default_channel.queue_delete(where.queue)
        shutil.rmtree(where.folder)

    def close(self) -> None:
        if self._server is not None:
            self._server.database.dispose()


def messages(where: Where) -> int:
    """How many messages wait in the run's queue."""
    if where.broker_url.startswith("redis"):
        with redis.Redis.from_url(where.broker_url) as client:
            return client.llen(f"{where.queue}:{where.queue}")
    if where.broker_url.startswith("amqp"):
        with kombu.Connection(where.broker_url) as connection, suppress(connection.channel_errors):
            return connection.default_channel.queue_declare(where.queue, passive=True).message_count
        return 0
    with closing(sqlite3.connect(Path(where.folder) / "broker.sqlite", timeout=30)) as broker:
        if not broker.execute("SELECT 1 FROM sqlite_master WHERE name = 'kombu_message'").fetchone():
            return 0  # nothing was ever sent
        return broker.execute("SELECT count(*) FROM kombu_message WHERE visible <> 0").fetchone()[0]


class Grounds:
    """Several grounds of one kind; each run takes a free one."""

    def __init__(self, made: list[Ground]) -> None:
        self.made = made
        self._free: queue.SimpleQueue[Ground] = queue.SimpleQueue()
        for ground in made:
            self._free.put(ground)

    @contextmanager
    def one(self) -> Iterator[Ground]:
        """A free one, waited for."""
        ground = self._free.get()
        try:
            yield ground
        finally:
            self._free.put(ground)


@contextmanager
def opened(database: str, count: int) -> Iterator[Grounds]:
    """So many grounds with this database and the broker that goes with it; gone afterwards."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="cascade-crash-"))
        stack.callback(_remove_if_empty, folder)
        template = folder / "template.sqlite"
        migrated(template)
        broker = None
        if BROKERS[database] == "redis":
            broker = stack.enter_context(services.redis_url())
        elif BROKERS[database] == "rabbitmq":
            broker = stack.enter_context(services.rabbitmq_vhost())
        made = []
        for number in range(count):
            url = None
            if database != "sqlite":
                url = stack.enter_context(_server_database(database))
                migrated(url)
            own = folder / f"{database}-{number}"
            own.mkdir()
            made.append(Ground(database, url, template, broker, own))
            stack.callback(made[-1].close)
        yield Grounds(made)


def _server_database(database: str) -> Any:
    return services.fresh_postgresql_url() if database == "postgresql" else services.fresh_mariadb_url()


def _remove_if_empty(folder: Path) -> None:
    """What a failed run has left stays, to be looked at."""
    left = [path for path in folder.rglob("*") if path.is_file() and path.name != "template.sqlite"]
    if not left:
        shutil.rmtree(folder, ignore_errors=True)
