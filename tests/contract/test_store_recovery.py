"""Workers, orphans, release, park, sweeps: recovery belongs to nobody and to everybody (rule 6)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from celery_cascade.errors import ClaimLost
from celery_cascade.persistence import tables
from celery_cascade.persistence.rows import Orphan, StepKey
from celery_cascade.states import Halt, SuspendReason
from contract.kit import NOON, Kit, joins, queued, worker_row


def orphans(kit: Kit, silent_for: float | None = None) -> list[StepKey]:
    return [orphan.key for orphan in kit.store.orphans(silent_for=silent_for)]


def running_on(kit: Kit, worker: str, *, steps: int = 1) -> str:
    """A session whose steps this worker runs."""
    session = kit.start(queued(*(f"s{number}" for number in range(steps))))
    for number in range(steps):
        kit.claim(session, f"s{number}", worker=worker)
    return session


# -- workers
def test_a_worker_is_known_with_all_it_says_and_how_long_it_has_been_silent(kit: Kit) -> None:
    row = worker_row(
        "w1", boot_id="b", pid_namespace="n", process_started="1", pool="prefork", capacity=8, tasks='["t"]'
    )
    kit.store.add_worker(row)
    kit.clock.forward(12.5)

    (found,) = kit.store.running_workers()
    assert found.silent_for == pytest.approx(12.5, abs=0.01)
    assert (found.boot_id, found.capacity, found.tasks, found.process_started) == ("b", 8, '["t"]', "1")
    assert kit.store.beat("w1")
    assert kit.store.running_workers()[0].silent_for == pytest.approx(0, abs=0.01)


def test_adding_a_worker_twice_is_a_heartbeat(kit: Kit) -> None:
    """Rule 2: the answer to the first may have been lost."""
    kit.store.add_worker(worker_row("w1"))
    kit.clock.forward(9)
    kit.store.add_worker(worker_row("w1"))

    assert [row.silent_for for row in kit.store.running_workers()] == [pytest.approx(0, abs=0.01)]


def test_a_goodbye_is_written_once_and_a_beat_takes_it_back(kit: Kit) -> None:
    """DESIGN 4: a worker whose beats resume is alive again."""
    kit.store.add_worker(worker_row("w1"))

    assert kit.store.stop_worker("w1")
    assert not kit.store.stop_worker("w1")
    assert kit.store.running_workers() == []
    assert kit.store.beat("w1")
    assert [row.id for row in kit.store.running_workers()] == ["w1"]
    assert not kit.store.beat("nobody")
    assert not kit.store.stop_worker("nobody")


def test_workers_of_long_ago_are_forgotten_unless_they_own_steps(kit: Kit) -> None:
    for name in ("idle", "runs", "queued", "fresh"):
        kit.store.add_worker(worker_row(name))
    running_on(kit, "runs")
    kit.start(worker="queued")
    kit.clock.forward(days=8)
    kit.store.beat("fresh")

    assert kit.store.forget_workers(7 * 86400.0) == 1
    assert sorted(kit.column(tables.workers.c.id)) == ["fresh", "queued", "runs"]


# -- orphans
def test_the_steps_of_a_worker_that_said_goodbye_or_is_unknown_are_orphans(kit: Kit) -> None:
    kit.store.add_worker(worker_row("alive"))
    kit.store.add_worker(worker_row("stopped"))
    running_on(kit, "alive")
    left, lost = running_on(kit, "stopped"), running_on(kit, "unknown")
    kit.store.stop_worker("stopped")

    assert sorted(orphans(kit), key=str) == sorted([StepKey(left, "s0"), StepKey(lost, "s0")], key=str)


def test_silence_makes_orphans_only_for_who_asks_by_age(kit: Kit) -> None:
    """DESIGN 4: only a witness judges by age."""
    kit.store.add_worker(worker_row("w1"))
    session = running_on(kit, "w1", steps=2)
    kit.clock.forward(16)

    assert orphans(kit) == []
    assert orphans(kit, silent_for=15) == [StepKey(session, "s0"), StepKey(session, "s1")]
    kit.store.beat("w1")
    assert orphans(kit, silent_for=15) == []


def test_an_orphan_tells_all_that_recovery_needs(kit: Kit) -> None:
    session = kit.start()
    claimed = kit.claim(session, token="t1", worker="w9")
    kit.store.halt(session, Halt.CANCELLED, None)

    (orphan,) = kit.store.orphans(silent_for=None)
    assert orphan == Orphan(
        key=claimed.key, token="t1", attempt=1, crashes=0, failures=0, task="shop.task", runner="r1", worker="w9",
        halt="cancelled",
    )  # fmt: skip
    assert kit.store.running_on("w9") == [orphan]
    assert kit.store.running_on("w1") == []
    assert kit.store.one_running(claimed.key, 1) == orphan
    assert kit.store.one_running(claimed.key, 2) is None


def test_only_so_many_orphans_are_returned(kit: Kit) -> None:
    running_on(kit, "gone", steps=5)
    assert len(kit.store.orphans(silent_for=None, limit=3)) == 3


# -- release
def test_a_release_queues_the_next_attempt_and_counts_a_crash(kit: Kit) -> None:
    """Rule 4: it changes neither head nor version."""
    session = kit.start()
    kit.claim(session, token="t1", worker="w1", timeout=50)
    before = kit.head(session)
    kit.clock.forward(5)

    assert kit.store.release(kit.orphan(session), error='{"m":"lost"}', worker="w2")
    assert kit.head(session) == before
    row = kit.row(session)
    assert (row["status"], row["attempt"], row["crashes"], row["failures"]) == ("queued", 2, 1, 0)
    assert (row["worker"], row["runner"], row["deadline"], row["sends"]) == ("w2", None, None, 1)
    assert row["wake_at"] == kit.clock() + timedelta(seconds=60)
    (attempt,) = kit.store.attempts(session)
    assert (attempt["kind"], attempt["attempt"], attempt["worker"], attempt["error"]) == (
        "crash",
        1,
        "w1",
        '{"m":"lost"}',
    )
    kit.check(session)


def test_a_release_may_back_off_and_may_count_nothing(kit: Kit) -> None:
    session = kit.start()
    kit.claim(session)
    kit.store.release(kit.orphan(session), error=None, delay=4.0, crash=False)

    row = kit.row(session)
    assert (row["crashes"], row["attempt"], row["sends"], row["wake_at"]) == (0, 2, 0, NOON + timedelta(seconds=4))
    assert [attempt["kind"] for attempt in kit.store.attempts(session)] == ["requeue"]


def test_two_recoveries_release_a_step_once(kit: Kit) -> None:
    """Rule 6: two that find the same orphan do no harm."""
    session = kit.start()
    kit.claim(session)
    orphan = kit.orphan(session)

    assert [kit.store.release(orphan, error=None) for _ in range(2)] == [True, False]
    assert kit.row(session)["attempt"] == 2
    kit.claim(session)
    assert not kit.store.release(orphan, error=None), "an old finding does not take a new claim away"
    assert kit.statuses(session) == {"a": "running"}


def test_a_worker_that_beats_again_keeps_its_step(kit: Kit) -> None:
    """DESIGN 4: staleness is tested inside the release."""
    kit.store.add_worker(worker_row("w1"))
    session = kit.start()
    kit.claim(session, worker="w1")
    kit.clock.forward(16)
    (orphan,) = kit.store.orphans(silent_for=15)
    kit.store.beat("w1")

    assert not kit.store.release(orphan, error=None, silent_for=15)
    assert not kit.store.park(orphan, reason=SuspendReason.POISONED, silent_for=15)
    assert kit.statuses(session) == {"a": "running"}
    assert kit.store.attempts(session) == []

    kit.clock.forward(16)
    assert kit.store.release(orphan, error=None, silent_for=15)


def test_goodbye_and_absence_need_no_silence_to_release(kit: Kit) -> None:
    kit.store.add_worker(worker_row("stopped"))
    kit.store.stop_worker("stopped")
    for worker in ("stopped", "unknown"):
        session = kit.start()
        kit.claim(session, worker=worker)
        assert kit.store.release(kit.orphan(session), error=None, silent_for=15), worker


def test_a_step_of_a_session_that_halts_is_not_released(kit: Kit) -> None:
    session = kit.start()
    kit.claim(session)
    kit.store.halt(session, Halt.SUSPENDED, "operator")

    assert not kit.store.release(kit.orphan(session), error=None)
    assert kit.statuses(session) == {"a": "running"}


# -- park
def test_a_parked_orphan_lets_its_halting_session_settle(kit: Kit) -> None:
    session = kit.start()
    late = kit.claim(session)
    kit.store.halt(session, Halt.CANCELLED, "enough")
    assert kit.store.settle(session) is None

    assert kit.store.park(kit.orphan(session), reason=None, error='{"m":"lost"}')
    assert kit.store.settle(session) == "cancelled"
    assert kit.statuses(session) == {"a": "cancelled"}
    assert [attempt["kind"] for attempt in kit.store.attempts(session)] == ["crash"]
    with pytest.raises(ClaimLost):
        kit.end(late)


def test_a_step_that_crashes_too_often_suspends_its_session(kit: Kit) -> None:
    """DESIGN 4: poisoned, and `resume` resets the count."""
    session = kit.start([*queued("a", "b"), *joins(j=2)])
    kit.claim(session)
    orphan = kit.orphan(session)

    assert kit.store.park(orphan, reason=SuspendReason.POISONED, error='{"m":"5 crashes"}')
    assert not kit.store.park(orphan, reason=SuspendReason.POISONED)
    assert kit.store.settle(session) == "suspended"
    head = kit.head(session)
    assert (head["status"], head["status_reason"], head["version"]) == ("suspended", "poisoned", 3)
    assert kit.store.session(session)["error"] == '{"m":"5 crashes"}'
    assert kit.statuses(session) == {"a": "pending", "b": "pending", "j": "pending"}
    row = kit.row(session)
    assert (row["attempt"], row["crashes"], row["version"]) == (2, 1, 2)
    kit.check(session)

    _, again = kit.store.revive(session)
    assert [(step.key.step, step.attempt) for step in again] == [("a", 2), ("b", 1)]
    assert kit.row(session)["crashes"] == 0


def test_of_several_reasons_to_suspend_the_strongest_is_shown(kit: Kit) -> None:
    """DESIGN 3: operator, in_doubt, poisoned, worker_lost, …"""
    session = kit.start(queued("a", "b"))
    kit.claim(session, "a"), kit.claim(session, "b")
    kit.store.park(kit.orphan(session, "a"), reason=SuspendReason.WORKER_LOST)
    kit.store.park(kit.orphan(session, "b"), reason=SuspendReason.POISONED)

    assert kit.store.settle(session) == "suspended"
    assert kit.head(session)["status_reason"] == "poisoned"


# -- sweeps
def test_a_sweep_begins_once_an_interval_whoever_asks(kit: Kit) -> None:
    """STYLE 12: the database makes "once"."""
    assert [kit.store.begin_sweep("timers", 10.0) for _ in range(3)] == [True, False, False]
    kit.clock.forward(9)
    assert not kit.store.begin_sweep("timers", 10.0)
    assert kit.store.begin_sweep("orphans", 10.0)
    kit.clock.forward(1)
    assert [kit.store.begin_sweep("timers", 10.0) for _ in range(2)] == [True, False]


def test_a_sweep_that_began_in_the_future_does_not_stop_all_others(kit: Kit) -> None:
    """A database whose clock was set back."""
    kit.store.begin_sweep("timers", 10.0)
    kit.clock.forward(-3600)
    assert kit.store.begin_sweep("timers", 10.0)


# -- what the dead had queued
def test_what_a_dead_worker_had_queued_is_due_at_once(kit: Kit) -> None:
    mine, other = kit.start(worker="dead"), kit.start(worker="alive")
    driven = kit.start(worker="dead", resend_after=None)
    retry = kit.start()
    kit.fail(kit.claim(retry), 300.0, worker="dead")

    assert kit.store.wake_queued_by(["dead", "also"]) == 2
    assert kit.store.wake_queued_by(["dead"]) == 0
    assert kit.store.wake_queued_by([]) == 0
    assert kit.row(mine)["wake_at"] == kit.row(driven)["wake_at"] == NOON
    assert kit.row(other)["wake_at"] > NOON
    assert kit.row(retry)["wake_at"] == NOON + timedelta(seconds=300), "a retry that waits goes on waiting"


def test_what_a_dead_worker_had_sent_again_is_due_at_once_too(kit: Kit) -> None:
    session = kit.start(worker="w1")
    kit.clock.forward(61)
    kit.store.take_due(worker="w2", first=60)

    assert kit.store.wake_queued_by(["w1"]) == 0
    assert kit.store.wake_queued_by(["w2"]) == 1
    assert kit.row(session)["wake_at"] == kit.clock()


def test_what_an_ended_run_without_a_broker_left_queued_is_due_at_once(kit: Kit) -> None:
    for name in ("here", "there"):
        kit.store.add_worker(worker_row(name))
    left, goes_on = kit.start(worker="here", resend_after=None), kit.start(worker="there", resend_after=None)
    sent = kit.start(worker="here")
    assert kit.store.wake_forsaken() == 0
    kit.store.stop_worker("here")

    assert kit.store.wake_forsaken() == 1
    assert kit.store.wake_forsaken() == 0
    assert kit.row(left)["wake_at"] == NOON
    assert kit.row(goes_on)["wake_at"] is None
    assert kit.row(sent)["wake_at"] > NOON
    assert [step.key.session_id for step in kit.store.take_due(worker="w", first=60)] == [left]


def test_many_steps_of_the_dead_are_woken_in_batches(kit: Kit) -> None:
    kit.start(queued(*(f"s{number:03}" for number in range(450))), worker="dead")
    assert kit.store.wake_queued_by(["dead"]) == 450
    assert len(kit.store.take_due(worker="w", first=60, limit=1000)) == 450


def test_the_oldest_queued_steps_are_due_at_once(kit: Kit) -> None:
    """A dead worker may have held messages in its memory."""
    sessions = []
    for _ in range(4):
        sessions.append(kit.start())
        kit.clock.forward(1)

    assert kit.store.wake_oldest(2) == 2
    assert [kit.row(session)["wake_at"] <= kit.clock() for session in sessions] == [True, True, False, False]
    assert kit.store.wake_oldest(0) == 0
