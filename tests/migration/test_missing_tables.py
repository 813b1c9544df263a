"""Tables that were dropped by hand, and tables of others that bear our names."""

from __future__ import annotations

import logging

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from celery_cascade.errors import SchemaOutOfDate, StoreError
from celery_cascade.migrations import only_ours
from celery_cascade.persistence import migrate, schema
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Base


def drop(database: Database, *names: str) -> None:
    with database.autocommit() as connection:
        for name in names:
            kind = "VIEW" if name in schema.VIEWS else "TABLE"
            cascade = " CASCADE" if database.family == "postgresql" else ""
            connection.exec_driver_sql(f"DROP {kind} IF EXISTS {name}{cascade}")


def triggers_and_views(database: Database) -> set[str]:
    words = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal UNION SELECT viewname FROM pg_views"
        " WHERE schemaname = 'public'",
        "mysql": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = database()"
        " UNION SELECT table_name FROM information_schema.views WHERE table_schema = database()",
    }[database.family]
    with database.read() as connection:
        return set(connection.execute(sa.text(words)).scalars())


@pytest.mark.parametrize("lost", [("session_steps",), ("step_attempts", "session_states", "cascade_meta"), "all"])
def test_tables_that_were_dropped_are_made_again_by_the_command_that_is_named(database, lost, caplog) -> None:
    """R56, R150: the command that the error names works, and says what it did."""
    migrate.upgrade(database)
    objects = triggers_and_views(database)
    children_first = [table.name for table in reversed(Base.metadata.sorted_tables)]
    lost = children_first if lost == "all" else lost
    drop(database, *schema.VIEWS, *lost)
    with pytest.raises(SchemaOutOfDate, match=f"lacks .*{lost[0]}") as told:
        migrate.check(database)
    assert "cascade migrate up" in told.value.hint
    with caplog.at_level(logging.WARNING, "celery_cascade"):
        migrate.upgrade(database)
    assert lost[0] in caplog.text
    migrate.check(database)
    assert migrate.store_id(database)
    assert triggers_and_views(database) == objects
    with database.read() as connection:
        opts = {"version_table": schema.VERSION_TABLE, "include_object": only_ours(connection.dialect.name)}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, Base.metadata) == []


def test_a_table_of_our_name_that_is_not_ours_is_left_alone(database) -> None:
    """R160: S1's own `session_states`, say."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("CREATE TABLE session_states (id INTEGER PRIMARY KEY, mine INTEGER)")
        connection.exec_driver_sql("INSERT INTO session_states VALUES (1, 2)")
    with pytest.raises(StoreError, match="session_states") as told:
        migrate.upgrade(database)
    assert "database of its own" in told.value.hint
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT mine FROM session_states").scalar() == 2
        assert "cascade_sessions" not in sa.inspect(connection).get_table_names()


def test_a_database_of_another_program_is_told_by_its_tables(database) -> None:
    """D4, R160: ours can live beside them, but nobody decides that silently."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("CREATE TABLE customers (id INTEGER PRIMARY KEY)")
    with pytest.raises(SchemaOutOfDate, match=r"another program \(customers\)"):
        migrate.check(database)
    migrate.upgrade(database)
    migrate.check(database)


def test_a_store_whose_tables_were_dropped_by_hand_can_be_migrated_again(database) -> None:
    """R56: the rollback by DROP TABLE, the table of revisions included."""
    migrate.upgrade(database)
    children_first = [table.name for table in reversed(Base.metadata.sorted_tables)]
    drop(database, *schema.VIEWS, *children_first, schema.VERSION_TABLE)
    assert migrate.upgrade(database) == list(schema.REVISIONS)
    migrate.check(database)
