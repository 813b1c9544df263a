"""note_fenced and recoveries: what can be counted of crashes, late writers and sessions without an owner."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_cascade.errors import ClaimLost
from celery_cascade.persistence.recoveries import Recoveries
from celery_cascade.persistence.rows import StepKey
from contract.kit import Kit, queued, worker_row

DAY = 86_400.0


def seen(kit: Kit, *alive: str, takers: bool = True) -> Recoveries:
    return kit.store.recoveries(since=DAY, alive=alive, takers=takers)


def crash(kit: Kit, worker: str = "w1", step: str = "a", session: str | None = None, *, delay: float = 0.0) -> str:
    """A claimed step whose worker is released at this moment."""
    session = session or kit.start()
    kit.claim(session, step, worker=worker)
    kit.clock.forward(3)
    assert kit.store.release(kit.orphan(session, step), error=None, delay=delay)
    return session


def test_the_time_to_resume_runs_from_the_last_heartbeat_to_the_next_claim(kit: Kit) -> None:
    """A worker that has died is noticed later than it died."""
    kit.store.add_worker(worker_row("w1"))
    session = kit.start()
    kit.clock.forward(1)
    kit.claim(session, worker="w1")
    kit.clock.forward(1)
    kit.store.beat("w1")  # its last
    kit.clock.forward(15)
    kit.store.release(kit.orphan(session), error=None)
    assert (seen(kit).seconds, seen(kit).waiting) == ((), 1)
    kit.clock.forward(2)
    kit.claim(session, worker="w2")
    assert seen(kit).seconds == pytest.approx([17.0], abs=0.01)
    assert seen(kit).waiting == 0


def test_a_child_that_was_lost_counts_from_its_release_and_a_crash_before_any_beat_from_its_start(kit: Kit) -> None:
    kit.store.add_worker(worker_row("w1"))
    kit.store.add_worker(worker_row("w2"))
    kit.clock.forward(10)
    child = crash(kit, "w1")
    kit.store.beat("w1")  # the worker lives
    early = crash(kit, "w2")
    kit.clock.forward(4)
    kit.claim(child, worker="w3")
    kit.claim(early, worker="w3")
    # child: 3 s until the other crashed, and 4; early: 3 s from its start to its release, and 4.
    assert seen(kit).seconds == pytest.approx([7.0, 7.0], abs=0.01)


def test_a_step_that_crashed_again_and_again_counts_each_time(kit: Kit) -> None:
    """The claim of an attempt that crashed as well stands in that attempt's own row."""
    session = crash(kit)
    for _ in range(3):
        kit.clock.forward(1)
        crash(kit, session=session)
    kit.clock.forward(5)
    kit.run(session)
    assert seen(kit).seconds == pytest.approx([1, 1, 1, 5], abs=0.01)
    assert seen(kit).median == pytest.approx(1, abs=0.01)


def test_only_crashes_of_that_time_count(kit: Kit) -> None:
    crash(kit)
    kit.fail(kit.claim(kit.start()), 0.0)
    assert seen(kit).waiting == 1
    kit.clock.forward(DAY + 1)
    assert (seen(kit).waiting, seen(kit).seconds, seen(kit).median) == (0, (), None)


def test_a_late_writer_is_counted_once_and_moves_nothing(kit: Kit) -> None:
    """Rule 4: the session is somebody else's by now."""
    session = kit.start()
    late = kit.claim(session)
    kit.store.release(kit.orphan(session), error=None)
    kit.claim(session, token="new")
    before = dict(kit.head(session)), [dict(row) for row in kit.store.steps(session)]
    with pytest.raises(ClaimLost):
        kit.end(late)
    assert kit.store.note_fenced(late.key, late.attempt) is True
    kit.clock.forward(60)
    assert kit.store.note_fenced(late.key, late.attempt) is False
    assert (dict(kit.head(session)), [dict(row) for row in kit.store.steps(session)]) == before
    (row,) = kit.store.attempts(session)
    assert (row["kind"], row["attempt"], row["version"]) == ("crash", 1, 1)
    assert seen(kit).fenced == 1
    kit.clock.forward(DAY)
    assert seen(kit).fenced == 0


def test_a_late_writer_of_a_session_that_is_gone_is_no_error(kit: Kit) -> None:
    assert kit.store.note_fenced(StepKey("gone", "a"), 1) is False


def test_a_session_is_without_an_owner_when_nobody_alive_has_any_of_its_steps(kit: Kit) -> None:
    """D2: an active session that nobody runs."""
    both, running, waiting, here = (kit.start(queued("a", "b")) for _ in range(4))
    kit.claim(both, "a", worker="dead")
    kit.claim(both, "b", worker="alive")
    for step in ("a", "b"):
        kit.claim(running, step, worker="dead")
    kit.claim(waiting, "a", worker="dead")
    for step in ("a", "b"):
        kit.claim(here, step, worker="here")
    ended = kit.start()
    kit.run(ended)
    kit.complete(ended)
    assert seen(kit, "alive", "here").ownerless == 1, "`waiting` has a step that any worker takes"
    assert seen(kit, "alive", "here", takers=False).ownerless == 2
    assert seen(kit, takers=False).ownerless == 4
    assert seen(kit, "alive", "dead", "here").ownerless == 0


def test_what_a_process_has_queued_for_itself_is_its_own(kit: Kit) -> None:
    kit.start(worker="here", resend_after=None)
    assert seen(kit, "here", takers=False).ownerless == 0
    assert seen(kit, takers=False).ownerless == 1


def test_the_median_of_an_even_count_is_between_the_two(kit: Kit) -> None:
    assert replace(seen(kit), seconds=(1.0, 2.0, 4.0, 9.0)).median == 3.0
