"""The ORM classes for people who work in SQLAlchemy (D5), on each database, after the migration."""

from __future__ import annotations

import copy
import json
import pickle
import runpy
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from celery_cascade import retry_stale
from celery_cascade.errors import ConfigError, SchemaOutOfDate, SessionConflict, StaleState
from celery_cascade.persistence import get_db_session, migrate
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.models import Session, SessionMessage, SessionState, SessionStep
from celery_cascade.persistence.orm_session import db_session
from support import services


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
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
def db(database: Database) -> Iterator[orm.Session]:
    with orm.Session(database.engine) as db:
        yield db


def new_state(db: orm.Session, **columns: object) -> SessionState:
    session = Session(id=str(uuid.uuid4()), name="Test Session", status="active")
    state = SessionState.create_for_session(session_id=session.id, mode="copilot", **columns)
    db.add_all([session, state])
    db.commit()
    return state


def test_empty_table_is_there_and_can_be_queried(db):
    """R48."""
    assert db.query(SessionState).filter(SessionState.session_id == "nobody").first() is None


def test_script_of_the_seed_runs_with_only_its_imports_changed(database, monkeypatch, capsys):
    """R49: R37, R44, R36 on the way."""
    monkeypatch.setenv("CELERY_CASCADE_DATABASE_URL", database.url.render_as_string(hide_password=False))
    runpy.run_path(str(Path(__file__).with_name("seed_script.py")), run_name="__main__")
    assert capsys.readouterr().out == "✅ SessionState CRUD works\n✅ Cascade delete works\n"


def test_query_of_the_seed_on_the_empty_table_gives_none(database, monkeypatch):
    """R48: "exists and is queryable"."""
    monkeypatch.setenv("CELERY_CASCADE_DATABASE_URL", database.url.render_as_string(hide_password=False))
    db = get_db_session()
    assert db.query(SessionState).filter(SessionState.mode == "nobody's").first() is None
    db.close()


def test_session_without_a_database_or_tables_says_what_to_do(monkeypatch, tmp_path):
    """R51, R150."""
    for variable in ("CELERY_CASCADE_DATABASE_URL", "CELERY_CASCADE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match="nothing says where the store is") as caught:
        get_db_session()
    assert "cascades.db_session()" in caught.value.hint
    with pytest.raises(SchemaOutOfDate) as caught:
        get_db_session(f"sqlite:///{tmp_path}/new.db")
    assert "migrate up" in caught.value.hint
    monkeypatch.setenv("CELERY_CASCADE_HOME", str(tmp_path))
    store = Database(f"sqlite:///{tmp_path}/store.sqlite")
    migrate.upgrade(store)
    store.dispose()
    with get_db_session() as db:
        assert db.query(Session).count() == 0


def test_factory_fills_in_how_a_session_stands_before_its_first_step(db):
    """R44."""
    state = new_state(db)
    assert list(state.conversation_history) == []
    assert (state.context_variables, state.plan_data) == ({}, None)
    assert (state.current_phase, state.status, state.version) == ("init", "active", 1)
    assert uuid.UUID(state.id)


def test_dictionary_has_the_keys_of_the_seed_and_is_json(db):
    """R43."""
    state = new_state(db, expires_at=datetime(2030, 1, 1, tzinfo=UTC))
    told = json.loads(json.dumps(state.to_dict()))
    assert list(told) == [
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
    assert told["expires_at"] == "2030-01-01T00:00:00+00:00"
    assert datetime.fromisoformat(told["created_at"]).utcoffset() is not None


def test_dictionary_of_a_head_that_was_never_stored_is_json_too():
    """R43: [] and {} for NULL, null for times."""
    told = json.loads(json.dumps(SessionState(session_id="s", mode="m").to_dict()))
    assert (told["conversation_history"], told["context_variables"], told["created_at"]) == ([], {}, None)


def test_raw_insert_of_the_required_columns_gets_status_version_and_times(db):
    """R33."""
    session_id = str(uuid.uuid4())
    db.execute(sa.text("INSERT INTO cascade_sessions (session_id) VALUES (:s)"), {"s": session_id})
    db.execute(sa.text("INSERT INTO session_states (id, session_id, mode) VALUES (:s, :s, 'm')"), {"s": session_id})
    db.commit()
    state = db.get_one(SessionState, session_id)
    assert (state.status, state.version) == ("active", 1)
    assert abs((datetime.now(UTC) - state.created_at).total_seconds()) < 10
    assert abs((datetime.now(UTC) - state.updated_at).total_seconds()) < 10
    assert state.session.input_data == "{}"


def test_updated_at_moves_on_each_write_of_the_orm_and_on_a_bulk_update(db):
    """R34."""
    state = new_state(db)
    db.execute(sa.update(SessionState).values(updated_at=datetime(2020, 1, 1, tzinfo=UTC)))
    db.commit()
    assert state.updated_at.year == 2020
    state.current_step = 1
    db.commit()
    assert state.updated_at.year > 2020
    db.execute(sa.update(SessionState).values(updated_at=datetime(2020, 1, 1, tzinfo=UTC)))
    db.execute(sa.update(SessionState).values(current_step=2))
    db.commit()
    assert state.updated_at.year > 2020


def test_head_of_an_unknown_session_is_refused(db):
    """R35."""
    db.add(SessionState.create_for_session("nobody", "m"))
    with pytest.raises(IntegrityError):
        db.commit()


def test_second_head_of_a_session_is_refused(db):
    """D5: one row a session."""
    state = new_state(db)
    db.add(SessionState.create_for_session(state.session_id, "m"))
    with pytest.raises(IntegrityError):
        db.commit()


@pytest.mark.parametrize("way", ["orm", "sql"])
def test_children_go_with_their_session(db, way):
    """R36."""
    state = new_state(db, conversation_history=[{"role": "user", "content": "Hello"}])
    session_id = state.session_id
    db.add(SessionStep(session_id=session_id, step="a", status="pending"))
    db.commit()
    if way == "orm":
        db.delete(state.session)
    else:
        db.execute(sa.text("DELETE FROM cascade_sessions WHERE session_id = :s"), {"s": session_id})
    db.commit()
    db.expire_all()
    for child in (SessionState, SessionMessage, SessionStep):
        assert db.query(child).filter(child.session_id == session_id).all() == []


def test_relationship_goes_both_ways_and_an_orphan_is_deleted(db):
    """R37."""
    state = new_state(db)
    session = state.session
    assert session.session_states == [state]
    assert session.state is state
    session.session_states.remove(state)
    db.commit()
    assert db.query(SessionState).filter(SessionState.session_id == session.id).first() is None
    assert session.status == "active"


def test_session_reads_its_status_from_the_head_in_python_and_in_sql(db):
    """R37, D5."""
    state = new_state(db)
    state.status = "suspended"
    db.commit()
    assert state.session.status == "suspended"
    found = db.query(Session).filter(Session.status == "suspended", Session.id == state.session_id).one()
    assert found.name == "Test Session"
    bare = Session(id=str(uuid.uuid4()))
    db.add(bare)
    db.commit()
    assert db.query(Session.status).filter(Session.id == bare.id).scalar() == bare.status == "active"


def test_session_made_with_another_status_has_a_head_that_says_so(db):
    """R37."""
    session = Session(id=str(uuid.uuid4()), name="done", status="completed")
    db.add(session)
    db.commit()
    assert session.state.status == "completed"
    assert session.state.finished_at is not None


def test_illegal_status_is_refused(db):
    """R39."""
    state = new_state(db)
    state.status = "orphaned"
    with pytest.raises(DBAPIError, match=r"(?i)check|constraint"):
        db.commit()
    db.rollback()
    with pytest.raises(DBAPIError, match=r"(?i)check|constraint"):
        db.execute(sa.text("UPDATE session_states SET status = 'Active'"))


def test_illegal_change_of_status_is_refused(db):
    """R39."""
    state = new_state(db)
    state.status = "completed"
    db.commit()
    assert state.finished_at is not None
    with pytest.raises(SessionConflict, match="is completed; it cannot become active"):
        state.status = "active"


def test_failed_session_that_goes_on_has_no_end(db):
    state = new_state(db)
    state.status = "failed"
    db.commit()
    assert state.finished_at is not None
    state.status = "active"
    db.commit()
    assert state.finished_at is None


def test_stale_writer_gets_an_error_and_overwrites_nothing(database, db):
    """R38: each successful write is one version more."""
    state_id = new_state(db).id
    db.close()
    with orm.Session(database.engine, expire_on_commit=False) as late, orm.Session(database.engine) as prompt:
        mine = late.get_one(SessionState, state_id)
        late.commit()
        theirs = prompt.get_one(SessionState, state_id)
        theirs.context_variables["n"] = "theirs"
        prompt.commit()
        mine.current_phase = "mine"
        with pytest.raises(StaleDataError):
            late.commit()
        late.rollback()
        late.refresh(mine)
        mine.current_phase = "mine"
        late.commit()
        assert (mine.version, mine.context_variables, mine.current_phase) == (3, {"n": "theirs"}, "mine")


def test_stale_write_of_a_store_s_session_is_ours_and_can_be_repeated(database):
    """R38: a compare-and-set of the ORM's, by `version_id_col`."""
    with orm.Session(database.engine) as db:
        state_id = new_state(db).id
    others = ["one", "two"]

    def write() -> None:
        with db_session(database) as mine:
            mine.expire_on_commit = False
            state = mine.get_one(SessionState, state_id)
            mine.commit()  # on SQLite a transaction that has read would keep the other out
            if others:
                with db_session(database) as theirs:
                    found = theirs.get_one(SessionState, state_id)
                    found.context_variables.setdefault("said", []).append(others.pop(0))
                    theirs.commit()
            state.context_variables.setdefault("said", []).append("mine")
            mine.commit()

    with pytest.raises(StaleState, match="changed by somebody else"):
        write()
    retry_stale(write)
    with db_session(database) as db:
        found = db.get_one(SessionState, state_id)
        assert (found.context_variables, found.version) == ({"said": ["one", "two", "mine"]}, 4)


def test_change_of_a_row_that_nobody_holds_is_not_lost(database, db):
    """R42: the ORM forgets unchanged rows that are in no variable."""
    state_id = new_state(db, context_variables={"n": 0}).id
    with orm.Session(database.engine) as other:
        db.close()
        other.get_one(SessionState, state_id).context_variables["n"] += 1
        other.commit()
        assert other.get_one(SessionState, state_id).context_variables == {"n": 1}


def test_threads_that_add_by_the_orm_lose_no_update(database):
    """R38: each successful write is one version more."""
    with orm.Session(database.engine) as db:
        state_id = new_state(db, context_variables={"n": 0}).id
    failed: list[BaseException] = []

    def add_one() -> None:
        with db_session(database) as mine:
            mine.get_one(SessionState, state_id).context_variables["n"] += 1
            mine.commit()

    def add() -> None:
        try:
            for _ in range(40):
                retry_stale(add_one)
        except BaseException as error:  # noqa: BLE001 - told below, in the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    with db_session(database) as db:
        state = db.get_one(SessionState, state_id)
        assert (state.context_variables, state.version) == ({"n": 120}, 121)


def test_default_that_is_put_in_by_setdefault_is_the_row_s(db):
    """R42: `setdefault` gives back what is stored, not a copy."""
    state = new_state(db)
    state.context_variables.setdefault("list", []).append(1)
    db.commit()
    db.expire_all()
    assert state.context_variables == {"list": [1]}
    state.context_variables.setdefault("list", [7])
    assert not db.is_modified(state)


def test_change_deep_inside_a_json_value_is_saved_and_raises_the_version_by_one(db):
    """R42."""
    state = new_state(db, context_variables={"a": {"b": [1, {"c": []}]}}, plan_data=[{"steps": []}])
    state.context_variables["a"]["b"].append(2)
    state.context_variables["a"]["b"][1]["c"].extend([{"d": 1}])
    db.commit()
    assert state.version == 2
    state.context_variables["a"]["b"][1]["c"][0]["d"] += 1
    state.plan_data[0]["steps"] += ["x"]
    db.commit()
    assert state.version == 3
    db.expire_all()
    assert state.context_variables == {"a": {"b": [1, {"c": [{"d": 2}]}, 2]}}
    assert state.plan_data == [{"steps": ["x"]}]


def test_large_nested_unicode_value_comes_back_equal(db):
    """R42: 1.5 MB."""
    said = {"é🚀": [{"n": number, "text": "ö" * 100, "none": None} for number in range(7_000)]}
    assert len(json.dumps(said, ensure_ascii=False).encode()) > 1_500_000
    state = new_state(db, context_variables=said)
    db.expire_all()
    assert state.context_variables == said


def test_copies_of_a_json_value_belong_to_no_row(db):
    state = new_state(db, context_variables={"a": {"b": []}})
    for copied in (copy.deepcopy(state.context_variables), pickle.loads(pickle.dumps(state.context_variables))):
        copied["a"]["b"].append(1)
        assert copied == {"a": {"b": [1]}}
    assert not db.is_modified(state)
    sent = pickle.loads(pickle.dumps(state))
    sent.context_variables["a"]["b"].append(2)
    merged = db.merge(sent)
    db.commit()
    assert merged.context_variables == {"a": {"b": [2]}}


def test_conversation_grows_by_rows_that_bear_the_version(db):
    """D5: append only; the change feed sees what is new."""
    state = new_state(db, conversation_history=[{"role": "user", "content": "Hello"}])
    state.conversation_history.append({"role": "assistant", "content": {"text": "Hi"}, "tool": "x"})
    state.conversation_history.append({"role": "user", "content": None})
    db.commit()
    db.expire_all()
    assert state.version == 2
    assert [(m.seq, m.version) for m in state.messages] == [(1, 1), (2, 2), (3, 2)]
    assert state.to_dict()["conversation_history"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": {"text": "Hi"}, "tool": "x"},
        {"role": "user", "content": None},
    ]


def test_message_without_a_role_is_refused(db):
    state = new_state(db)
    with pytest.raises(ValueError, match="needs a role"):
        state.conversation_history.append({"content": "who?"})
