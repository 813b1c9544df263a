"""What `doctor` says about what is around our tables, on each database."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from celery_cascade.persistence import migrate
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import SessionState
from cli.kit import Project
from sessions.conftest import migrated
from support import services


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
)
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database of each dialect."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield migrated(f"sqlite:///{tmp_path_factory.mktemp('store')}/store.db")
        else:
            yield migrated(stack.enter_context(getattr(services, f"fresh_{request.param}_url")()))


@pytest.fixture
def project(make_project, store_url: str) -> Project:
    return make_project(cascade_database_url=store_url)


def check(project: Project, name: str) -> dict[str, Any] | None:
    found = [check for check in project.json("doctor")["checks"] if check["name"] == name]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_failed_foreign_key_is_explained(project: Project) -> None:
    """R54: it cannot come from the types of the ids, so it is an unknown session."""
    told = check(project, "references")
    assert told["state"] == "ok"
    assert re.search(r"session_id is VARCHAR\(36\)( COLLATE \S+)? everywhere", told["message"])
    assert "FOREIGN KEY constraint failed" in told["hint"]
    with project.cascades.db_session() as db:
        db.add(SessionState.create_for_session("nobody", "m"))
        with pytest.raises(IntegrityError, match=r"(?i)foreign key constraint"):
            db.commit()


def test_rows_whose_session_was_deleted_behind_our_back_are_told(make_project, sqlite_url: str) -> None:
    """R54: SQLite keeps its foreign keys only where a client asks for it."""
    project = make_project(cascade_database_url=sqlite_url)
    assert project.run("migrate", "up").exit_code == 0
    session = project.started()
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as client:
        client.execute("DELETE FROM cascade_sessions WHERE session_id = ?", [session])
    client.close()
    told = check(project, "references")
    assert told["state"] == "warning"
    assert told["message"].startswith("1 row of session_states, 1 row of session_steps without what they refer to")


def test_tables_of_a_host_are_told_with_the_line_for_its_alembic(project: Project) -> None:
    """R160."""
    assert check(project, "tables") is None
    with project.runtime.store.database.autocommit() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER)")
    told = check(project, "tables")
    assert (told["state"], told["message"]) == ("ok", "1 other table in the same place: orders")
    assert "include_object=celery_cascade.migrations.include_object" in told["hint"]
    with project.runtime.store.database.autocommit() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    assert "2 other tables and an Alembic history" in check(project, "tables")["message"]


# -- an SQLite without JSON


def refuse_json(action: int, _one: Any, function: Any, *_rest: Any) -> int:
    if action == sqlite3.SQLITE_FUNCTION and str(function).startswith("json"):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


@pytest.fixture
def no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new SQLite connection is without JSON functions, as one that was built so."""

    def connect(database: Database, connection: Any, _record: Any) -> None:
        connection.set_authorizer(refuse_json)
        real(database, connection, _record)

    real = Database._prepare
    monkeypatch.setattr(Database, "_prepare", connect)


def test_sqlite_without_json_functions_runs_sessions_and_the_view_alone_is_missing(make_project, no_json: None) -> None:
    """R55: values are text, read and written by Python."""
    project = make_project()
    session = project.ended()
    assert project.json("show", session)["session"]["output"] == {"sum": 12, "word": "none"}
    waits = project.cascades.session(project.started())
    waits.context["a"] = {"b": [1]}
    waits.context["a"]["b"].append(2)
    assert waits.context == {"a": {"b": [1, 2]}}
    with project.cascades.db_session() as db:
        assert db.query(SessionState).filter(SessionState.session_id == waits.id).one().context_variables == {
            "a": {"b": [1, 2]}
        }
    told = check(project, "json")
    assert told["state"] == "warning"
    assert "session_states_full cannot be read" in told["message"]
    with project.runtime.store.database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM cascade_sessions_full")).scalar() == 2


def test_sqlite_without_json_functions_can_be_migrated_down_and_up(tmp_path: Path, no_json: None) -> None:
    """R55."""
    database = Database(f"sqlite:///{tmp_path}/store.db")
    migrate.upgrade(database)
    migrate.downgrade(database, "base")
    migrate.upgrade(database)
    database.dispose()
