"""delay_unknown, wake_known, waiting_tasks: messages that went to a worker which does not know their task."""

from __future__ import annotations

from datetime import timedelta

import pytest

from celery_cascade.persistence.rows import NewStep, StepKey
from celery_cascade.persistence.unknown import LONGEST_DELAY, UNKNOWN_TASK
from celery_cascade.states import Halt
from contract.kit import Kit, queued

FIRST = 5.0


def drop(kit: Kit, session: str, attempt: int = 1) -> float | None:
    return kit.store.delay_unknown(StepKey(session, "a"), attempt, first=FIRST)


def of_task(step: str, task: str) -> NewStep:
    return NewStep(step=step, status="queued", task=task, call='{"args":[],"kwargs":{}}')


def test_a_dropped_message_is_sent_again_soon_and_later_each_time(kit: Kit) -> None:
    """DESIGN 4: 5 s, doubling, at most 5 minutes; it never fails for that, and no version moves."""
    session = kit.start()
    waits = []
    for _ in range(10):
        waits.append(drop(kit, session))
        assert kit.row(session)["wake_at"] == kit.clock() + timedelta(seconds=waits[-1])
        kit.clock.moment = kit.row(session)["wake_at"]
        assert [step.key.step for step in kit.store.take_due(worker="w", first=60)] == ["a"]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert LONGEST_DELAY == 300
    row = kit.row(session)
    assert (row["status"], row["reason"], row["attempt"], row["failures"], row["crashes"]) == (
        "queued", UNKNOWN_TASK, 1, 0, 0,
    )  # fmt: skip
    assert (kit.head(session)["status"], kit.head(session)["version"]) == ("active", 1)
    assert kit.store.attempts(session) == []


def test_the_same_drop_told_twice_delays_once(kit: Kit) -> None:
    session = kit.start()
    assert (drop(kit, session), drop(kit, session)) == (5, 5)


@pytest.mark.parametrize("became", ["running", "ended", "queued for its next attempt", "parked", "run by its starter"])
def test_only_a_step_that_is_queued_for_that_attempt_is_delayed(kit: Kit, became: str) -> None:
    """A message that is late: whoever has the step by now is not disturbed."""
    session = kit.start(queued("a", "b"), resend_after=None if became == "run by its starter" else 60.0)
    if became == "running":
        kit.claim(session)
    elif became == "ended":
        kit.run(session)
    elif became == "queued for its next attempt":
        kit.fail(kit.claim(session), 0.0)
    elif became == "parked":
        kit.store.halt(session, Halt.SUSPENDED, "operator")
        kit.store.settle(session)
    before = dict(kit.row(session))
    assert drop(kit, session) is None
    assert dict(kit.row(session)) == before


def test_a_claim_forgets_why_the_step_waited(kit: Kit) -> None:
    session = kit.start()
    drop(kit, session)
    kit.claim(session)
    assert kit.row(session)["reason"] is None
    kit.end(kit.claim(kit.start(session_id="other")))
    assert kit.row("other")["reason"] is None


def test_what_is_parked_forgets_it_too(kit: Kit) -> None:
    session = kit.start()
    drop(kit, session)
    kit.store.halt(session, Halt.SUSPENDED, "operator")
    kit.store.settle(session)
    assert (kit.row(session)["status"], kit.row(session)["reason"]) == ("pending", None)


def test_a_worker_that_knows_the_task_wakes_what_was_dropped_and_nothing_else(kit: Kit) -> None:
    """R153: promptly, and without sending all that waits in a long queue a second time."""
    dropped, waits, other = (
        kit.start([of_task("a", "shop.new")]), kit.start([of_task("a", "shop.new")]), kit.start([of_task("a", "x")]),
    )  # fmt: skip
    for _ in range(4):
        drop(kit, dropped)
        kit.clock.moment = kit.row(dropped)["wake_at"]
        kit.store.take_due(worker="w", first=60)
    drop(kit, dropped)
    drop(kit, other)
    untouched = dict(kit.row(waits)), dict(kit.row(other))
    assert kit.store.wake_known(["shop.old"]) == 0
    assert kit.store.wake_known([]) == 0
    assert kit.store.wake_known(["shop.new", "shop.old"]) == 1
    assert kit.store.wake_known(["shop.new"]) == 0, "it is awake"
    assert (dict(kit.row(waits)), dict(kit.row(other))) == untouched
    (step,) = kit.store.take_due(worker="w", first=60, limit=1)
    assert (step.key.session_id, step.dropped) == (dropped, True)
    assert kit.store.still_unclaimed([step.key, StepKey(waits, "a"), StepKey(other, "a")]) == {
        step.key, StepKey(other, "a"),
    }  # fmt: skip
    assert kit.store.still_unclaimed([]) == set()
    assert drop(kit, dropped) == FIRST, "an older worker that takes this one too begins with a short delay"


def test_many_dropped_steps_are_woken_in_batches(kit: Kit) -> None:
    names = [f"s{number}" for number in range(450)]
    session = kit.start([of_task(name, "shop.new") for name in names])
    for name in names:
        kit.store.delay_unknown(StepKey(session, name), 1, first=FIRST)
    assert kit.store.wake_known(["shop.new"]) == 450


def test_waiting_tasks_counts_what_is_queued_by_task_and_reason(kit: Kit) -> None:
    one = kit.start([of_task("a", "x"), of_task("b", "x"), of_task("c", "y")])
    two = kit.start([of_task("a", "x")])
    kit.start([of_task("a", "x")], resend_after=None)  # run by its starter: no message, so nobody's to know
    drop(kit, one)

    def told(rows: list) -> list:
        return [(row["task"], row["reason"], row["count"], round(float(row["wait"]))) for row in rows]

    rows = kit.store.waiting_tasks()
    # In any order: databases do not agree on where NULL stands.
    assert set(told(rows)) == {("x", None, 2, 60), ("x", "unknown_task", 1, 5), ("y", None, 1, 60)}
    assert len(rows) == 3
    rows = kit.store.waiting_tasks([two, "nobody"])
    assert [row["session_id"] for row in rows] == [two]
    assert told(rows) == [("x", None, 1, 60)]
