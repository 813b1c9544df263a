"""R160: `cascade_schema`, a PostgreSQL schema of our own in a database that others use too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from celery_cascade import retry_stale
from celery_cascade.config import CascadeConfig
from celery_cascade.errors import ConfigError, SchemaOutOfDate
from celery_cascade.persistence import database_dialects, get_db_session, migrate, schema
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Session, SessionState
from celery_cascade.tasks import recovery
from sessions.conftest import close
from sessions.kit import CHAIN, Kit
from support.cluster import environment

ROOT = Path(__file__).parents[2]
NAME = "Jobs"  # with a capital: it has to be quoted wherever it stands


@pytest.fixture
def host(postgresql_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A client of the host application, whose path is PostgreSQL's default; its tables, one named like ours."""
    with psycopg.connect(driver_url(postgresql_url), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id integer)")
        connection.execute("CREATE TABLE session_states (hosts_own integer)")
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('hosts_own')")
        yield connection


def driver_url(url: str) -> str:
    return url.replace("+psycopg", "")


def relations(host: psycopg.Connection[Any], where: str) -> set[str]:
    found = host.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'v')", [f'"{where}"']
    )
    return {row[0] for row in found}


def routines(host: psycopg.Connection[Any], where: str) -> set[str]:
    found = host.execute("SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace", [f'"{where}"'])
    return {row[0] for row in found}


HOSTS = {"orders", "session_states", "alembic_version"}


@pytest.mark.postgresql
def test_a_store_lives_its_whole_life_in_its_schema(postgresql_url, host, tmp_path):
    """R160: up, sessions, recovery, views, guards, context, prune, down; the host's things are not touched."""
    database = Database(postgresql_url, schema=NAME)
    with pytest.raises(SchemaOutOfDate, match=r"\(schema Jobs\) has no tables"):
        migrate.check(database)
    assert migrate.upgrade(database) == list(schema.REVISIONS)
    assert migrate.upgrade(database) == []
    assert relations(host, NAME) == schema.OUR_TABLES
    assert routines(host, NAME) == {"cascade_refuse_update", "cascade_as_text"}
    kit = Kit(postgresql_url, tmp_path, cascade_schema=NAME, cascade_retention={"keep_last": 0})
    try:
        live_a_life(kit, host)
    finally:
        close(kit)
    assert migrate.downgrade(database, "base") == list(reversed(schema.REVISIONS))
    assert relations(host, NAME) == {schema.VERSION_TABLE}
    assert routines(host, NAME) == set()
    assert migrate.upgrade(database) == list(schema.REVISIONS)
    database.dispose()
    assert relations(host, "public") == HOSTS
    assert routines(host, "public") == set()
    assert host.execute("SELECT version_num FROM alembic_version").fetchall() == [("hosts_own",)]


def live_a_life(kit: Kit, host: psycopg.Connection[Any]) -> None:
    done = kit.cascades.run(kit.file(CHAIN), {"n": 1})
    assert done.status == "completed"
    failed = kit.run("a", {"id": "x", "task": "broken", "retry": {"max_attempts": 2, "delay": "10ms"}})
    assert failed.status == "failed"
    kit.fix.add("fixed")
    failed.resume()
    kit.deliver()
    assert failed.status == "completed"
    waits = kit.start("a", "b", {"id": "j", "task": "add", "needs": ["a", "b"]})
    retry_stale(lambda: waits.context.update(n=1))
    assert len(kit.messages()) == 1  # the broker was flushed
    kit.recover()
    kit.sql("UPDATE session_steps SET wake_at = now() WHERE wake_at IS NOT NULL")
    assert recovery.send_due(kit.runtime) == 1
    kit.deliver()
    assert (waits.status, waits.context) == ("completed", {"n": 1})
    # A client with another path: views and triggers know where their tables are.
    (text,) = host.execute(
        f'SELECT cascade_definition FROM "{NAME}".cascade_sessions_full WHERE session_id = %s', [done.id]
    ).fetchone()
    assert text == CHAIN
    assert host.execute(f'SELECT count(*) FROM "{NAME}".session_states_full').fetchone() == (3,)
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="are immutable"):
        host.execute(f"""UPDATE "{NAME}".cascade_sessions SET input_data = '[]'""")
    with kit.cascades.db_session() as db:
        assert db.query(SessionState).filter(SessionState.status == "completed").count() == 3
    host.execute(f"""UPDATE "{NAME}".session_states SET finished_at = finished_at - interval '1 year'""")
    assert kit.cascades.prune(older_than=timedelta(days=8)).deleted == 3
    assert host.execute(f'SELECT count(*) FROM "{NAME}".cascade_sessions').fetchone() == (0,)


@pytest.mark.postgresql
def test_two_schemas_of_one_database_are_two_stores(postgresql_url, host, tmp_path, monkeypatch):
    """R160: and a third without a schema, in public."""
    host.execute("DROP TABLE session_states")
    stores = [Database(postgresql_url, schema=name) for name in ("one", "two", None)]
    for database in stores:
        migrate.upgrade(database)
    assert len({migrate.store_id(database) for database in stores}) == 3
    with get_db_session(postgresql_url, schema="one") as db:
        db.add(Session(id="s", name="in one"))
        db.commit()
    monkeypatch.setenv("CELERY_CASCADE_DATABASE_URL", postgresql_url)
    monkeypatch.setenv("CELERY_CASCADE_SCHEMA", "two")
    with get_db_session() as db:
        assert db.query(Session).count() == 0
        db.add(Session(id="s", name="in two"))
        db.commit()
    with get_db_session(postgresql_url, schema="one") as db:
        assert db.query(Session.name).scalar() == "in one"
    migrate.downgrade(stores[0], "base")
    assert migrate.current(stores[0]) is None
    assert [migrate.current(database) for database in stores[1:]] == [schema.HEAD] * 2
    for database in stores:
        database.dispose()


@pytest.mark.postgresql
def test_a_schema_that_is_not_migrated_does_not_fall_back_on_the_store_in_public(postgresql_url):
    public, other = Database(postgresql_url), Database(postgresql_url, schema="other")
    migrate.upgrade(public)
    assert migrate.current(other) is None
    with pytest.raises(SchemaOutOfDate):
        migrate.check(other)
    public.dispose()
    other.dispose()


@pytest.mark.postgresql
def test_a_role_that_may_not_make_schemas_uses_one_that_is_there(postgresql_url, host):
    role = f"cascade_test_{os.getpid()}"
    host.execute(f"CREATE ROLE {role} LOGIN")
    try:
        host.execute(f'CREATE SCHEMA "{NAME}" AUTHORIZATION {role}')
        database = Database(sa.make_url(postgresql_url).set(username=role).render_as_string(), schema=NAME)
        assert migrate.upgrade(database) == list(schema.REVISIONS)
        database.dispose()
    finally:
        host.execute(f'DROP SCHEMA "{NAME}" CASCADE')
        host.execute(f"DROP ROLE {role}")


@pytest.mark.postgresql
def test_plain_alembic_works_in_the_schema(postgresql_url, host):
    """R156, R160."""

    def alembic(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=ROOT,
            env=environment() | {"CELERY_CASCADE_DATABASE_URL": postgresql_url, "CELERY_CASCADE_SCHEMA": NAME},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert schema.HEAD not in alembic("current")
    assert host.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [NAME]).fetchone() is None
    alembic("upgrade", "head")
    assert "No new upgrade operations detected" in alembic("check")
    assert relations(host, NAME) == schema.OUR_TABLES
    assert relations(host, "public") == HOSTS


@pytest.mark.postgresql
def test_script_for_people_makes_the_same_store(postgresql_url, host):
    database = Database(postgresql_url, schema=NAME)
    host.execute(migrate.sql(database).encode())
    migrate.check(database)
    assert migrate.upgrade(database) == []
    database.dispose()
    host.execute("RESET search_path")
    assert relations(host, "public") == HOSTS


@pytest.mark.postgresql
def test_a_pooler_that_drops_the_path_is_told(postgresql_url, monkeypatch):
    """Else the store in public would be taken for ours."""
    real = database_dialects.connect_args
    monkeypatch.setattr(
        database_dialects,
        "connect_args",
        lambda *given: {key: value for key, value in real(*given).items() if key != "options"},
    )
    database = Database(postgresql_url, schema=NAME)
    with pytest.raises(ConfigError, match="search_path came out as") as caught:
        database.ping()
    assert "pooler" in caught.value.hint
    database.dispose()


@pytest.mark.postgresql
def test_options_of_the_url_stay(postgresql_url):
    url = sa.make_url(postgresql_url).update_query_dict({"options": "-c work_mem=8MB"})
    database = Database(url.render_as_string(hide_password=False), schema=NAME)
    with database.read() as connection:
        assert connection.exec_driver_sql("SHOW work_mem").scalar() == "8MB"
        assert connection.exec_driver_sql("SHOW search_path").scalar() == f'"{NAME}"'
    database.dispose()


@pytest.mark.parametrize("url", [None, "sqlite:///x.db", "mysql://h/d", "mariadb+pymysql://h/d"])
def test_other_databases_refuse_it(url):
    """R160: told with the cure, at the start."""
    with pytest.raises(ConfigError, match="only PostgreSQL has schemas"):
        CascadeConfig(database_url=url, schema="jobs")
    if url is not None:
        with pytest.raises(ConfigError, match="only PostgreSQL has schemas"):
            Database(url, schema="jobs")


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "1a", "a" * 64, "pg_mine", "a;b", "information_schema", "é"])
def test_what_is_no_schema_is_refused(name):
    with pytest.raises(ConfigError, match=r"cascade_schema is .*; a schema's name is"):
        Database("postgresql://h/d", schema=name)


def test_setting_is_read_from_the_configuration_and_the_environment():
    url = {"cascade_database_url": "postgresql://h/d"}
    assert CascadeConfig.from_mapping(url, {}).schema is None
    assert CascadeConfig.from_mapping(url, {"CELERY_CASCADE_SCHEMA": "jobs"}).schema == "jobs"
    assert (
        CascadeConfig.from_mapping(url | {"cascade_schema": "mine"}, {"CELERY_CASCADE_SCHEMA": "jobs"}).schema == "mine"
    )
