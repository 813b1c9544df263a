"""Corners of the servers that are ours alone, and gone afterwards; and which process a server is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

REDIS = os.environ.get("CASCADE_TEST_REDIS", "redis://127.0.0.1:6379").rstrip("/")
POSTGRESQL = os.environ.get("CASCADE_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
MARIADB = os.environ.get("CASCADE_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1:3306/")

_PREFIX = "cascade_bench_"


def sql(url: str | URL, statement: str, **parameters: Any) -> Any:
    """Run one statement on a connection of its own, in autocommit; its rows, if it has any."""
    engine = sa.create_engine(
        url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3}
    )
    with engine.connect() as connection:
        result = connection.execute(sa.text(statement), parameters)
        return result.fetchall() if result.returns_rows else []


# -- databases
@contextmanager
def fresh_postgresql() -> Iterator[str]:
    """The URL of a new, empty database."""
    _drop_left(POSTGRESQL, "SELECT datname FROM pg_database", 'DROP DATABASE "{}" WITH (FORCE)')
    name = _new_name()
    sql(POSTGRESQL, f'CREATE DATABASE "{name}"')
    try:
        yield _url(POSTGRESQL, name)
    finally:
        sql(POSTGRESQL, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def fresh_mariadb() -> Iterator[str]:
    """The URL of a new, empty database. Whoever uses it has to be gone at the end."""
    _drop_left(MARIADB, "SELECT schema_name FROM information_schema.schemata", "DROP DATABASE `{}`")
    name = _new_name()
    sql(MARIADB, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    try:
        yield _url(MARIADB, name)
    finally:
        sql(MARIADB, f"DROP DATABASE IF EXISTS `{name}`")


_made = 0


def _new_name() -> str:
    global _made
    _made += 1
    return f"{_PREFIX}{os.getpid()}_{_made}"


def _url(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _drop_left(server: str, listing: str, drop: str) -> None:
    """What runs that were killed have left: a name tells the process that made it."""
    for (name,) in sql(server, listing):
        if name.startswith(_PREFIX) and not psutil.pid_exists(int(name[len(_PREFIX) :].partition("_")[0])):
            sql(server, drop.format(name))


def backends(url: str) -> list[int]:
    """Process ids of the connections to one PostgreSQL database, and of the WAL writer."""
    found = sql(
        POSTGRESQL,
        "SELECT pid FROM pg_stat_activity WHERE datname = :name OR backend_type = 'walwriter'",
        name=make_url(url).database,
    )
    return [pid for (pid,) in found]


# -- Redis
@contextmanager
def redis_database() -> Iterator[str]:
    """The URL of a database number of our own. The lock is the one that the tests take too: a key in database 0 that
    names the connection which holds it, and counts as long as that lives.
    """
    import redis

    root = redis.Redis.from_url(f"{REDIS}/0", single_connection_client=True, decode_responses=True)
    try:
        number = _lock(root)
        try:
            yield f"{REDIS}/{number}"
        finally:
            flush(f"{REDIS}/{number}")
            root.delete(_lock_name(number))
    finally:
        root.close()


_DELETE_IF_STILL = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"


def _lock_name(number: int) -> str:
    return f"cascade-test:lock:{number}"


def _lock(root: Any) -> int:
    for number in range(15, 0, -1):
        holder = root.get(_lock_name(number))
        if holder is not None and not root.client_list(client_id=[holder]):
            root.eval(_DELETE_IF_STILL, 1, _lock_name(number), holder)  # a run that was killed
        if not root.set(_lock_name(number), root.client_id(), nx=True):
            continue
        with _redis(f"{REDIS}/{number}") as client:
            if client.dbsize() == 0 or root.sismember("cascade-test:ours", number):
                root.sadd("cascade-test:ours", number)
                client.flushdb()
                return number
        root.delete(_lock_name(number))
    raise SystemExit(f"none of the Redis databases 1 to 15 at {REDIS} is free")


def _redis(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url)


def flush(url: str) -> None:
    """Empty one database number."""
    with _redis(url) as client:
        client.flushdb()


# -- which process, which version
def redis_pid() -> int:
    with _redis(f"{REDIS}/0") as client:
        return int(client.info("server")["process_id"])


def versions() -> dict[str, str]:
    """Server -> version, or why it cannot be used."""
    found = {}
    with _or_reason(found, "Redis"), _redis(f"{REDIS}/0") as client:
        found["Redis"] = client.info("server")["redis_version"]
    with _or_reason(found, "PostgreSQL"):
        found["PostgreSQL"] = sql(POSTGRESQL, "SHOW server_version")[0][0].partition(" ")[0]
    with _or_reason(found, "MariaDB"):
        found["MariaDB"] = sql(MARIADB, "SELECT version()")[0][0].partition("-")[0]
    return found


@contextmanager
def _or_reason(found: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  each driver has its own
        found[name] = f"not there ({str(error).strip().splitlines()[0]})"


def is_there(name: str) -> bool:
    """Whether a server answers."""
    with suppress(KeyError):
        return not versions()[name].startswith("not there")
    return False
