"""What each database must do for us, one fact a test (DESIGN.md section 5, "Dialects")."""

from __future__ import annotations

import os
import random
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects.mysql import LONGBLOB
from sqlalchemy.exc import IntegrityError, OperationalError

from celery_cascade.errors import SchemaOutOfDate, StoreUnavailable
from celery_cascade.persistence import database as database_module
from celery_cascade.persistence import migrate, mysql_tls, types
from celery_cascade.persistence.database import Database
from support import services

FAMILIES = ["sqlite", "postgresql", "mariadb"]
SERVERS = FAMILIES[1:]

facts = sa.Table(
    "facts",
    sa.MetaData(),
    sa.Column("id", types.Identifier(36), primary_key=True),
    sa.Column("number", sa.Integer(), server_default=sa.text("0"), nullable=False),
    sa.Column("text", types.LongText),
    sa.Column("at", types.UtcDateTime(), server_default=types.utc_now_default()),
    sa.Column("json", types.Json()),
    sa.Column("bytes", sa.LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Database]]:
    """Opens a module's database of a family, each time with an engine of its own."""
    with ExitStack() as stack:
        urls: dict[str, str] = {}

        def make(family: str) -> str:
            if family == "sqlite":
                return f"sqlite:///{tmp_path_factory.mktemp('store')}/facts.db"
            return stack.enter_context(getattr(services, f"fresh_{family}_url")())

        def opened(family: str, **options: object) -> Database:
            if family not in urls:
                urls[family] = make(family)
                first = Database(urls[family])
                with first.autocommit() as connection:
                    facts.create(connection)
                first.dispose()
            database = Database(urls[family], **options)
            stack.callback(database.dispose)
            return database

        yield opened


@pytest.fixture
def database(request: pytest.FixtureRequest, connect: Callable[..., Database]) -> Iterator[Database]:
    database = connect(request.param)
    yield database
    with database.autocommit() as connection:
        connection.execute(facts.delete())
    database.dispose()


def on(*families: str) -> pytest.MarkDecorator:
    marks = [
        pytest.param(name, marks=[] if name == "sqlite" else getattr(pytest.mark, name), id=name) for name in families
    ]
    return pytest.mark.parametrize("database", marks, indirect=True)


def put(database: Database, **values: object) -> None:
    with database.autocommit() as connection:
        connection.execute(facts.insert().values(**({"id": "a"} | values)))


def get(database: Database, column: str) -> object:
    with database.read() as connection:
        return connection.execute(sa.select(facts.c[column])).scalar_one()


def ask(database: Database, statement: str) -> object:
    with database.read() as connection:
        return connection.exec_driver_sql(statement).scalar()


def together(*works: Callable[[], object]) -> None:
    """Run these at once; the first error of any is raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


# -- values ------------------------------------------------------------------------------------------------------------


@on(*FAMILIES)
def test_ids_that_differ_in_case_are_two_ids(database):
    put(database, id="Charge")
    put(database, id="charge")
    with database.read() as connection:
        found = connection.execute(sa.select(facts.c.id).where(facts.c.id == "charge")).scalars().all()
    assert found == ["charge"]


@on(*FAMILIES)
def test_ids_that_differ_in_an_accent_or_width_are_two_ids(database):
    for id_ in ("resume", "résumé", "ｒesume"):
        put(database, id=id_)
    with pytest.raises(IntegrityError):
        put(database, id="résumé")


@on(*SERVERS)
def test_id_that_is_too_long_is_refused_and_not_cut(database):
    with pytest.raises(sa.exc.DataError):
        put(database, id="x" * 37)


@on(*FAMILIES)
def test_moment_keeps_its_microseconds_and_comes_back_in_utc(database):
    said = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=UTC)
    put(database, at=said)
    assert get(database, "at") == said
    assert get(database, "at").utcoffset() == timedelta(0)


@on(*FAMILIES)
def test_moment_compares_with_a_moment_of_another_zone(database):
    put(database, at=datetime(2026, 1, 1, 12, 0, tzinfo=UTC))
    elsewhere = datetime.fromisoformat("2026-01-01T13:30:00+02:00")  # half an hour before
    with database.read() as connection:
        assert connection.execute(sa.select(facts.c.id).where(facts.c.at > elsewhere)).scalar() == "a"


@on(*FAMILIES)
def test_database_fills_in_the_present_moment_for_raw_sql(database):
    """R33's ground: by the database's clock, in UTC whatever the server's zone."""
    with database.autocommit() as connection:
        connection.exec_driver_sql("INSERT INTO facts (id) VALUES ('raw')")
    assert abs(get(database, "at") - datetime.now(UTC)) < timedelta(seconds=10)


@on(*FAMILIES)
def test_text_beyond_64_kb_comes_back_exact(database):
    said = "".join(random.Random(1).choices("abcé🚀\\'\"%:\n\t ", k=2_000_000))
    put(database, text=said)
    assert get(database, "text") == said


@on(*FAMILIES)
def test_json_text_with_control_characters_comes_back_exact(database):
    """PostgreSQL's text holds no NUL: JSON's escape for it is six plain characters."""
    said = '{"nul":"\\u0000","one":"\\u0001","line":"\u2028","order":[3,1,2],"number":1.10}'
    put(database, text=said)
    assert get(database, "text") == said


@on(*FAMILIES)
def test_bytes_beyond_64_kb_come_back_exact(database):
    said = os.urandom(1_000_000) + bytes(range(256))
    put(database, bytes=said)
    assert get(database, "bytes") == said


@on(*FAMILIES)
def test_json_column_keeps_types_and_tells_none_from_a_value(database):
    """R42: nested, unicode, over 1 MB."""
    said = {
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "nested": [{"é\u0000": [None, 2**70, 0.1]}, {"__type__": "x", "__value__": 1}],
        "long": "é" * 1_000_000,
    }
    put(database, json=said)
    assert get(database, "json") == said
    with database.read() as connection:
        assert connection.execute(sa.select(facts.c.id).where(facts.c.json.is_(None))).first() is None
    with database.autocommit() as connection:
        connection.execute(facts.update().values(json=None))
        assert connection.execute(sa.select(facts.c.id).where(facts.c.json.is_(None))).scalar() == "a"


# -- statements and transactions ---------------------------------------------------------------------------------------


@on(*FAMILIES)
def test_update_that_changes_nothing_still_counts_its_row(database):
    """The row count is the gate's answer; MySQL alone would say 0 (FOUND_ROWS)."""
    put(database, number=1)
    with database.autocommit() as connection:
        assert connection.execute(facts.update().where(facts.c.id == "a").values(number=1)).rowcount == 1


@on(*FAMILIES)
def test_each_statement_of_autocommit_is_committed_by_itself(database):
    def work():
        with database.autocommit() as connection:
            connection.execute(facts.insert().values(id="kept"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert get(database, "id") == "kept"


@on(*FAMILIES)
def test_transaction_that_raises_leaves_nothing(database):
    def work(connection):
        connection.execute(facts.insert().values(id="gone"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.transaction(work)
    with database.read() as connection:
        assert connection.execute(sa.select(facts)).all() == []


@on(*FAMILIES)
def test_constraint_that_is_broken_reaches_the_caller_as_it_is(database):
    put(database)
    calls = []

    def work(connection):
        calls.append(1)
        connection.execute(facts.insert().values(id="a"))

    with pytest.raises(IntegrityError):
        database.transaction(work)
    assert len(calls) == 1


@on(*SERVERS)
def test_transaction_sees_what_others_committed_since_it_began(database):
    """READ COMMITTED: a gate must see the row as its predecessor left it."""
    put(database, number=1)
    other = Database(database.url.render_as_string(hide_password=False))

    def work(connection):
        seen = [connection.execute(sa.select(facts.c.number)).scalar_one()]
        other.single(lambda theirs: theirs.execute(facts.update().values(number=2)))
        return [*seen, connection.execute(sa.select(facts.c.number)).scalar_one()]

    assert database.transaction(work) == [1, 2]
    other.dispose()


@on(*FAMILIES)
def test_reading_and_then_writing_loses_no_update(database):
    """SQLite: the write lock is taken at the start; a reader that becomes a writer would be refused at once."""
    put(database, number=0)

    def add(connection):
        locked = (
            sa.select(facts.c.number).with_for_update() if database.family != "sqlite" else sa.select(facts.c.number)
        )
        number = connection.execute(locked).scalar_one()
        time.sleep(0.001)
        connection.execute(facts.update().values(number=number + 1))

    def many():
        for _ in range(25):
            database.transaction(add)

    together(*[many] * 6)
    assert get(database, "number") == 150


@on(*SERVERS)
def test_deadlock_is_tried_again(database):
    put(database, id="a")
    put(database, id="b")
    both_hold_one = threading.Barrier(2)
    tries = []

    def work(connection, order):
        tries.append(order)
        for place, id_ in enumerate(order):
            connection.execute(facts.update().where(facts.c.id == id_).values(number=facts.c.number + 1))
            if place == 0 and len(tries) <= 2:
                both_hold_one.wait(10)

    together(*[lambda order=order: database.transaction(lambda c: work(c, order)) for order in ("ab", "ba")])
    with database.read() as connection:
        assert connection.execute(sa.select(facts.c.number)).scalars().all() == [2, 2]
    assert len(tries) == 3


@on("postgresql")
def test_deadlock_of_a_single_statement_is_tried_again(database):
    put(database, id="a")
    tries = []

    def work(connection):
        tries.append(1)
        if len(tries) == 1:
            connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '40P01'; END $$")
        return connection.execute(facts.update().values(number=5)).rowcount

    assert database.single(work) == 1
    assert len(tries) == 2


@on(*FAMILIES)
def test_lock_that_is_never_given_up_ends_in_store_unavailable(database, connect):
    put(database)
    impatient = Database(database.url.render_as_string(hide_password=False), busy_timeout=0.3)
    busy = {"sqlite": None, "postgresql": "SET lock_timeout = '200ms'", "mysql": "SET innodb_lock_wait_timeout = 1"}

    def try_it():
        def work(connection):
            if busy[database.family]:
                connection.exec_driver_sql(busy[database.family])
            connection.execute(facts.update().values(number=2))

        with pytest.raises(StoreUnavailable, match="stayed locked by others"):
            impatient.transaction(work)

    def hold(connection):
        connection.execute(facts.update().values(number=1))
        together(try_it)

    database.transaction(hold)
    impatient.dispose()


# -- connections -------------------------------------------------------------------------------------------------------


def kill_own_connection(database: Database, connection: sa.Connection) -> None:
    killer = Database(database.url.render_as_string(hide_password=False), null_pool=True)
    with killer.autocommit() as other:
        if database.family == "postgresql":
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
        else:
            other.exec_driver_sql(f"KILL {connection.exec_driver_sql('SELECT connection_id()').scalar_one()}")


@on(*SERVERS)
def test_transaction_that_lost_its_connection_runs_again_on_a_fresh_one(database):
    calls = []

    def work(connection):
        calls.append(1)
        connection.execute(facts.insert().values(id="a"))
        if len(calls) == 1:
            kill_own_connection(database, connection)
        connection.execute(facts.update().values(number=7))

    database.transaction(work)
    assert get(database, "number") == 7
    assert len(calls) == 2


@on(*SERVERS)
def test_connection_that_is_lost_again_and_again_is_store_unavailable(database):
    calls = []

    def work(connection):
        calls.append(1)
        kill_own_connection(database, connection)
        connection.execute(facts.update().values(number=7))

    with pytest.raises(StoreUnavailable, match="does not answer"):
        database.transaction(work)
    assert len(calls) == 2

    def read():
        with database.read() as connection:
            kill_own_connection(database, connection)
            connection.execute(sa.select(facts))

    with pytest.raises(StoreUnavailable, match="does not answer"):
        read()
    database.ping()


@on(*SERVERS)
def test_connection_that_died_in_the_pool_is_replaced_unseen(database, monkeypatch):
    monkeypatch.setattr(database_module, "IDLE", 0.0)
    with database.read() as connection:
        kill_own_connection(database, connection)
    database.ping()


@on(*SERVERS)
def test_connection_that_a_foreign_exception_interrupted_is_thrown_away(database):
    """A soft time limit may strike between a question and its answer: the next one would read the wrong answer."""
    who = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}[database.family]

    class SoftTimeLimit(Exception):
        pass

    def work(connection):
        first.append(connection.exec_driver_sql(who).scalar_one())
        raise SoftTimeLimit

    first: list[int] = []
    with pytest.raises(SoftTimeLimit):
        database.transaction(work)
    assert ask(database, who) != first[0]
    first.append(ask(database, who))
    assert ask(database, who) == first[1], "connections in good order are used again"


@on(*FAMILIES)
def test_table_of_ours_that_is_missing_is_a_schema_out_of_date(database):
    """R15: a table dropped under a running application."""
    with pytest.raises(SchemaOutOfDate, match="session_states") as caught, database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM session_states")
    assert "cascade migrate up" in caught.value.hint
    with pytest.raises(sa.exc.DBAPIError), database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM somebody_elses")
    with pytest.raises(sa.exc.DBAPIError), database.read() as connection:
        connection.exec_driver_sql("SELECT nothing_like_it FROM facts")


@on("postgresql", "sqlite", "mariadb")
def test_engine_for_the_orm_has_the_same_transactions(database):
    with orm.Session(database.engine) as session:
        session.execute(facts.insert().values(id="a"))
        session.rollback()
        session.execute(facts.insert().values(id="b"))
        session.commit()
    assert get(database, "id") == "b"


@on("mariadb")
def test_reading_costs_no_rollback(database):
    """SQLAlchemy would send one whenever a connection is given back: a round trip at every read."""

    def rollbacks() -> int:
        with database.read() as connection:
            return int(connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Com_rollback'").one()[1])

    before = rollbacks()
    database.ping()
    assert rollbacks() == before
    with pytest.raises(IntegrityError):
        database.transaction(lambda connection: connection.execute(facts.insert(), [{"id": "x"}, {"id": "x"}]))
    assert rollbacks() == before + 1


# -- SQLite ------------------------------------------------------------------------------------------------------------


@on("sqlite")
def test_every_sqlite_connection_has_wal_foreign_keys_and_a_busy_timeout(database):
    with database.read() as first, database.read() as second:
        assert first.connection.dbapi_connection is not second.connection.dbapi_connection
        for connection in (first, second):
            found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS]
            assert found == ["wal", 1, 30_000, 1]


PRAGMAS = ["journal_mode", "foreign_keys", "busy_timeout", "synchronous"]


def test_a_file_of_another_program_keeps_its_journal_mode_until_our_tables_are_in_it(tmp_path):
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE customers (id INTEGER)")
    database = Database(f"sqlite:///{path}")
    database.ping()
    database.dispose()
    assert journal_mode(path) == "delete"
    migrate.upgrade(database)
    database.dispose()
    database.ping()
    assert journal_mode(path) == "wal"
    database.dispose()


def journal_mode(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA journal_mode").fetchone()[0]


@on("sqlite")
def test_reader_goes_on_while_a_writer_holds_the_lock(database):
    put(database, number=1)

    def hold(connection):
        connection.execute(facts.update().values(number=2))
        return get(database, "number")

    assert database.transaction(hold) == 1


@on("sqlite")
def test_first_use_by_eight_processes_at_once_gives_one_wal_file(database, tmp_path):
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            ok = False
            try:
                Database(f"sqlite:///{tmp_path}/new/store.db").ping()
                ok = True
            finally:
                os._exit(0 if ok else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8


def test_sqlite_in_memory_is_one_database_for_all_threads():
    database = Database("sqlite://")
    with database.autocommit() as connection:
        facts.create(connection)
    put(database)

    def many():
        for _ in range(50):
            database.transaction(
                lambda connection: connection.execute(facts.update().values(number=facts.c.number + 1))
            )

    together(*[many] * 4)
    assert get(database, "number") == 200
    database.dispose()


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@on("postgresql", "mariadb", "sqlite")
def test_children_of_a_fork_never_use_the_parents_connections(database, tmp_path):
    """CELERY.md 8.1: an engine that crossed a fork gave silently wrong rows. 200 queries in each of four children."""
    with database.read() as one, database.read() as two:  # two connections that a child could take
        for connection in (one, two):
            connection.execute(sa.select(sa.literal(1)))
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            wrong = 1
            try:
                wrong = sum(_echo(database, number * 1000 + i) != number * 1000 + i for i in range(200))
            finally:
                os._exit(min(wrong, 100))
        children.append(child)
    for i in range(200):
        assert _echo(database, i) == i
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert _echo(database, 1) == 1


def _echo(database: Database, number: int) -> int:
    with database.read() as connection:
        return int(connection.execute(sa.select(sa.literal(number))).scalar_one())


@on("postgresql")
def test_without_a_pool_no_connection_outlives_its_use(database):
    alone = Database(database.url.render_as_string(hide_password=False), null_pool=True)
    with alone.read() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    deadline = time.monotonic() + 5
    while ask(database, f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ask(database, f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == 0


@on("sqlite")
def test_file_that_may_not_be_written_names_path_and_way_out(database, tmp_path, monkeypatch):
    """R122. As root no file is read-only: SQLite itself is asked for a read-only one."""
    path = Path(tmp_path) / "store.db"
    Database(f"sqlite:///{path}").ping()
    read_only = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
    with pytest.raises(StoreUnavailable, match=r"store\.db does not answer|store\.db.*readonly") as caught:
        read_only.transaction(lambda connection: facts.create(connection))
    assert isinstance(caught.value.__cause__, OperationalError)


@pytest.mark.mariadb
def test_the_certificates_of_the_machine_are_read_once_and_not_for_every_connection(
    mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in a worker's profile: 29 ms of CPU for each heartbeat of a prefork worker on MariaDB."""
    monkeypatch.setattr(mysql_tls._sharing(), "shared", None)
    made: list[None] = []
    real = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda **options: (made.append(None), real(**options))[1])
    database = Database(mariadb_url, null_pool=True)
    for _ in range(3):
        with database.read() as connection:
            connection.exec_driver_sql("SELECT 1")
    assert len(made) <= 1  # PyMySQL 1.1 makes none
    told = Database(f"{mariadb_url}&ssl_ca=/nowhere.pem", null_pool=True)
    with pytest.raises(Exception, match="No such file"), told.read() as connection:
        connection.exec_driver_sql("SELECT 1")
