"""Sessions past their `expires_at` (R45).

The three outcomes themselves are in test_run.py, those of a session that waits for its turn in test_threads.py.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from celery_cascade.errors import NotResumable, UsageError
from celery_cascade.persistence.rows import StepKey, WorkerRow
from celery_cascade.tasks import overtime
from sessions.kit import Kit

LONG_AGO = "2001-01-01 00:00:00"


def expire_all(kit: Kit, *sessions: Any) -> None:
    for session in sessions:
        kit.sql("UPDATE session_states SET expires_at = :at WHERE session_id = :id",
                at=LONG_AGO + ("" if kit.store.database.family == "mysql" else ".000000"), id=session.id)  # fmt: skip


def test_a_moment_to_expire_at_is_as_good_as_a_time_to_live(any_kit: Kit) -> None:
    """R45: aware, whatever its zone; stored as that very moment."""
    moment = datetime(2090, 1, 2, 3, 4, 5, 600, tzinfo=timezone(timedelta(hours=5)))
    session = any_kit.start("a", expires_at=moment)
    assert session.to_dict()["expires_at"] == "2090-01-01T22:04:05.000600Z"
    assert any_kit.start("a").to_dict()["expires_at"] is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"expires_at": datetime(2090, 1, 1)}, "time zone"),
        ({"expires_at": datetime(2001, 1, 1, tzinfo=UTC)}, "which has passed"),
        ({"expires_at": datetime(9999, 1, 1, tzinfo=UTC)}, "more than a hundred years away"),
        ({"expires_at": "2090-01-01T00:00:00Z"}, "time zone"),
        ({"expires_at": datetime(2090, 1, 1, tzinfo=UTC), "expires_in": 60}, "two ways to say the same"),
    ],
)
def test_a_moment_that_is_none_has_passed_or_is_said_twice_is_refused(
    kit: Kit, options: dict[str, Any], why: str
) -> None:
    """R45, R150: nothing is started."""
    with pytest.raises(UsageError, match=why):
        kit.start("a", **options)
    assert kit.rows()["cascade_sessions"] == 0


def test_more_than_a_batch_expires_in_one_sweep(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """R45: 10,000 that expire together must not take an hour of sweeps."""
    monkeypatch.setattr(overtime, "BATCH", 3)
    sessions = [kit.start("a", expires_in=60) for _ in range(8)]
    expire_all(kit, *sessions)
    assert overtime.expire(kit.runtime) == 8
    assert {session.status for session in sessions} == {"expired"}
    assert overtime.expire(kit.runtime) == 0
    kit.deliver()
    assert kit.ran == []


def test_one_that_cannot_be_ended_does_not_keep_the_others(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """R45: it was deleted between the look and the end."""
    gone, stays = kit.start("a", expires_in=60), kit.start("a", expires_in=60)
    expire_all(kit, gone, stays)
    monkeypatch.setattr(kit.store, "past_expiry", lambda limit: [gone.id, stays.id])
    kit.store.delete_session(gone.id)
    with caplog.at_level(logging.ERROR, "celery_cascade"):
        assert overtime.expire(kit.runtime) == 1
    assert gone.id in caplog.text
    assert stays.status == "expired"


def test_a_resume_that_comes_too_late_ends_the_session_at_once(any_kit: Kit) -> None:
    """R45: nobody need wait for the sweep to see that it has expired."""
    session = any_kit.start("a", expires_in=60)
    session.suspend()
    expire_all(any_kit, session)
    with pytest.raises(NotResumable, match="expired at 2001-01-01"):
        session.resume()
    assert session.status == "expired"
    assert session.to_dict()["can_resume"] is False
    assert session.to_dict()["expires_at"].startswith("2001-01-01T00:00:00")


def test_a_failed_session_stays_failed_when_its_time_has_passed(kit: Kit) -> None:
    """R45, D9: what went wrong is not forgotten, but nobody resumes it."""
    session = kit.run({"id": "a", "task": "broken"}, expires_in=3600)
    expire_all(kit, session)
    overtime.expire(kit.runtime)
    with pytest.raises(NotResumable, match="expired"):
        session.resume()
    assert session.status == "failed"
    assert session.to_dict()["can_resume"] is False


def test_a_step_that_lost_its_worker_does_not_run_again_in_an_expired_session(any_kit: Kit) -> None:
    """R45: no body is started after that, by no way."""
    session = any_kit.start("a", "b", expires_in=3600)
    dead = f"dead-{session.id[:8]}"
    any_kit.store.add_worker(WorkerRow(id=dead, nodename="dead@host", host="host", pid=1))
    key = StepKey(session.id, "a")
    assert any_kit.store.claim(key, attempt=1, token="t", worker=dead, runner="r") is not None
    expire_all(any_kit, session)
    overtime.expire(any_kit.runtime)
    assert (session.status, session.to_dict()["reason"]) == ("active", "expired requested"), "its step runs"

    any_kit.store.stop_worker(dead)
    any_kit.recover()
    assert session.status == "expired"
    any_kit.sql("UPDATE session_steps SET wake_at = NULL WHERE session_id = :id", id=session.id)
    any_kit.deliver()
    assert any_kit.ran == []
    assert {step["status"] for step in session.steps} <= {"cancelled", "pending"}
