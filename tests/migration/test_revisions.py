"""Up, down and up again; what is made is what the models say; what is there already stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import celery_cascade.migrations
from celery_cascade.errors import SchemaOutOfDate, StoreError
from celery_cascade.migrations import include_object, initial_sql, only_ours
from celery_cascade.persistence import migrate, schema
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Base

SCRIPTS = ScriptDirectory(str(Path(celery_cascade.migrations.__file__).parent))


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        inspector = sa.inspect(connection)
        return {*inspector.get_table_names(), *inspector.get_view_names()}


def test_revisions_known_without_alembic_are_those_in_the_files():
    """R46: a single head, unique ids, an unbroken line."""
    found = [script.revision for script in SCRIPTS.walk_revisions()]
    assert tuple(reversed(found)) == schema.REVISIONS
    assert SCRIPTS.get_heads() == [schema.HEAD] == [migrate.head()]
    assert len(set(found)) == len(found)
    for file in (Path(celery_cascade.migrations.__file__).parent / "versions").glob("*.py"):
        assert file.stem.split("_")[0] in found


def test_tables_known_without_the_models_are_the_models_tables():
    assert set(schema.TABLES) == set(Base.metadata.tables)
    assert set(initial_sql.TABLES) | {"session_context", "session_tags"} == set(schema.TABLES)


def test_upgrade_of_an_empty_database_tells_what_it_executed_and_the_second_time_nothing(database):
    """R1, R16, R46."""
    assert migrate.current(database) is None
    assert migrate.pending(database) == list(schema.REVISIONS)
    assert migrate.upgrade(database) == list(schema.REVISIONS)
    assert migrate.current(database) == schema.HEAD
    assert migrate.pending(database) == []
    assert migrate.upgrade(database) == []
    assert tables(database) == schema.OUR_TABLES


def test_down_and_up_again_is_clean(database):
    """R47, R56."""
    migrate.upgrade(database)
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO cascade_sessions (session_id) VALUES ('s')")
    assert migrate.downgrade(database, "base") == list(reversed(schema.REVISIONS))
    assert tables(database) == {schema.VERSION_TABLE}
    assert leftovers(database) == []
    assert migrate.current(database) is None
    assert migrate.upgrade(database) == list(schema.REVISIONS)
    assert tables(database) == schema.OUR_TABLES
    assert migrate.downgrade(database, "-1") == [schema.HEAD]


def leftovers(database: Database) -> list[str]:
    """Triggers and functions of ours."""
    statement = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT proname FROM pg_proc WHERE proname LIKE 'cascade%%'",
        "mysql": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = database()",
    }[database.family]
    with database.read() as connection:
        return list(connection.exec_driver_sql(statement).scalars())


def test_alembic_finds_no_difference_between_the_models_and_what_was_migrated(database):
    """R32."""
    migrate.upgrade(database)
    with database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": schema.VERSION_TABLE,
                "compare_type": True,
                "compare_server_default": _defaults_differ if database.family == "mysql" else True,
                "include_object": only_ours(connection.dialect.name),
            },
        )
        assert compare_metadata(context, Base.metadata) == []


def test_index_for_the_beginning_of_an_id_is_made_where_it_is_needed(database):
    """On the others the primary key has that range, and one more index would be one more to write."""
    migrate.upgrade(database)
    with database.read() as connection:
        made = {index["name"] for index in sa.inspect(connection).get_indexes("cascade_sessions")}
    assert ("ix_cascade_sessions_session_id" in made) == (database.family == "postgresql")


def _defaults_differ(_context: Any, _inspected: Any, _metadata: Any, found: Any, _default: Any, said: Any) -> bool:
    """MariaDB gives an expression back without its parentheses."""
    return str(found).strip("()") != str(said).strip("()") if found and said else found != said


def test_migrated_schema_is_that_of_create_all_in_every_detail(database):
    """R31, R32: columns, types, defaults, keys, checks and indexes."""
    migrate.upgrade(database)
    migrated = described(database)
    migrate.downgrade(database, "base")
    Base.metadata.create_all(database.engine)
    created = described(database)
    assert set(migrated) == set(created)
    for table in migrated:
        assert migrated[table] == created[table], table


def described(database: Database) -> dict[str, Any]:
    with database.read() as connection:
        inspector = sa.inspect(connection)
        return {
            table: {
                "columns": [
                    {key: str(value) for key, value in column.items()} for column in inspector.get_columns(table)
                ],
                "primary key": inspector.get_pk_constraint(table),
                "foreign keys": by_name(inspector.get_foreign_keys(table)),
                "unique": by_name(inspector.get_unique_constraints(table)),
                "checks": by_name(inspector.get_check_constraints(table)),
                "indexes": by_name([as_words(index) for index in inspector.get_indexes(table)]),
                "options": inspector.get_table_options(table) if database.family == "mysql" else {},
            }
            for table in schema.TABLES
        }


def as_words(index: Any) -> dict[str, Any]:
    return {**index, "dialect_options": {key: str(value) for key, value in index.get("dialect_options", {}).items()}}


def by_name(found: list[Any]) -> list[Any]:
    return sorted(found, key=lambda item: str(item["name"]))


def test_head_has_the_columns_of_the_seed_and_its_five_indexes(database):
    """R31, R32, R57."""
    migrate.upgrade(database)
    with database.read() as connection:
        inspector = sa.inspect(connection)
        columns = {column["name"]: column for column in inspector.get_columns("session_states")}
        indexes = {tuple(index["column_names"]) for index in inspector.get_indexes("session_states")}
        (foreign,) = inspector.get_foreign_keys("session_states")
        lengths = {name: getattr(column["type"], "length", None) for name, column in columns.items()}
    nullable = {name for name, column in columns.items() if column["nullable"]}
    assert {"context_variables", "plan_data", "current_phase", "current_step", "expires_at"} <= nullable
    assert not nullable & {"id", "session_id", "mode", "status", "created_at", "updated_at", "version"}
    assert [lengths[name] for name in ("id", "session_id", "mode", "current_phase", "status")] == [36, 36, 50, 50, 20]
    assert {("session_id",), ("status",), ("session_id", "status"), ("mode",), ("updated_at",)} <= indexes
    assert foreign["referred_table"] == "cascade_sessions"
    assert foreign["options"]["ondelete"] == "CASCADE"


@pytest.mark.postgresql
def test_index_on_the_heads_time_is_brin_on_postgresql(postgresql_url):
    """A B-tree there makes each checkpoint write 819 bytes of WAL instead of 193."""
    database = Database(postgresql_url)
    migrate.upgrade(database)
    with database.read() as connection:
        made = connection.exec_driver_sql(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_session_states_updated'"
        ).scalar_one()
    assert "USING brin" in made
    database.dispose()


# -- beside others -----------------------------------------------------------------------------------------------------


def test_hosts_tables_and_its_own_alembic_are_left_alone(database):
    """R46, R50."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('hosts_own')")
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO orders VALUES (7)")
    migrate.upgrade(database)
    migrate.downgrade(database, "base")
    migrate.upgrade(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "hosts_own"
        assert connection.exec_driver_sql("SELECT id FROM orders").scalar_one() == 7


def test_hosts_autogenerate_leaves_our_tables_alone(database):
    """R50, R160: without the function it would drop every one of them."""
    host = sa.MetaData()
    sa.Table("orders", host, sa.Column("id", sa.Integer, primary_key=True))
    host.create_all(database.engine)
    migrate.upgrade(database)
    with database.read() as connection:
        plain = compare_metadata(MigrationContext.configure(connection), host)
        ours_left_out = compare_metadata(
            MigrationContext.configure(connection, opts={"include_object": include_object}), host
        )
    assert {change[1].name for change in plain if change[0] == "remove_table"} == schema.OUR_TABLES - set(schema.VIEWS)
    assert ours_left_out == []


# -- what check() says -------------------------------------------------------------------------------------------------


def test_check_passes_on_the_revision_that_the_code_needs(database):
    migrate.upgrade(database)
    migrate.check(database)


def test_check_says_what_to_run_when_there_are_no_tables(database):
    """R150: what, which, and the next command."""
    with pytest.raises(SchemaOutOfDate, match="has no tables of celery-cascade yet") as caught:
        migrate.check(database)
    assert "cascade migrate up" in caught.value.hint
    assert caught.value.exit_code == 7
    with pytest.raises(SchemaOutOfDate):
        migrate.store_id(database)


def test_check_says_which_revision_is_there_and_which_is_needed(database, monkeypatch):
    migrate.upgrade(database)
    monkeypatch.setattr(migrate, "HEAD", "9000")
    monkeypatch.setattr(migrate, "REVISIONS", (*schema.REVISIONS, "9000"))
    with pytest.raises(SchemaOutOfDate, match=f"is at revision {schema.HEAD}, this version needs 9000"):
        migrate.check(database)
    assert migrate.pending(database) == ["9000"]


@pytest.mark.parametrize("question", [migrate.check, migrate.pending, migrate.upgrade])
def test_database_of_a_newer_version_is_told_and_left_as_it_is(database, question):
    migrate.upgrade(database)
    with database.autocommit() as connection:
        connection.exec_driver_sql(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SchemaOutOfDate, match="revision 9999, which is newer") as caught:
        question(database)
    assert "pip install --upgrade celery-cascade" in caught.value.hint
    assert migrate.current(database) == "9999"


# -- the store's id ----------------------------------------------------------------------------------------------------


def test_each_store_has_a_random_id_of_its_own(database):
    """R158."""
    migrate.upgrade(database)
    first = migrate.store_id(database)
    assert len(first) == 32
    assert int(first, 16)
    assert migrate.store_id(database) == first
    migrate.downgrade(database, "base")
    migrate.upgrade(database)
    assert migrate.store_id(database) != first


def test_store_that_lost_its_id_is_told(database):
    migrate.upgrade(database)
    with database.autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM cascade_meta")
    with pytest.raises(StoreError, match="lost its id"):
        migrate.store_id(database)


def test_a_store_of_the_first_revision_keeps_its_rows_on_the_way_up(database):
    """R46: and a worker of the older version could still be in it."""
    migrate.upgrade(database)
    assert migrate.downgrade(database, "0001") == ["0004", "0003", "0002"]
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO cascade_workers (id, nodename, host, pid) VALUES ('w', 'n', 'h', 7)")
    with pytest.raises(SchemaOutOfDate, match="is at revision 0001, this version needs 0004"):
        migrate.check(database)
    assert migrate.upgrade(database) == ["0002", "0003", "0004"]
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT id, queues FROM cascade_workers").one() == ("w", None)


def test_attempts_of_the_second_revision_are_those_of_nobody_late(database):
    """R46, R47: up and down keep what was recorded."""
    migrate.upgrade(database)
    assert migrate.downgrade(database, "0002") == ["0004", "0003"]
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO cascade_sessions (session_id) VALUES ('s')")
        connection.exec_driver_sql(
            "INSERT INTO step_attempts (session_id, step, item, attempt, kind, version)"
            " VALUES ('s', 'a', -1, 1, 'crash', 1)"
        )
    assert migrate.upgrade(database) == ["0003", "0004"]
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT kind, fenced_at FROM step_attempts").one() == ("crash", None)
    assert migrate.downgrade(database, "0002") == ["0004", "0003"]
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT kind FROM step_attempts").scalar() == "crash"


def test_tags_of_older_sessions_can_be_found_after_the_way_up(database):
    """R46: what is broken among them hides none."""
    migrate.upgrade(database)
    assert migrate.downgrade(database, "0003") == ["0004"]
    with database.autocommit() as connection:
        for session, tags in (("a", '["red", "big", "red"]'), ("b", None), ("c", "no json"), ("d", '["red", 7]')):
            connection.execute(
                sa.text("INSERT INTO cascade_sessions (session_id, tags) VALUES (:session, :tags)"),
                {"session": session, "tags": tags},
            )
    assert migrate.upgrade(database) == ["0004"]
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT session_id, tag FROM session_tags ORDER BY session_id, tag").all()
    assert [tuple(row) for row in found] == [("a", "big"), ("a", "red"), ("d", "red")]
