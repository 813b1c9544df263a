"""The order of two effects, looked at where it matters: at a crash point, through another connection."""

from __future__ import annotations

import uuid

import pytest

from celery_cascade.crash_points import CrashPoint, arm
from celery_cascade.persistence.database import Database
from celery_cascade.persistence.rows import QueuedStep, StepKey, WorkerRow
from celery_cascade.persistence.store import Store
from celery_cascade.tasks import recovery
from sessions.kit import CHAIN, Kit


class Crash(BaseException):
    """The process is gone at this point."""


def die_at(point: CrashPoint, step: str | None = None) -> None:
    def visit(reached: CrashPoint, of: object) -> None:
        if reached is point and (step is None or getattr(of, "step", None) == step):
            arm(None)
            raise Crash

    arm(visit)


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm(None)


def test_a_message_is_sent_only_when_everybody_can_see_its_step_queued(
    any_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R3, rule 3: publishing comes after the commit, at the start and at every checkpoint."""
    seen: list[tuple[str, str | None]] = []
    send = any_kit.runtime.publisher._send
    other = Store(Database(any_kit.store.database.url))

    def looked(queued: QueuedStep) -> None:
        rows = other.steps(queued.key.session_id)
        seen.append((queued.key.step, next((row["status"] for row in rows if row["step"] == queued.key.step), None)))
        send(queued)

    monkeypatch.setattr(any_kit.runtime.publisher, "_send", looked)
    session = any_kit.cascades.start(any_kit.file(CHAIN), {"n": 1})
    any_kit.deliver()
    other.database.dispose()
    assert session.output == 4
    assert seen == [("a", "queued"), ("b", "queued"), ("c", "queued")]


def test_an_end_that_was_not_written_is_written_by_the_next_look(kit: Kit) -> None:
    """Rule 3: the process dies between its last checkpoint and the session's end."""
    session = kit.start("a", "b")
    die_at(CrashPoint.CHECKPOINTED, "b")
    with pytest.raises(Crash):
        kit.deliver()
    assert (session.status, session.steps[1]["status"]) == ("active", "succeeded")
    assert kit.recover().settled == 1
    assert (session.status, session.output) == ("completed", 1)


def test_a_silent_worker_keeps_its_steps_for_whoever_is_no_witness(any_kit: Kit) -> None:
    """DESIGN section 4: an outage makes everybody look dead; only a witness may judge by age."""
    kit = any_kit
    row = WorkerRow(id=str(uuid.uuid4()), nodename="celery@far", host="far", pid=1)
    kit.store.add_worker(row)
    session = kit.start("a")
    assert kit.store.claim(StepKey(session.id, "a"), attempt=1, token="t", worker=row.id, runner="1")
    kit.sql(
        "UPDATE cascade_workers SET heartbeat_at = :long_ago WHERE id = :id", long_ago="2020-01-01 00:00:00", id=row.id
    )
    recovery.recover(kit.runtime, witness=False)
    assert session.steps[0]["status"] == "running"
    recovery.recover(kit.runtime, witness=True)
    assert session.steps[0]["status"] == "queued"


def test_the_next_step_gets_what_is_stored_and_not_what_was_returned(kit: Kit) -> None:
    """DESIGN section 3: decode(encode(output)), so that a resumed session sees what the undisturbed one saw."""

    @kit.task("pair")
    def pair() -> object:
        return {"pair": (1, 2)}

    steps = [
        {"id": "a", "task": "pair"},
        {"id": "b", "task": "echo", "with": ["{{ outputs.a.pair == [1, 2] }}"]},
    ]
    assert kit.run(*steps).output is True
