"""R119: a row with a broken timestamp neither stops a cleanup nor lives for ever.

What "broken" can be: text or numbers on SQLite, which takes anything; zero dates on MariaDB; infinity on PostgreSQL;
and everywhere a moment in the far future or past, as a clock that was wrong leaves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from celery_cascade.persistence import tables
from celery_cascade.persistence.prune_rules import Rules
from celery_cascade.states import Halt
from contract.kit import Kit, worker_row

DAYS = timedelta(days=1)
RULES = Rules(ages={"completed": 7 * DAYS}, keep_last=0)
BROKEN: dict[str, list[Any]] = {
    "sqlite": [
        "garbage",
        "",
        0,
        1700000000,
        12.5,
        b"\xff",
        "0000-00-00 00:00:00.000000",
        "9999-99-99 99:99:99",
        "12.05.2026",
        "2091-05-17 12:00:00.000000",
    ],
    "postgresql": ["infinity", "-infinity", "2091-05-17T12:00:00+00:00", "0044-03-15 00:00:00 BC"],
    "mysql": ["0000-00-00 00:00:00", "2091-05-17 12:00:00", "9999-12-31 23:59:59"],
}


def write(kit: Kit, statement: str, **values: Any) -> None:
    """Somebody with a SQL client, and no strict mode."""

    def work(conn: Any) -> None:
        if kit.database.family == "mysql":
            conn.execute(text("SET sql_mode = ''"))
        conn.execute(text(statement), values)

    try:
        kit.database.transaction(work)
    finally:
        kit.database.dispose()


def done(kit: Kit) -> str:
    session = kit.start()
    kit.run(session)
    kit.complete(session)
    return session


def prune(kit: Kit, rules: Rules = RULES, batch: int = 2) -> list[str]:
    """As `cascades.prune()` does it."""
    while kit.store.mend_times():
        pass
    one = kit.store.pruning(rules, batch=batch)
    return [gone.session_id for trees in one.batches() for gone in one.delete(trees)]


@pytest.fixture
def broken(kit: Kit) -> Iterator[list[Any]]:
    yield BROKEN[kit.database.family]
    write(kit, "DELETE FROM cascade_sessions")


@pytest.mark.parametrize("column", ["finished_at", "updated_at"])
def test_a_session_whose_end_cannot_be_read_goes_one_retention_later(kit: Kit, broken: list[Any], column: str) -> None:
    """R119: its age counts from the prune that finds it; the others go at their time all the same."""
    bad = [done(kit) for _ in broken]
    for session, value in zip(bad, broken, strict=True):
        write(kit, f"UPDATE session_states SET {column} = :value WHERE session_id = :id", value=value, id=session)
    old = [done(kit) for _ in range(3)]
    kit.clock.forward(days=8)
    rules = RULES if column == "finished_at" else Rules(ages=RULES.ages, keep_last=0, since="updated_at")

    assert sorted(prune(kit, rules)) == sorted(old), "broken ones are not deleted at once"
    assert all(kit.head(session)[column] == kit.clock() for session in bad)
    kit.clock.forward(days=6)
    assert prune(kit, rules) == []
    kit.clock.forward(days=2)
    assert sorted(prune(kit, rules)) == sorted(bad)


def test_a_session_that_seems_to_be_the_newest_for_ever_is_not(kit: Kit, broken: list[Any]) -> None:
    """R119: `cascade_sessions.created_at` cannot be mended (R28), so it makes no session one of the newest."""
    bad = [done(kit) for _ in broken]
    for session, value in zip(bad, broken, strict=True):
        write(kit, "UPDATE cascade_sessions SET created_at = :value WHERE session_id = :id", value=value, id=session)
    good = [done(kit) for _ in range(3)]
    kit.clock.forward(days=8)
    assert sorted(prune(kit, Rules(ages=RULES.ages, keep_last=3))) == sorted(bad)
    assert sorted(kit.column(tables.sessions.c.session_id)) == sorted(good)


def test_a_thread_that_seems_to_be_in_use_for_ever_is_not(kit: Kit, broken: list[Any]) -> None:
    """R119, D9."""
    bad = [done(kit) for _ in broken]
    for session, value in zip(bad, broken, strict=True):
        write(
            kit,
            "INSERT INTO session_mappings (thread_id, resource_id, session_id, updated_at) VALUES (:id, 'r', :id, :at)",
            id=session,
            at=value,
        )
    kit.clock.forward(days=8)
    assert sorted(prune(kit)) == sorted(bad)


def test_a_suspended_session_without_a_beginning_can_be_cleaned_up(kit: Kit, broken: list[Any]) -> None:
    """R119: by hand, as others that are suspended."""
    bad = [kit.start() for _ in broken]
    for session, value in zip(bad, broken, strict=True):
        kit.store.halt(session, Halt.SUSPENDED, "operator")
        kit.store.settle(session)
        write(kit, "UPDATE session_states SET created_at = :value WHERE session_id = :id", value=value, id=session)
    rules = Rules(ages={"suspended": 7 * DAYS}, since="updated_at", keep_last=0)
    assert prune(kit, rules) == []
    kit.clock.forward(days=8)
    assert sorted(prune(kit, rules)) == sorted(bad)


def test_definitions_and_workers_of_no_age_go_too(kit: Kit, broken: list[Any]) -> None:
    """R119."""
    for number, value in enumerate(broken):
        kit.store.delete_session(kit.start(digest=str(number) * 64))
        write(
            kit, "UPDATE cascade_definitions SET first_seen_at = :at WHERE digest = :it", at=value, it=str(number) * 64
        )
        kit.store.add_worker(worker_row(f"w{number}"))
        write(kit, "UPDATE cascade_workers SET heartbeat_at = :at WHERE id = :it", at=value, it=f"w{number}")
    kit.store.add_worker(worker_row("alive"))
    kit.start()
    assert kit.store.forget_definitions() == len(broken)
    assert kit.store.forget_workers(86_400.0) == len(broken)
    assert kit.column(tables.workers.c.id) == ["alive"]


def test_a_session_that_runs_is_left_alone(kit: Kit, broken: list[Any]) -> None:
    session = kit.start()
    version = kit.head(session)["version"]
    write(kit, "UPDATE session_states SET updated_at = :value", value=broken[0])
    assert kit.store.mend_times() == []
    kit.run(session)
    assert kit.head(session)["version"] == version + 1
