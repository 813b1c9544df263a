"""SQLite's trap: a connection that is open while the process forks robs the child's own connections of their locks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from celery_cascade.persistence.database import Database
from celery_cascade.tasks.forking import Forks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
needs_locks = pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="no /proc/locks here")


def in_child(work: Callable[[], bytes]) -> bytes:
    """What `work` returns in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, work())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        found = file.read()
    os.waitpid(child, 0)
    return found


def locks_while_open(database: Database) -> bytes:
    with database.read() as connection:
        connection.execute(text("SELECT 1 FROM sqlite_master")).all()
        mine = [line for line in Path("/proc/locks").read_text().splitlines() if f" {os.getpid()} " in line]
    return b"locked" if mine else b"no locks"


@pytest.fixture
def database(sqlite_url: str):
    database = Database(sqlite_url)
    database.transaction(lambda connection: connection.execute(text("CREATE TABLE t (x INTEGER)")))
    yield database
    database.dispose()


@pytest.fixture
def forks(database: Database):
    forks = Forks()
    forks.protect(database)
    yield forks
    forks.release(database)


@needs_locks
def test_a_child_of_a_protected_process_holds_its_own_locks(database, forks):
    database.ping()  # a connection lies in the pool
    assert in_child(lambda: locks_while_open(database)) == b"locked"


@needs_locks
def test_the_trap_is_real(database):
    """If this fails, SQLite has become harmless and forking.py may go."""
    with database.read() as connection:
        connection.execute(text("SELECT 1 FROM sqlite_master")).all()
        assert in_child(lambda: locks_while_open(database)) == b"no locks"


def test_no_fork_happens_while_a_thread_speaks(database, forks):
    began, finish, order = threading.Event(), threading.Event(), []

    def speak() -> None:
        with database.read():
            began.set()
            finish.wait(5)
            order.append("spoken")

    def fork() -> None:
        in_child(lambda: b"")
        order.append("forked")

    speaker, forker = threading.Thread(target=speak), threading.Thread(target=fork)
    speaker.start()
    assert began.wait(5)
    forker.start()
    forker.join(0.1)
    assert forker.is_alive()
    finish.set()
    forker.join(5)
    speaker.join(5)
    assert order == ["spoken", "forked"]


def test_a_server_that_does_not_answer_does_not_hold_the_fork_up_for_ever(database, forks, monkeypatch):
    monkeypatch.setattr("celery_cascade.forks.PATIENCE", 0.05)
    began, finish = threading.Event(), threading.Event()

    def hang() -> None:
        with database.read():
            began.set()
            finish.wait(5)

    thread = threading.Thread(target=hang)
    thread.start()
    assert began.wait(5)
    assert in_child(lambda: b"child") == b"child"
    finish.set()
    thread.join(5)
    assert in_child(lambda: b"again") == b"again"
    database.ping()


def test_a_child_and_its_parent_both_go_on(database, forks):
    def insert() -> bytes:
        database.transaction(lambda connection: connection.execute(text("INSERT INTO t VALUES (1)")))
        return b"ok"

    for _ in range(5):
        insert()
        assert in_child(insert) == b"ok"
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 10
