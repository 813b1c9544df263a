"""Migrations by several processes, offline, interrupted, and by the plain `alembic` command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from celery_cascade.errors import ConfigError, StoreError
from celery_cascade.persistence import migrate, schema
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Session

ROOT = Path(__file__).parents[2]
UPGRADE = """
import sys
from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database
sys.stdin.read()  # until all are there
database = Database(sys.argv[1])
print(len(migrate.upgrade(database)))
migrate.check(database)
database.dispose()
"""


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([*(entry for entry in sys.path if entry)])
    return {**os.environ, "PYTHONPATH": path, **more}


@pytest.mark.slow
def test_eight_processes_at_once_migrate_once(database_url):
    """R16: those that come second find nothing to do; nobody meets a lock."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", UPGRADE, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for _ in range(8)
    ]
    time.sleep(1)
    for process in processes:
        process.stdin.close()
        process.stdin = None
    answers = [process.communicate(timeout=120) for process in processes]
    assert [err for _, err in answers if err] == []
    assert sorted(int(out) for out, _ in answers) == [0] * 7 + [len(schema.REVISIONS)]


def test_first_use_of_the_embedded_store_takes_less_than_half_a_second(tmp_path):
    """Alembic's import included: it is what a first `start()` waits for."""
    program = f"""
from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database
import sys, time
assert "alembic" not in sys.modules
began = time.perf_counter()
database = Database("sqlite:///{tmp_path}/store.db")
assert migrate.upgrade(database)
print(time.perf_counter() - began)
"""
    took = min(
        float(
            subprocess.run(
                [sys.executable, "-c", program.replace("store.db", f"store{number}.db")],
                env=environment(),
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout
        )
        for number in range(3)
    )
    assert took < 0.5


def test_check_does_not_import_alembic(tmp_path):
    """A worker's start must not pay for it."""
    database = Database(f"sqlite:///{tmp_path}/store.db")
    migrate.upgrade(database)
    database.dispose()
    program = f"""
import sys
from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database
database = Database("sqlite:///{tmp_path}/store.db")
migrate.check(database), migrate.pending(database), migrate.upgrade(database), migrate.store_id(database)
assert "alembic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True, timeout=60)


def test_store_in_memory_can_be_migrated():
    database = Database("sqlite://")
    assert migrate.upgrade(database) == list(schema.REVISIONS)
    migrate.check(database)
    database.dispose()


@pytest.mark.parametrize("url", ["sqlite:///x.db", "postgresql://h/d", "mysql://h/d"])
def test_offline_sql_names_every_table_and_asks_no_database(url):
    script = migrate.sql(Database(url))
    for name in (*schema.TABLES, schema.VERSION_TABLE):
        assert f"CREATE TABLE {name} " in script
    for name in schema.VIEWS:
        assert f"VIEW {name} AS" in script
    assert "CREATE TRIGGER cascade_sessions_are_immutable" in script
    assert "store_id" in script


def test_offline_sql_makes_the_same_store(sqlite_url):
    import sqlite3

    database = Database(sqlite_url)
    path = database.url.database
    with sqlite3.connect(path) as connection:
        connection.executescript(migrate.sql(database))
    connection.close()
    migrate.check(database)
    assert len(migrate.store_id(database)) == 32
    assert migrate.upgrade(database) == []
    database.dispose()


@pytest.mark.mariadb
def test_migration_that_died_half_way_starts_over_where_ddl_cannot_be_undone(mariadb_url):
    database = Database(mariadb_url)
    migrate.upgrade(database)
    with database.autocommit() as connection:
        connection.exec_driver_sql(f"DELETE FROM {schema.VERSION_TABLE}")
        connection.exec_driver_sql("DROP TABLE session_actions")
        connection.exec_driver_sql("DROP TRIGGER cascade_sessions_are_immutable")
    assert migrate.upgrade(database) == list(schema.REVISIONS)
    migrate.check(database)
    with database.autocommit() as connection:
        connection.exec_driver_sql(f"DELETE FROM {schema.VERSION_TABLE}")
        connection.execute(sa.insert(Session).values(session_id="precious"))
    with pytest.raises(StoreError, match="cascade_sessions with rows in it"):
        migrate.upgrade(database)
    database.dispose()


@pytest.mark.mariadb
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("revision", schema.REVISIONS[1:])
def test_a_later_migration_that_died_before_its_stamp_can_be_done_again(mariadb_url, revision, way):
    """R46, R81: its tables are there (or gone), the stamp is still that of before."""
    database = Database(mariadb_url)
    migrate.upgrade(database)
    at = schema.REVISIONS.index(revision)
    before = schema.REVISIONS[at - 1]
    if way == "up":
        stamp, again, wanted = before, lambda: migrate.upgrade(database), list(schema.REVISIONS[at:])
    else:
        migrate.downgrade(database, before)
        stamp, again, wanted = revision, lambda: migrate.downgrade(database, before), [revision]
    with database.autocommit() as connection:
        connection.exec_driver_sql(f"UPDATE {schema.VERSION_TABLE} SET version_num = '{stamp}'")
    assert again() == wanted
    migrate.upgrade(database)
    migrate.check(database)
    database.dispose()


@pytest.mark.parametrize("family", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_failed_migration_leaves_nothing_where_ddl_can_be_undone(family, request):
    database = Database(request.getfixturevalue(f"{family}_url"))
    with database.autocommit() as connection:
        connection.exec_driver_sql("CREATE TABLE hosts_own (number INTEGER)")
        connection.exec_driver_sql("CREATE INDEX ix_session_mappings_session_id ON hosts_own (number)")
    with pytest.raises(sa.exc.DBAPIError):
        migrate.upgrade(database)
    with database.read() as connection:
        assert sa.inspect(connection).get_table_names() == ["hosts_own"]
    database.dispose()


def test_plain_alembic_command_works_in_the_checkout(database_url):
    """R156, R47: up, down and up again by the real command; nothing is missing, and nothing is left behind."""
    command = Path(sys.executable).with_name("alembic")
    program = [str(command)] if command.exists() else [sys.executable, "-m", "alembic"]

    def alembic(*arguments: str) -> str:
        done = subprocess.run(
            [*program, *arguments],
            cwd=ROOT,
            env=environment(CELERY_CASCADE_DATABASE_URL=database_url),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    database = Database(database_url, null_pool=True)
    with database.autocommit() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    alembic("upgrade", "head")
    assert f"{schema.HEAD} (head)" in alembic("current")
    assert "No new upgrade operations detected" in alembic("check")
    migrate.check(database)
    first = things(database)
    assert {*schema.OUR_TABLES, "orders", "cascade_sessions_are_immutable"} <= first
    for _ in schema.REVISIONS:
        alembic("downgrade", "-1")
    left = things(database)
    assert {name for name in left if "pk" not in name} == {"orders", schema.VERSION_TABLE}
    alembic("upgrade", "head")
    assert things(database) == first
    migrate.check(database)
    if database.family == "sqlite":  # asks no database, so one is enough
        assert "CREATE TABLE cascade_sessions" in alembic("upgrade", "head", "--sql")


def things(database: Database) -> set[str]:
    """Everything that somebody has made in a database: tables, views, indexes, triggers and functions, by name."""
    statements = {
        "sqlite": ["SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%%'"],
        "postgresql": [
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace",
            "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        ],
        "mysql": [
            "SELECT table_name FROM information_schema.tables WHERE table_schema = database()",
            "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = database()",
        ],
    }[database.family]
    with database.read() as connection:
        return {name for statement in statements for name in connection.exec_driver_sql(statement).scalars()}


def test_missing_alembic_names_the_pip_command(sqlite_url, monkeypatch):
    """R53."""
    monkeypatch.setitem(sys.modules, "alembic", None)
    database = Database(sqlite_url)
    with pytest.raises(ConfigError, match="alembic is not installed") as caught:
        migrate.upgrade(database)
    assert "pip install" in caught.value.hint
    database.dispose()


def test_plain_alembic_command_says_what_is_missing():
    """R51."""
    env = environment()
    env.pop("CELERY_CASCADE_DATABASE_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "current"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "CELERY_CASCADE_DATABASE_URL" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
