"""The plugin's own signals: after the commit that they tell of, and of no consequence (R161)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from celery_cascade import events
from celery_cascade.tasks import recovery
from sessions.kit import Kit

NAMES = (
    "session_started", "session_suspended", "session_resumed", "session_completed", "session_failed",
    "step_checkpointed", "step_failed", "claim_lost", "sessions_pruned",
)  # fmt: skip


@pytest.fixture
def heard(kit: Kit) -> Iterator[list[tuple[str, dict[str, Any], Any]]]:
    """Each signal with what it said, and what a reader of the store saw at that moment."""
    found: list[tuple[str, dict[str, Any], Any]] = []
    receivers = []

    def listen(name: str) -> None:
        def receiver(sender: Any, signal: Any, **said: Any) -> None:
            seen = None if "session_id" not in said else dict(kit.store.head(said["session_id"]))
            found.append((name, said, seen))

        receivers.append((getattr(events, name), receiver))
        getattr(events, name).connect(receiver, weak=False, sender=kit.app)

    for name in NAMES:
        listen(name)
    yield found
    for signal, receiver in receivers:
        signal.disconnect(receiver, sender=kit.app)


def test_every_signal_of_a_run_comes_after_its_commit(kit: Kit, heard: list[Any]) -> None:
    """R161: whoever looks from a handler sees what the signal tells."""
    session = kit.run("a", {"id": "b", "task": "broken"})
    assert [name for name, _, _ in heard] == ["session_started", "step_checkpointed", "step_failed", "session_failed"]
    for _, said, seen in heard:
        assert said["session_id"] == session.id
        assert seen is not None
    assert heard[0][1]["cascade_id"] == "test"
    checkpoint = heard[1]
    assert (checkpoint[1]["step"], checkpoint[1]["version"]) == ("a", checkpoint[2]["version"])
    assert checkpoint[2]["current_step"] == 1
    assert "fixed is not there" in heard[2][1]["error"]
    assert heard[3][2]["status"] == "failed"
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
    kit.cascades.prune(older_than=timedelta(0))
    assert (heard[-1][0], heard[-1][1]["deleted"]) == ("sessions_pruned", 0)


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
