"""take_due, wake_later, queued_steps: messages that were lost, and retries whose moment has come."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from celery_cascade.persistence.rows import QueuedStep, StepKey
from celery_cascade.states import Halt
from contract.kit import NOON, Kit, joins, queued


def due(kit: Kit, *, first: float = 60.0, limit: int = 200) -> list[StepKey]:
    return [step.key for step in kit.store.take_due(worker="w9", first=first, limit=limit)]


def test_a_message_that_nobody_claimed_is_sent_again_later_and_later(kit: Kit) -> None:
    """DESIGN 4: the delay doubles, at most to an hour."""
    session = kit.start()
    began, waits = kit.clock(), []
    for _ in range(9):
        wake_at = kit.row(session)["wake_at"]
        waits.append(wake_at - kit.clock())
        kit.clock.moment = wake_at - timedelta(seconds=1)
        assert due(kit) == []
        kit.clock.moment = wake_at
        assert due(kit) == [StepKey(session, "a")]
    assert [wait.total_seconds() for wait in waits] == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert (kit.row(session)["worker"], kit.row(session)["sends"]) == ("w9", 10)
    assert kit.clock() > began
    assert kit.head(session)["version"] == 1


def test_a_short_first_delay_doubles_step_by_step_too(kit: Kit) -> None:
    session = kit.start(resend_after=0.5)
    waits = []
    for _ in range(40):
        waits.append((kit.row(session)["wake_at"] - kit.clock()).total_seconds())
        kit.clock.moment = kit.row(session)["wake_at"]
        assert len(due(kit, first=0.5)) == 1
    assert waits[:6] == [0.5, 1, 2, 4, 8, 16]
    assert all(later == min(2 * earlier, 3600) for earlier, later in pairwise(waits))


def test_a_due_step_is_taken_once(kit: Kit) -> None:
    """Rule 6: two that sweep send one message."""
    kit.start()
    kit.clock.forward(60)

    assert len(due(kit)) == 1
    assert due(kit) == []


def test_a_retry_is_sent_when_its_delay_is_over_and_again_a_minute_later(kit: Kit) -> None:
    session = kit.start()
    kit.fail(kit.claim(session), 30.0, kind="retry", retries=1)
    kit.clock.forward(29)
    assert due(kit) == []
    kit.clock.forward(1)

    assert kit.store.take_due(worker="w9", first=60) == [
        QueuedStep(key=StepKey(session, "a"), task="shop.task", attempt=2, epoch=0, retries=1)
    ]
    assert (kit.row(session)["sends"], kit.row(session)["wake_at"]) == (1, kit.clock() + timedelta(seconds=60))
    kit.clock.forward(60)
    assert due(kit) == [StepKey(session, "a")]
    assert kit.row(session)["wake_at"] == kit.clock() + timedelta(seconds=120)


def test_what_runs_has_ended_waits_or_is_parked_is_never_due(kit: Kit) -> None:
    runs, ended, parked = kit.start(), kit.start(), kit.start([*queued("a"), *joins(j=1)])
    kit.claim(runs)
    kit.run(ended)
    kit.store.halt(parked, Halt.SUSPENDED, "operator")
    kit.clock.forward(days=1)

    assert due(kit) == []


def test_the_longest_overdue_come_first_and_only_so_many(kit: Kit) -> None:
    sessions = []
    for _ in range(5):
        sessions.append(kit.start())
        kit.clock.forward(1)
    kit.clock.forward(100)

    assert sorted(key.session_id for key in due(kit, limit=2)) == sorted(sessions[:2])
    assert sorted(key.session_id for key in due(kit, limit=9)) == sorted(sessions[2:])


def test_a_publish_that_failed_is_tried_again_soon(kit: Kit) -> None:
    session = kit.start()
    kit.store.wake_later(StepKey(session, "a"), 5.0)

    assert kit.row(session)["wake_at"] == NOON + timedelta(seconds=5)
    kit.clock.forward(5)
    assert due(kit) == [StepKey(session, "a")]


def test_a_claimed_step_is_not_woken_later(kit: Kit) -> None:
    session = kit.start()
    claimed = kit.claim(session)
    kit.store.wake_later(claimed.key, 5.0)

    assert kit.row(session)["wake_at"] is None


def test_the_queued_steps_of_a_session_are_those_that_can_run_now(kit: Kit) -> None:
    session = kit.start([*queued("c", "b", "a"), *joins(j=2)])
    other = kit.start()
    kit.fail(kit.claim(session, "b"), 30.0)
    kit.claim(session, "c")

    assert [step.key.step for step in kit.store.queued_steps(session)] == ["a"]
    kit.clock.forward(30)
    assert [(step.key.step, step.attempt) for step in kit.store.queued_steps(session)] == [("a", 1), ("b", 2)]
    assert [step.key.session_id for step in kit.store.queued_steps(other)] == [other]
    assert kit.store.queued_steps("nobody") == []
