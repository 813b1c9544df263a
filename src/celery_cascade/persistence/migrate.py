"""Bringing a database's tables to a revision, and saying how far they are (R16, R46, R47).

Alembic is imported only when something is to be migrated.
"""

from __future__ import annotations

import io
import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, inspect, select, text

from celery_cascade.crash_points import CrashPoint, reached
from celery_cascade.errors import ConfigError, SchemaOutOfDate, StoreError, StoreUnavailable
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Base, Meta
from celery_cascade.persistence.schema import HEAD, REVISIONS, TABLES, VERSION_TABLE, VIEWS
from celery_cascade.persistence.surroundings import foreign_tables

if TYPE_CHECKING:
    from alembic.config import Config

logger = logging.getLogger("celery_cascade")

_REMEDY = "Run: celery -A <app> cascade migrate up"
_LOCK = 0x63617363616465  # "cascade", as PostgreSQL's advisory locks are numbers
_MYSQL_LOCK = "concat('cascade_migrate_', md5(database()))"
_PATIENCE = 60  # seconds to wait for another process's migration on MySQL


def upgrade(database: Database, revision: str = "head", *, by_itself: bool = False) -> list[str]:
    """Bring the tables to a revision. Processes that do it at once take turns; those that come second do nothing.

    Args:
        database: whose tables.
        revision: which; Alembic's words.
        by_itself: nobody has asked for it, so that it refuses what somebody should look at: tables that were dropped,
            and a database that holds tables of other programs and none of ours yet.

    Returns:
        The revisions that this call executed, oldest first; empty when there was nothing to do.

    Tables that were dropped although the revision says that they are there are made again, empty, with a warning.

    Raises:
        SchemaOutOfDate: the database is at a revision that this version of the code does not know.
        StoreError: it holds tables of our names that are not ours. Nothing was changed.
    """
    found = current(database)
    if found is not None:
        _check_known(database, found)
    elif by_itself:
        _refuse_strangers(database)
    if found == HEAD and revision in ("head", HEAD):
        lost = missing(database)
        if lost and by_itself:
            raise _lacking(database, lost)
        if lost:
            _locked(database, lambda connection: _make_again(connection, database.schema, lost))
            logger.warning("[cascade] made again in %s, empty: %s", database.shown, ", ".join(lost))
        return []
    done = _locked(database, lambda connection: _upgrade_on(connection, database.schema, revision))
    reached(CrashPoint.MIGRATED)
    return done


def downgrade(database: Database, revision: str) -> list[str]:
    """Take the tables back to a revision ("base" drops them all, with the sessions in them).

    Returns:
        The revisions that were undone, newest first.
    """
    return _locked(database, lambda connection: _run(connection, database.schema, "downgrade", revision))


def current(database: Database) -> str | None:
    """The revision of the database's tables; None if there are none of ours."""
    try:
        with database.read() as connection:
            return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    except SchemaOutOfDate:
        return None


def missing(database: Database) -> list[str]:
    """Our tables that are not there."""
    with database.read() as connection:
        return _missing(connection)


def _missing(connection: Connection) -> list[str]:
    there = set(inspect(connection).get_table_names())
    return [name for name in TABLES if name not in there]


def head() -> str:
    """The revision that this code needs."""
    return HEAD


def pending(database: Database) -> list[str]:
    """The revisions that `upgrade` would execute, oldest first."""
    found = current(database)
    if found is None:
        return list(REVISIONS)
    _check_known(database, found)
    return list(REVISIONS[REVISIONS.index(found) + 1 :])


def check(database: Database) -> None:
    """Pass if the tables are those that this code needs.

    Raises:
        SchemaOutOfDate: they are missing, older or newer; says what to run.
    """
    found = current(database)
    if found is None:
        _refuse_strangers(database)
        raise SchemaOutOfDate(f"the store {database.shown} has no tables of celery-cascade yet", hint=_REMEDY)
    _check_known(database, found)
    if found != HEAD:
        raise SchemaOutOfDate(
            f"the store {database.shown} is at revision {found}, this version needs {HEAD}", hint=_REMEDY
        )
    lost = missing(database)
    if lost:
        raise _lacking(database, lost)


def sql(database: Database, revision: str = "head") -> str:
    """The SQL of an upgrade from nothing, for people who run such things by hand. The database is not asked."""
    from alembic import command

    output = io.StringIO()
    config = _config(output_buffer=output)
    dialect = "mariadb" if database.url.get_backend_name() == "mariadb" else database.family
    config.attributes.update(dialect=dialect, schema=database.schema)
    command.upgrade(config, revision, sql=True)
    return output.getvalue()


def store_id(database: Database) -> str:
    """The store's own random id (R158).

    Raises:
        SchemaOutOfDate: there are no tables yet.
        StoreError: there are, but the id is gone.
    """
    with database.read() as connection:
        found = connection.execute(select(Meta.value).where(Meta.name == "store_id")).scalar()
    if found is None:
        raise StoreError(
            f"the store {database.shown} has lost its id (cascade_meta holds no store_id)",
            hint="Look at it with: cascade doctor",
        )
    return found


def _lacking(database: Database, lost: list[str]) -> SchemaOutOfDate:
    return SchemaOutOfDate(
        f"the store {database.shown} lacks {', '.join(lost)}, which somebody has dropped",
        hint=f"Restore a backup; or make them again, empty:\n{_REMEDY}",
    )


def _refuse_strangers(database: Database) -> None:
    others = foreign_tables(database)
    if others:
        names = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise SchemaOutOfDate(
            f"the store {database.shown} has tables of another program ({names}) and none of celery-cascade",
            hint="Set cascade_database_url, cascade_home or CELERY_CASCADE_HOME to a place of its own;\n"
            f"or, to keep ours beside them:\n{_REMEDY}",
        )


def _check_known(database: Database, found: str) -> None:
    if found not in REVISIONS:
        raise SchemaOutOfDate(
            f"the store {database.shown} is at revision {found}, which is newer than this version of celery-cascade "
            f"({HEAD})",
            hint="Run: pip install --upgrade celery-cascade",
        )


def _locked(database: Database, work: Any) -> list[str]:
    """Run `work` while no other process migrates: in one transaction where the database can undo DDL."""

    def locked(connection: Connection) -> list[str]:
        if database.family == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if database.family != "mysql":  # SQLite's BEGIN IMMEDIATE is the lock
            return list(work(connection))
        if connection.execute(text(f"SELECT get_lock({_MYSQL_LOCK}, {_PATIENCE})")).scalar() != 1:
            raise StoreUnavailable(
                f"another process has been migrating {database.shown} for {_PATIENCE} s",
                hint="Wait for it, or look with: SHOW PROCESSLIST",
            )
        try:
            return list(work(connection))
        finally:
            connection.execute(text(f"SELECT release_lock({_MYSQL_LOCK})"))

    return database.transaction(locked)


def _make_again(connection: Connection, schema: str | None, lost: list[str]) -> list[str]:
    """The tables as the models say, which a test holds to be what the migrations make; then views and triggers."""
    initial_sql = _initial_sql()
    if len(lost) == len(TABLES):  # there is nothing to lean on: begin anew
        connection.execute(text(f"DELETE FROM {VERSION_TABLE}"))  # noqa: S608
        return _upgrade_on(connection, schema, "head")
    dialect = connection.dialect
    for view in VIEWS:
        connection.execute(text(f"DROP VIEW IF EXISTS {view}"))
    Base.metadata.create_all(connection, tables=[Base.metadata.tables[name] for name in lost])
    if "cascade_meta" in lost:
        connection.execute(initial_sql.literal(initial_sql.new_store_id(dialect)))
    for statement in initial_sql.made_again(dialect, lost):
        connection.execute(initial_sql.literal(statement))
    return []


def _initial_sql() -> Any:
    """By name, as Alembic loads migrations: they stand above this module."""
    return import_module("celery_cascade.migrations.initial_sql")


def _upgrade_on(connection: Connection, schema: str | None, revision: str) -> list[str]:
    if connection.dialect.name not in ("mysql", "mariadb"):  # these undo a migration that dies on the way
        _refuse_others(connection)
    if connection.dialect.name in ("mysql", "mariadb"):
        _clear_half_made(connection)
    return _run(connection, schema, "upgrade", revision)


def _refuse_others(connection: Connection) -> None:
    """Tables of our names without our revision are somebody else's."""
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    ours = sorted(there & set(TABLES))
    stamped = VERSION_TABLE in there and connection.execute(text(f"SELECT count(*) FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    if ours and not stamped:
        raise StoreError(
            f"there is a table {ours[0]}, but no revision in {VERSION_TABLE}: it is not celery-cascade's",
            hint="If it is another application's, give celery-cascade a database of its own; "
            f"if it is ours, restore {VERSION_TABLE} from a backup",
        )
    if not stamped:  # whoever drops the tables by hand (R56) leaves PostgreSQL's functions behind
        initial_sql = _initial_sql()
        for statement in initial_sql.drop_functions(connection.dialect):
            connection.execute(initial_sql.literal(statement))


def _clear_half_made(connection: Connection) -> None:
    """Drop what a first migration left that died on the way: MySQL cannot undo DDL. Only if it holds no row."""
    inspector = inspect(connection)
    tables = [name for name in TABLES if inspector.has_table(name)]
    stamped = (
        inspector.has_table(VERSION_TABLE)
        and connection.execute(
            text(f"SELECT count(*) FROM {VERSION_TABLE}")  # noqa: S608
        ).scalar()
    )
    if stamped or not tables:
        return
    for name in tables:
        if (
            name not in ("cascade_meta", "cascade_sweeps")
            and connection.execute(
                text(f"SELECT 1 FROM {name} LIMIT 1")  # noqa: S608
            ).first()
        ):
            raise StoreError(
                f"there is a table {name} with rows in it, but no revision in {VERSION_TABLE}",
                hint="If it is another application's, give celery-cascade a database of its own; "
                f"if it is ours, restore {VERSION_TABLE} from a backup",
            )
    for view in VIEWS:
        connection.execute(text(f"DROP VIEW IF EXISTS {view}"))
    Base.metadata.drop_all(connection)


def _run(connection: Connection, schema: str | None, verb: str, revision: str) -> list[str]:
    try:
        from alembic import command
    except ModuleNotFoundError as error:
        raise ConfigError("alembic is not installed", hint="Run: pip install alembic") from error

    done: list[str] = []

    def note(*, step: Any, **_: Any) -> None:
        done.append(step.up_revision_id)

    config = _config()
    config.attributes.update(connection=connection, schema=schema, on_version_apply=note)
    getattr(command, verb)(config, revision)
    reached(CrashPoint.MIGRATION_OPEN)
    return done


def _config(**options: Any) -> Config:
    from alembic.config import Config

    config = Config(**options)
    config.set_main_option("script_location", "celery_cascade:migrations")
    config.set_main_option("path_separator", "os")
    return config
