"""Time: the database's own, or a moment that a test binds; never this machine's (DESIGN 4)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from celery_cascade.persistence.rows import StepKey
from celery_cascade.persistence.store import Store
from contract.kit import Kit, new_session, queued, worker_row


def database_time(kit: Kit) -> datetime:
    question = {
        "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
        "postgresql": "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
        "mysql": "SELECT CAST(utc_timestamp(6) AS CHAR)",
    }[kit.database.family]
    with kit.database.read() as conn:
        return datetime.fromisoformat(str(conn.execute(text(question)).scalar_one())).replace(tzinfo=UTC)


def test_without_a_clock_now_and_delays_are_the_databases(kit: Kit) -> None:
    """STYLE 6: Python's time is not asked."""
    store = Store(kit.database)
    new = new_session(expires_in=7200.0)
    earliest = database_time(kit) - timedelta(milliseconds=2)  # SQLite rounds
    store.start(new, queued("a"), resend_after=60.0)
    store.add_worker(worker_row("w1"))
    now = store.now()
    latest = database_time(kit) + timedelta(milliseconds=2)

    head, row = store.head(new.session_id), store.steps(new.session_id)[0]
    assert earliest <= now <= latest
    assert now.tzinfo is not None
    assert now.utcoffset() == timedelta(0)
    assert earliest <= row["queued_at"] <= latest
    assert earliest <= row["wake_at"] - timedelta(seconds=60) <= latest
    assert earliest <= head["expires_at"] - timedelta(hours=2) <= latest
    assert earliest <= store.session(new.session_id)["created_at"] <= latest
    assert store.running_workers()[0].silent_for == pytest.approx(0, abs=1)
    assert store.orphans(silent_for=15) == []
    assert store.take_due(worker=None, first=60) == []


def test_due_and_overdue_are_judged_by_the_databases_time(kit: Kit) -> None:
    store = Store(kit.database)
    new = new_session(total=2, expires_in=-1.0)
    store.start(new, queued("a", "b"), resend_after=-1.0)
    claimed = store.claim(StepKey(new.session_id, "b"), attempt=1, token="t", worker="w", runner="r", timeout=-1.0)
    assert claimed is not None

    assert [step.key.step for step in store.take_due(worker=None, first=60)] == ["a"]
    assert [orphan.key.step for orphan in store.overdue()] == ["b"]
    assert store.past_expiry() == [new.session_id]
    assert store.begin_sweep("timers", 3600)
    assert not store.begin_sweep("timers", 3600)


def test_a_bound_moment_is_what_every_statement_sees(kit: Kit) -> None:
    """Aware in, aware UTC out, in whatever zone it was given."""
    for hours in (0, 14, -11):
        moment = datetime(2031, 2, 3, 4, 5, 6, 789_000, tzinfo=timezone(timedelta(hours=hours)))
        kit.clock.moment = moment
        assert kit.store.now() == moment
        session = kit.start()
        assert kit.row(session)["queued_at"] == moment
        assert kit.row(session)["wake_at"] == moment + timedelta(seconds=60)
        assert kit.row(session)["wake_at"].utcoffset() == timedelta(0)


def test_fractions_of_a_second_are_added(kit: Kit) -> None:
    for delay in (0.001, 0.25, 1.5, 86400.125, 10_000_000.0):
        session = kit.start(resend_after=delay)
        waits = kit.row(session)["wake_at"] - kit.clock()
        assert waits.total_seconds() == pytest.approx(delay, abs=0.0006), delay


def test_a_naive_moment_is_refused(kit: Kit) -> None:
    """STYLE 7."""
    kit.clock.moment = datetime(2030, 1, 1)
    with pytest.raises(Exception, match="no time zone"):
        kit.store.now()
