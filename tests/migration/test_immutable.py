"""R28: what was run stays what was run; and the views for people with a SQL client (D5)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from celery_cascade.migrations.initial_sql import IMMUTABLE, LATER
from celery_cascade.persistence import migrate
from celery_cascade.persistence.codec import encode
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Definition, Session, SessionMessage, SessionState
from celery_cascade.persistence.types import UtcDateTime
from support import services

BODY = "cascade: träger # 🚀\r\n".encode("utf-8-sig")
DIGEST = hashlib.sha256(BODY).hexdigest()
NOT_UTF8 = "cascade: x".encode("utf-16")


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('store')}/store.db"
        else:
            url = stack.enter_context(getattr(services, f"fresh_{request.param}_url")())
        database = Database(url)
        migrate.upgrade(database)
        yield database
        database.dispose()


@pytest.fixture
def database(store: Database) -> Iterator[Database]:
    with store.autocommit() as connection:
        connection.execute(sa.insert(Definition).values(digest=DIGEST, cascade_id="träger", format="yaml", body=BODY))
        connection.execute(
            sa.insert(Session).values(
                session_id="s1",
                cascade_id="träger",
                definition_digest=DIGEST,
                input_data='{"n":1}',
                name="first",
                depth=0,
            )
        )
    yield store
    with store.autocommit() as connection:
        connection.execute(sa.delete(Session))
        connection.execute(sa.delete(Definition))


ATTEMPTS = [
    ("cascade_definitions", "body", b"cascade: other"),
    ("cascade_definitions", "cascade_id", "other"),
    ("cascade_definitions", "first_seen_at", datetime(2020, 1, 1)),
    ("cascade_sessions", "input_data", "{}"),
    ("cascade_sessions", "created_at", datetime(2020, 1, 1)),
    ("cascade_sessions", "definition_digest", None),
    ("cascade_sessions", "depth", 1),
    ("cascade_sessions", "config_path", "/elsewhere"),
    ("cascade_sessions", "trigger", "beat"),
]


@pytest.mark.parametrize(("table", "column", "value"), ATTEMPTS)
def test_raw_update_is_refused_by_the_database(database, table, column, value):
    """R28."""
    quote = "`" if database.family == "mysql" else '"'
    statement = sa.text(f"UPDATE {table} SET {quote}{column}{quote} = :value").bindparams(
        sa.bindparam("value", type_=sa.DateTime() if isinstance(value, datetime) else None)
    )
    with pytest.raises(DBAPIError, match=f"{table} are immutable"), database.autocommit() as connection:
        connection.execute(statement, {"value": value})


OTHER = {sa.LargeBinary: b"other", sa.Integer: 7, UtcDateTime: datetime(2020, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize("model", [Definition, Session])
def test_no_guarded_column_can_be_changed_by_an_update(database, model):
    """R28: each of them, from a value and from NULL, by whoever has a SQL client."""
    table = model.__table__
    changed = []
    for name in (*IMMUTABLE[table.name], *LATER.get(table.name, ())):
        kind = type(table.c[name].type)
        value = next((other for known, other in OTHER.items() if issubclass(kind, known)), "other")
        try:
            with database.autocommit() as connection:
                connection.execute(
                    sa.text(f"UPDATE {table.name} SET {quote(database, name)} = :value").bindparams(
                        sa.bindparam("value", value, type_=table.c[name].type)
                    )
                )
        except DBAPIError as error:
            if f"{table.name} are immutable" in str(error):
                continue
        changed.append(name)
    assert changed == []
    with database.read() as connection:
        assert connection.execute(sa.select(Definition.body)).scalar_one() == BODY
        assert connection.execute(sa.select(Session.input_data, Session.session_id)).one() == ('{"n":1}', "s1")


def quote(database: Database, name: str) -> str:
    return f"`{name}`" if database.family == "mysql" else f'"{name}"'


def test_every_column_but_the_labels_is_guarded():
    assert set(Definition.__table__.c.keys()) == set(IMMUTABLE["cascade_definitions"])
    guarded = {*IMMUTABLE["cascade_sessions"], *LATER["cascade_sessions"]}
    assert set(Session.__table__.c.keys()) - guarded == {"name", "tags"}


def test_update_that_changes_nothing_passes(database):
    """An upsert of the same definition is one, on MySQL."""
    with database.autocommit() as connection:
        connection.execute(sa.update(Definition).values(body=BODY, digest=DIGEST))
        connection.execute(sa.update(Session).values(input_data='{"n":1}', config_path=None))


def test_label_may_change_and_a_row_may_be_deleted(database):
    """R28: DELETE works."""
    with database.autocommit() as connection:
        assert connection.execute(sa.update(Session).values(name="renamed", tags="[]")).rowcount == 1
        assert connection.execute(sa.delete(Session)).rowcount == 1
        assert connection.execute(sa.delete(Definition)).rowcount == 1


def test_view_of_sessions_has_the_definition_as_text(database):
    """D5, R1, R14."""
    with database.read() as connection:
        row = connection.exec_driver_sql("SELECT * FROM cascade_sessions_full").mappings().one()
    assert list(row) == [
        "session_id",
        "cascade_id",
        "cascade_definition",
        "definition_sha256",
        "input_data",
        "config_path",
        "created_at",
        "parent_session_id",
        "depth",
    ]
    assert row["cascade_definition"].encode() == BODY
    assert row["definition_sha256"] == DIGEST
    assert json.loads(row["input_data"]) == {"n": 1}


def test_definition_that_is_not_utf8_spoils_only_its_own_text(database):
    with database.autocommit() as connection:
        connection.execute(sa.insert(Definition).values(digest="d" * 64, cascade_id="x", format="yaml", body=NOT_UTF8))
        connection.execute(sa.insert(Session).values(session_id="s2", definition_digest="d" * 64))
        connection.execute(sa.insert(Session).values(session_id="s3"))
        rows = connection.exec_driver_sql(
            "SELECT session_id, CASE WHEN session_id <> 's2' THEN cascade_definition END FROM cascade_sessions_full"
        ).all()
        # sqlite3 itself refuses to hand over text that is not UTF-8; a SQL client shows it
        connection.exec_driver_sql("SELECT length(cascade_definition) FROM cascade_sessions_full").all()
    found = {row[0]: row[1] for row in rows}
    assert found["s1"].encode() == BODY
    assert found["s3"] is None


def test_view_of_states_has_the_conversation_as_a_json_array(database):
    """D5, R126."""
    said = [
        {"role": 'us"er', "content": "Hello\n\u0000 é🚀"},
        {"role": "assistant", "content": {"text": ["Hi"], "at": 1.5}, "tool": {"name": "x"}, "n": None},
        {"role": "user", "content": None},
    ]
    with database.autocommit() as connection:
        connection.execute(
            sa.insert(SessionState).values(session_id="s1", mode="copilot", context_variables={"a": [1]})
        )
        connection.execute(sa.insert(Session).values(session_id="s2"))
        connection.execute(sa.insert(SessionState).values(session_id="s2", mode="copilot"))
        for seq, message in reversed(list(enumerate(said))):
            extra = {key: value for key, value in message.items() if key not in ("role", "content")}
            connection.execute(
                sa.insert(SessionMessage).values(
                    session_id="s1",
                    seq=seq,
                    role=message["role"],
                    content=encode(message["content"], what="content"),
                    extra=encode(extra, what="extra") if extra else None,
                    version=1,
                )
            )
        rows = connection.exec_driver_sql("SELECT * FROM session_states_full ORDER BY session_id").mappings().all()
    assert list(rows[0]) == [
        "id",
        "session_id",
        "mode",
        "conversation_history",
        "context_variables",
        "plan_data",
        "current_phase",
        "current_step",
        "status",
        "created_at",
        "updated_at",
        "expires_at",
        "version",
    ]
    assert json.loads(rows[0]["conversation_history"]) == said
    context = rows[0]["context_variables"]
    assert (json.loads(context) if isinstance(context, str) else context) == {"a": [1]}
    assert json.loads(rows[1]["conversation_history"]) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cascade_sessions_full SET cascade_id = 'x'",
        "DELETE FROM cascade_sessions_full",
        "UPDATE session_states_full SET status = 'suspended'",
        "DELETE FROM session_states_full",
    ],
)
def test_views_are_read_only(database, statement):
    """D5."""
    with database.autocommit() as connection:
        connection.execute(sa.insert(SessionState).values(session_id="s1", mode="m", created_at=datetime.now(UTC)))
    with pytest.raises(DBAPIError, match=r"(?i)view|updatable"), database.autocommit() as connection:
        connection.exec_driver_sql(statement)
