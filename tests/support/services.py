"""Real servers for tests: is one there, and a private corner of it that is gone afterwards.

A missing server skips the test at a desk and fails it where CASCADE_REQUIRE_SERVICES=1 (CI).
"""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import quote, unquote, urlsplit

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, make_url

DELETE_IF_STILL = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"
kept = ExitStack()  #: what is made once a process and removed at its end
CONNECT_TIMEOUT = 3  # seconds; a server on the same machine answers at once or not at all
REDIS_DATABASES = range(1, 16)  # 0 is where people keep things, and where our locks live


@dataclass(frozen=True)
class Service:
    """A server, and what to do when it is not there."""

    title: str
    variable: str
    default: str
    packages: str
    ping: Callable[[], None]  # raises when the server does not answer

    @property
    def url(self) -> str:
        return os.environ.get(self.variable) or self.default

    @property
    def missing(self) -> str:
        """How a reason to skip begins; the summary recognises it."""
        return f"no {self.title}:"

    @property
    def cure(self) -> str:
        return f"{self.packages}; or set {self.variable} (now {without_password(self.url)})"


def without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def require(name: str) -> str:
    """The URL of a server that answers; otherwise the test ends here."""
    service = SERVICES[name]
    trouble = _trouble(name)
    if trouble is not None:
        give_up(f"{service.missing} {without_password(service.url)} does not answer ({trouble})")
    return service.url


def give_up(reason: str) -> NoReturn:
    """End the test for want of a server: skipped at a desk, failed where services are required."""
    if os.environ.get("CASCADE_REQUIRE_SERVICES") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def close() -> None:
    """Remove what was kept for the whole run."""
    _idle_vhosts.clear()
    kept.close()


@functools.cache
def _trouble(name: str) -> str | None:
    try:
        SERVICES[name].ping()
    except Exception as exc:  # noqa: BLE001  each driver has its own; none may stop the run
        return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
    return None


# -- PostgreSQL and MariaDB --------------------------------------------------------------------------------------------


@contextmanager
def fresh_postgresql_url() -> Iterator[str]:
    """A new, empty database; dropped at the end, whoever is still connected to it."""
    server = make_url(require("postgresql"))
    name = _new_name()
    _execute(server, f'CREATE DATABASE "{name}"')
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def fresh_mariadb_url() -> Iterator[str]:
    """A new, empty database; dropped at the end, whoever is still connected to it."""
    server = make_url(require("mariadb"))
    name = _new_name()
    _execute(server, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    try:
        url = server.set(database=name).update_query_dict({"charset": "utf8mb4"})
        yield url.render_as_string(hide_password=False)
    finally:
        end_connections(url)  # an open transaction (a test's stopped process) would hold the DROP up for ever
        _execute(server, f"DROP DATABASE IF EXISTS `{name}`")


def end_connections(url: URL | str) -> None:
    """End every connection to this database of a server."""
    name = {"name": make_url(url).database}
    if make_url(url).get_backend_name() == "postgresql":
        with _connect(make_url(SERVICES["postgresql"].url)) as connection:
            ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            connection.execute(sa.text(ends), name)
        return
    with _connect(make_url(SERVICES["mariadb"].url)) as connection:
        others = connection.execute(sa.text("SELECT id FROM information_schema.processlist WHERE db = :name"), name)
        for (connection_id,) in others.fetchall():
            with suppress(sa.exc.DBAPIError):  # it may have gone in the meantime
                connection.exec_driver_sql(f"KILL {connection_id:d}")


def _new_name() -> str:
    return f"cascade_test_{os.getpid()}_{uuid.uuid4().hex[:8]}"


@contextmanager
def _connect(server: URL) -> Iterator[Connection]:
    options: dict[str, object] = {"connect_timeout": CONNECT_TIMEOUT}
    if server.get_backend_name() in ("mysql", "mariadb"):
        options["ssl_disabled"] = True  # PyMySQL reads all certificates of the machine for each connection
    engine = sa.create_engine(
        server,
        poolclass=sa.NullPool,
        isolation_level="AUTOCOMMIT",  # CREATE DATABASE refuses to run in a transaction
        connect_args=options,
    )
    with engine.connect() as connection:
        yield connection


def _execute(server: URL, statement: str) -> None:
    with _connect(server) as connection:
        connection.exec_driver_sql(statement)


def _ping_sql(name: str) -> None:
    _execute(make_url(SERVICES[name].url), "SELECT 1")


# -- Redis -------------------------------------------------------------------------------------------------------------


@contextmanager
def redis_url(patience: float = 60) -> Iterator[str]:
    """A database number of our own, empty. Tests may FLUSHDB it; FLUSHALL would take other runs' data and locks.

    The lock is a key in database 0 that names the connection which holds it: it counts as long as that connection
    lives, so a killed run frees its number by being dead. A database that holds data and never was ours is left alone.
    """
    import redis

    server = require("redis").rstrip("/")
    root = redis.Redis.from_url(f"{server}/0", single_connection_client=True, decode_responses=True)
    try:
        number = _lock_redis_database(root, server, patience)
        try:
            yield f"{server}/{number}"
        finally:
            _flush_redis_database(server, number)
            root.delete(_redis_lock(number))
    finally:
        root.close()


def _redis_lock(number: int) -> str:
    return f"cascade-test:lock:{number}"


def _lock_redis_database(root, server: str, patience: float) -> int:
    me = root.client_id()
    give_up_at = time.monotonic() + patience
    while True:
        for number in REDIS_DATABASES:
            lock = _redis_lock(number)
            holder = root.get(lock)
            if holder is not None and not root.client_list(client_id=[holder]):
                # Its holder is dead. Delete it only if it is still that one's: another run may be doing the same.
                root.eval(
                    "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end", 1, lock, holder
                )
            if not root.set(lock, me, nx=True):
                continue
            if root.sismember("cascade-test:ours", number) or _redis_database_is_empty(server, number):
                root.sadd("cascade-test:ours", number)
                _flush_redis_database(server, number)
                return number
            root.delete(lock)
        if time.monotonic() > give_up_at:
            pytest.fail(f"none of the Redis databases 1 to 15 at {without_password(server)} is free for a test")
        time.sleep(0.2)


def _redis_database_is_empty(server: str, number: int) -> bool:
    import redis

    with redis.Redis.from_url(f"{server}/{number}") as client:
        return client.dbsize() == 0


def _flush_redis_database(server: str, number: int) -> None:
    import redis

    with redis.Redis.from_url(f"{server}/{number}") as client:
        client.flushdb()


def _ping_redis() -> None:
    import redis

    with redis.Redis.from_url(SERVICES["redis"].url, socket_connect_timeout=CONNECT_TIMEOUT) as client:
        client.ping()


# -- RabbitMQ ----------------------------------------------------------------------------------------------------------


#: Queues that outlive their connection. Tests that add one delete it themselves.
_RABBITMQ_QUEUES = ("celery",)
_idle_vhosts: list[str] = []  # URLs; of this process, as two processes would read each other's queues


@contextmanager
def rabbitmq_vhost() -> Iterator[str]:
    """The amqp URL of a virtual host of our own, empty.

    It is made once a process and removed at its end: each call of rabbitmqctl starts an Erlang machine, which took
    longer than most of a test.
    """
    url = require("rabbitmq")
    vhost = _idle_vhosts.pop() if _idle_vhosts else _new_vhost(url)
    yield vhost
    _empty_vhost(vhost)
    _idle_vhosts.append(vhost)


def _empty_vhost(url: str) -> None:
    import kombu

    with kombu.Connection(url) as connection:
        for queue in _RABBITMQ_QUEUES:
            connection.default_channel.queue_delete(queue)  # one that is not there is deleted too


def _new_vhost(url: str) -> str:
    parts = urlsplit(url)
    user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
    admin = _rabbitmqctl if _can_rabbitmqctl(parts.hostname or "") else _management_api(parts.hostname, user, password)
    name = _new_name()
    try:
        admin("add_vhost", name)
        kept.callback(admin, "delete_vhost", name)
        admin("set_permissions", name, user)
    except (OSError, subprocess.SubprocessError) as exc:
        give_up(
            f"{SERVICES['rabbitmq'].missing} no way to add a virtual host ({exc}); run as root or rabbitmq where "
            "rabbitmqctl is, or `rabbitmq-plugins enable rabbitmq_management` and set CASCADE_TEST_RABBITMQ_API"
        )
    return parts._replace(path=f"/{name}").geturl()


def _can_rabbitmqctl(host: str) -> bool:
    """It speaks to the node on this machine only, and needs that node's cookie."""
    if host not in ("127.0.0.1", "localhost", "::1") or shutil.which("rabbitmqctl") is None:
        return False
    try:
        subprocess.run(["rabbitmqctl", "-q", "list_vhosts"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _rabbitmqctl(command: str, vhost: str, user: str = "") -> None:
    arguments = ["-p", vhost, user, ".*", ".*", ".*"] if command == "set_permissions" else [vhost]
    subprocess.run(["rabbitmqctl", "-q", command, *arguments], check=True, capture_output=True, timeout=60)


def _management_api(host: str | None, user: str, password: str) -> Callable[..., None]:
    api = os.environ.get("CASCADE_TEST_RABBITMQ_API", f"http://{host}:15672").rstrip("/")
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()

    def call(command: str, vhost: str, user: str = "") -> None:
        path, method, body = f"/api/vhosts/{quote(vhost, safe='')}", "PUT", {}
        if command == "set_permissions":
            path = f"/api/permissions/{quote(vhost, safe='')}/{quote(user, safe='')}"
            body = {"configure": ".*", "write": ".*", "read": ".*"}
        elif command == "delete_vhost":
            method = "DELETE"
        request = urllib.request.Request(
            api + path,
            method=method,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30):
            pass

    return call


def _ping_rabbitmq() -> None:
    import kombu

    with kombu.Connection(SERVICES["rabbitmq"].url, connect_timeout=CONNECT_TIMEOUT) as connection:
        connection.connect()


SERVICES = {
    "postgresql": Service(
        "PostgreSQL",
        "CASCADE_TEST_POSTGRESQL",
        "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
        "apt-get install postgresql | brew install postgresql",
        functools.partial(_ping_sql, "postgresql"),
    ),
    "mariadb": Service(
        "MariaDB",
        "CASCADE_TEST_MARIADB",
        "mysql+pymysql://root@127.0.0.1:3306/",
        "apt-get install mariadb-server | brew install mariadb",
        functools.partial(_ping_sql, "mariadb"),
    ),
    "redis": Service(
        "Redis",
        "CASCADE_TEST_REDIS",
        "redis://127.0.0.1:6379/",
        "apt-get install redis-server | brew install redis",
        _ping_redis,
    ),
    "rabbitmq": Service(
        "RabbitMQ",
        "CASCADE_TEST_RABBITMQ",
        "amqp://guest:guest@127.0.0.1:5672/",
        "apt-get install rabbitmq-server | brew install rabbitmq",
        _ping_rabbitmq,
    ),
}
