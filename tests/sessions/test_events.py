"""The plugin's own signals: after the commit that they tell of, and of no consequence (R161)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from celery_cascade import events
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import StepKey, WorkerRow
from celery_cascade.persistence.store import Store
from celery_cascade.tasks import recovery
from sessions.kit import Kit

Heard = list[tuple[str, dict[str, Any], Any]]
NAMES = [signal.name for signal in events.ALL]


@contextmanager
def listening(kit: Kit) -> Iterator[Heard]:
    """Each signal with what it said, and what a reader with a connection of its own saw at that moment."""
    found: Heard = []
    receivers = []
    reader = Store(Database(kit.runtime.database_url, null_pool=True))

    def listen(name: str) -> None:
        def receiver(sender: Any, signal: Any, **said: Any) -> None:
            assert set(said) == signal.providing_args
            seen = None if "session_id" not in said else dict(reader.session(said["session_id"]))
            found.append((name, said, seen))

        receivers.append((getattr(events, name), receiver))
        getattr(events, name).connect(receiver, weak=False, sender=kit.app)

    for name in NAMES:
        listen(name)
    try:
        yield found
    finally:
        for signal, receiver in receivers:
            signal.disconnect(receiver, sender=kit.app)


@pytest.fixture
def heard(kit: Kit) -> Iterator[Heard]:
    with listening(kit) as found:
        yield found


def test_every_signal_of_a_run_comes_after_its_commit(any_kit: Kit) -> None:
    """R161: whoever looks from a handler, with a connection of its own, sees what the signal tells."""
    with listening(any_kit) as heard:
        _run_fail_resume_suspend(any_kit, heard)


def _run_fail_resume_suspend(kit: Kit, heard: Heard) -> None:
    session = kit.run("a", {"id": "b", "task": "broken"})
    assert [name for name, _, _ in heard] == ["session_started", "step_checkpointed", "step_failed", "session_failed"]
    for _, said, seen in heard:
        assert said["session_id"] == session.id
        assert seen is not None
    assert heard[0][1]["cascade_id"] == "test"
    checkpoint = heard[1]
    assert (checkpoint[1]["step"], checkpoint[1]["version"]) == ("a", checkpoint[2]["version"])
    assert checkpoint[2]["current_step"] == 1
    assert (checkpoint[1]["item"], checkpoint[1]["attempt"], checkpoint[1]["status"]) == (None, 1, "succeeded")
    error = {"type": "ValueError", "message": "fixed is not there", "step": "b", "item": None, "attempt": 1}
    assert heard[2][1]["error"] == heard[3][1]["error"] == error
    assert heard[3][2]["status"] == heard[3][1]["status"] == "failed"
    heard.clear()
    kit.fix.add("fixed")
    session.resume()
    kit.deliver()
    assert [name for name, _, _ in heard] == ["session_resumed", "step_checkpointed", "session_completed"]
    assert heard[-1][2]["status"] == "completed"
    heard.clear()
    other = kit.start("a")
    other.suspend()
    assert [name for name, _, _ in heard] == ["session_started", "session_suspended"]
    assert (heard[1][1]["reason"], heard[1][2]["status"]) == ("operator", "suspended")
    report = kit.cascades.prune(older_than=timedelta(0))
    assert (heard[-1][0], heard[-1][1]["deleted"]) == ("sessions_pruned", report.deleted)


def test_a_step_that_was_taken_away_is_told(kit: Kit, heard: list[Any]) -> None:
    """R161: claim_lost, once for the late writer."""

    @kit.task("zombie")
    def zombie() -> None:
        if len(kit.ran) == 1:
            kit.sql("UPDATE session_steps SET worker = 'gone' WHERE status = 'running'")
            kit.recover()

    kit.start({"id": "a", "task": "zombie"})
    kit.deliver()
    names = [name for name, _, _ in heard]
    assert names == ["session_started", "session_resumed", "claim_lost", "step_checkpointed", "session_completed"]


def test_a_step_that_is_over_its_time_for_good_is_told(kit: Kit, heard: Heard) -> None:
    """R161: a timeout is written by a sweep, not by the process that runs the step."""
    session = kit.start({"id": "a", "task": "add", "timeout": 1})
    assert kit.store.claim(StepKey(session.id, "a"), attempt=1, token="t", worker="w", runner="1", timeout=1)
    kit.sql("UPDATE session_steps SET deadline = '2001-01-01 00:00:00.000000', worker = :id", id="w")
    kit.store.add_worker(WorkerRow(id="w", nodename="celery@here", host="h", pid=1))
    kit.recover()
    assert [name for name, _, _ in heard] == ["session_started", "step_failed", "session_failed"]
    assert heard[1][1]["error"]["type"] == "StepTimeout"


def test_handlers_that_raise_change_nothing(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """R161, R152: they are logged, the session runs as ever."""

    def bad(sender: Any, **_: Any) -> None:
        raise RuntimeError("a bad handler")

    for name in NAMES:
        getattr(events, name).connect(bad, weak=False, sender=kit.app)
    try:
        session = kit.run("a", {"id": "b", "task": "broken"})
        session.resume()
        kit.fix.add("fixed")
        kit.deliver()
        recovery.recover(kit.runtime, witness=False)
        assert session.status == "completed"
        assert kit.cascades.prune(older_than=timedelta(0)).deleted == 0
    finally:
        for name in NAMES:
            getattr(events, name).disconnect(bad, sender=kit.app)
    assert "a bad handler" in caplog.text
