"""What each database wants from a URL and from every new connection (DESIGN.md section 5, "Dialects")."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from celery_cascade.errors import ConfigError
from celery_cascade.persistence.servers import check_server

#: For those who know no SQLAlchemy: what a broker in a database raises.
SQL_ERRORS: tuple[type[Exception], ...] = (SQLAlchemyError,)

Family = Literal["sqlite", "postgresql", "mysql"]

#: What a transaction that is going to write begins with. SQLite takes its write lock at once: a reader that becomes
#: a writer is refused without waiting. READ COMMITTED: a conditional UPDATE sees the row as its predecessor left it.
BEGIN: dict[Family, tuple[str, ...]] = {
    "sqlite": ("BEGIN IMMEDIATE",),
    "postgresql": ("BEGIN ISOLATION LEVEL READ COMMITTED",),
    "mysql": ("START TRANSACTION",),  # the level is the connection's
}
EXTRA: dict[Family, str] = {"sqlite": "", "postgresql": "postgresql", "mysql": "mysql"}

_FAMILIES: dict[str, Family] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
# mysql+pymysql speaks to both servers and finds out which; mariadb+pymysql refuses MySQL.
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_DRIVERS["mariadb"] = _DRIVERS["mysql"]
#: Modules of drivers that pip knows by another name.
_DISTRIBUTIONS = {
    "mysql": "mysql-connector-python",
    "mysqlconnector": "mysql-connector-python",
    "mysqldb": "mysqlclient",
    "psycopg2": "psycopg2-binary",
    "pymysql": "PyMySQL",
}
_LEAVE_OUT = "Or leave it out (and CELERY_CASCADE_DATABASE_URL): the store is SQLite beside your app then"
_CONNECT_TIMEOUT = 10  # seconds; psycopg's own default is for ever
_IN_TRANSACTION = 1  # SERVER_STATUS_IN_TRANS of the MySQL protocol
_OLDEST_SQLITE = (3, 35)  # RETURNING
#: Whether a file has tables, and ours are not among them.
_OF_OTHERS = "SELECT count(*) > 0 AND sum(name = 'cascade_sessions') = 0 FROM sqlite_master WHERE type = 'table'"


def read_url(text: str | Path) -> tuple[URL, Family]:
    """The URL with its driver filled in, and the family of databases that it names.

    A file's name is no URL: `?` and `%` in it are letters.

    Raises:
        ConfigError: it is no URL, or of a database that we do not know.
    """
    if isinstance(text, Path):
        return URL.create("sqlite", database=str(text)), "sqlite"
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigError(
            "cascade_database_url cannot be read as a URL; "
            "it looks like sqlite:////path/to/file, postgresql://user@host/name or mysql://user@host/name",
            hint=_LEAVE_OUT,
        ) from None
    backend = url.drivername.partition("+")[0]
    if backend not in _FAMILIES:
        raise ConfigError(
            f"cascade_database_url: {backend!r} is not one of sqlite, postgresql, mysql, mariadb", hint=_LEAVE_OUT
        )
    if backend == "sqlite" and (url.host or url.username or url.password or url.port):
        raise ConfigError(
            "cascade_database_url: a slash is missing after sqlite://, so that the file's name is read as a host",
            hint="Write sqlite:////absolute/path (four slashes), or sqlite:///file (three) for a file in the working "
            f"directory\n{_LEAVE_OUT}",
        )
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername)), _FAMILIES[backend]


def is_memory(url: URL) -> bool:
    """Whether it is SQLite without a file."""
    return url.get_backend_name() == "sqlite" and (url.database in (None, "", ":memory:"))


def shown(url: URL) -> str:
    """The URL without its secrets."""
    secrets = {key: "***" for key in url.query if "pass" in key.lower()}
    return url.update_query_dict(secrets).render_as_string(hide_password=True)


def place(url: URL, host: str) -> str:
    """Where the database is, for others to read: no user, no secret, no option; `host` = this machine."""
    kind = url.get_backend_name()
    bare = URL.create(kind, host=url.host, port=url.port, database=url.database).render_as_string()
    return f"{bare} on {host}" if not url.host else bare


#: A peer that vanished without a word (no FIN, no RST) is noticed within half a minute, not after hours: a heartbeat
#: that waits for its answer for ever looks like a dead worker to the others.
_KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_ANSWER_TIMEOUT = 60.0


def connect_args(url: URL, family: Family, busy_timeout: float, schema: str | None = None) -> dict[str, Any]:
    """Arguments for the driver's connect(), none that the URL gives itself but for the schema."""
    arguments: dict[str, Any] = {}
    if family == "sqlite":
        arguments = {"timeout": busy_timeout, "check_same_thread": False}
    elif family == "postgresql":
        arguments = {"connect_timeout": _CONNECT_TIMEOUT, "application_name": "celery-cascade", **_KEEPALIVE}
    else:
        read = busy_timeout + _ANSWER_TIMEOUT  # a lock wait is no silence
        arguments = {"connect_timeout": _CONNECT_TIMEOUT, "charset": "utf8mb4", "read_timeout": read}
    arguments = {key: value for key, value in arguments.items() if key not in url.query}
    if schema is not None:
        arguments["options"] = f"{_given_options(url)} -c search_path={quoted(schema)}".strip()
    return arguments


def quoted(schema: str) -> str:
    """A schema's name as PostgreSQL reads it with its capitals."""
    return f'"{schema}"'


def _given_options(url: URL) -> str:
    given = url.query.get("options", "")
    return given if isinstance(given, str) else " ".join(given)


def check_driver(url: URL, family: Family) -> None:
    """Refuse a driver that nobody knows or that is for asyncio, and an SQLite library that is too old.

    Raises:
        ConfigError: it cannot do what we need.
    """
    ours = f"Leave the driver out to get ours: {family}://…"
    try:
        dialect = url.get_dialect()
    except NoSuchModuleError:
        raise ConfigError(f"cascade_database_url: SQLAlchemy knows no driver {url.drivername!r}", hint=ours) from None
    if dialect.is_async:
        raise ConfigError(
            f"cascade_database_url: {url.drivername!r} is a driver for asyncio, which Celery's workers do not speak",
            hint=ours,
        )
    if family == "sqlite" and sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigError(
            f"this Python's SQLite is {sqlite3.sqlite_version}; 3.35 or later is needed",
            hint="Use a newer Python, or PostgreSQL: set cascade_database_url",
        )


def package_of(url: URL, family: Family, module: str | None) -> str:
    """What to install for a driver that is missing: our extra, or the driver that the URL asks for."""
    if url.drivername in (*_DRIVERS.values(), "sqlite"):
        return f"'celery-cascade[{EXTRA[family]}]'"
    wanted = (module or url.drivername.partition("+")[2]).partition(".")[0]
    return _DISTRIBUTIONS.get(wanted.lower(), wanted)


def spare_rollbacks(dialect: Any) -> None:
    """Leave out the ROLLBACK that SQLAlchemy sends whenever a connection is given back.

    The server says with each answer whether a transaction is open; in autocommit none is, and a round trip is
    saved at every read. A driver that does not pass this on keeps its rollbacks.
    """
    rollback = dialect.do_rollback

    def do_rollback(connection: Any) -> None:
        status = getattr(connection, "server_status", None)
        if status is None or status & _IN_TRANSACTION:
            rollback(connection)

    dialect.do_rollback = do_rollback


def prepare(connection: Any, family: Family, *, memory: bool, busy_timeout: float, schema: str | None = None) -> None:
    """Settle a new driver connection: the same for pooled ones, the ORM's and Alembic's.

    Raises:
        ConfigError: the connection does not keep to the schema.
        StoreError: the server is too old.
    """
    check_server(connection, family)
    cursor = connection.cursor()
    try:
        if family == "sqlite":
            _prepare_sqlite(cursor, memory=memory, busy_timeout=busy_timeout)
        elif family == "mysql":
            # Without STRICT a value that is too long is cut; ids and outputs never are.
            cursor.execute("SET time_zone = '+00:00', sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')")
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        elif schema is not None:
            _check_path(cursor, schema)
            connection.rollback()  # the driver is not in autocommit mode yet, and could not be set to it now
    finally:
        cursor.close()


def _check_path(cursor: Any, schema: str) -> None:
    """A pooler that drops `options` (PgBouncer's ignore_startup_parameters) would lead us into another store."""
    found = cursor.execute("SELECT current_setting('search_path')").fetchone()[0]
    if found != quoted(schema) and found != schema:
        raise ConfigError(
            f"cascade_schema is {schema!r}, but a connection's search_path came out as {found!r}",
            hint="A pooler drops the startup option `-c search_path=…`. Connect to PostgreSQL itself, or give the "
            f"store's role the path (ALTER ROLE … SET search_path = {quoted(schema)}) and leave cascade_schema out",
        )


def _prepare_sqlite(cursor: Any, *, memory: bool, busy_timeout: float) -> None:
    cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout * 1000)}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL: safe against a killed process, and five times faster
    if not memory:
        _switch_to_wal(cursor, busy_timeout)


def _switch_to_wal(cursor: Any, busy_timeout: float) -> None:
    """A file of another program stays as it is, until our tables are in it.

    Several processes that open a new file at once: the switch does not wait for a lock by itself.
    """
    give_up_at = time.monotonic() + busy_timeout
    while True:
        try:
            if not cursor.execute(_OF_OTHERS).fetchone()[0]:
                cursor.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
