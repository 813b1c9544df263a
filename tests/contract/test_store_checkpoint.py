"""checkpoint: output, arrivals, followers and head in one transaction, fenced by the token."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from celery_cascade.errors import ClaimLost
from celery_cascade.persistence.rows import ClaimedStep, StepKey
from celery_cascade.states import Halt
from contract.kit import NOON, Kit, joins, queued


def test_a_checkpoint_records_the_output_and_queues_what_follows(kit: Kit) -> None:
    """Rule 3."""
    session = kit.start(total=2)
    claimed = kit.claim(session, timeout=60)
    kit.clock.forward(3)
    moved = kit.end(claimed, "b", output='{"sum":7}')

    assert (moved.version, moved.open_steps, moved.halt, moved.ready) == (2, 1, None, ())
    a, b = kit.row(session, "a"), kit.row(session, "b")
    later = NOON + timedelta(seconds=3)
    assert (a["status"], a["output"], a["finished_at"], a["deadline"]) == ("succeeded", '{"sum":7}', later, None)
    assert (b["status"], b["worker"], b["sends"], b["attempt"], b["needs_left"]) == ("queued", "w1", 1, 1, 0)
    assert (b["queued_at"], b["wake_at"]) == (later, later + timedelta(seconds=60))
    assert (a["version"], b["version"]) == (2, 2)
    head = kit.head(session)
    assert (head["current_step"], head["current_phase"], head["updated_at"]) == (1, "a", later)
    kit.check(session)


def test_the_token_stays_on_the_row_after_the_end(kit: Kit) -> None:
    """Rule 2."""
    session = kit.start()
    kit.end(kit.claim(session, token="t1"))

    assert kit.row(session)["token"] == "t1"


def test_a_skipped_step_ends_without_counting_as_a_checkpointed_one(kit: Kit) -> None:
    session = kit.start(total=3)
    moved = kit.run(session, "a", status="skipped", output=None, reason="ignored", skips=["b", "c"])

    assert moved.open_steps == 0
    assert kit.statuses(session) == {"a": "skipped", "b": "skipped", "c": "skipped"}
    assert (kit.row(session, "a")["reason"], kit.row(session, "b")["reason"]) == ("ignored", "when")
    assert kit.head(session)["current_step"] == 0
    kit.check(session)


def test_the_version_grows_by_one_at_each_checkpoint(kit: Kit) -> None:
    """R38: exactly one each, and every changed row bears it."""
    session = kit.start(total=5)
    names = ["a", "b", "c", "d", "e"]
    for number, name in enumerate(names):
        assert kit.run(session, name, *names[number + 1 : number + 2]).version == number + 2

    assert [kit.row(session, name)["version"] for name in names] == [2, 3, 4, 5, 6]
    assert kit.head(session)["current_step"] == 5


def test_a_join_becomes_ready_with_its_last_arrival_and_exactly_once(kit: Kit) -> None:
    """Rule 5."""
    session = kit.start([*queued("a", "b", "c"), *joins(all=3)])

    assert kit.run(session, "a", arrivals={"all": 1}).ready == ()
    assert kit.run(session, "b", arrivals={"all": 1}).ready == ()
    assert kit.row(session, "all")["status"] == "pending"
    kit.clock.forward(9)
    assert kit.run(session, "c", arrivals={"all": 1}).ready == ("all",)

    row = kit.row(session, "all")
    assert (row["status"], row["needs_left"], row["sends"], row["worker"]) == ("queued", 0, 1, "w1")
    assert (row["queued_at"], row["wake_at"]) == (kit.clock(), kit.clock() + timedelta(seconds=60))
    assert row["version"] == 4
    kit.check(session)


def test_one_checkpoint_may_arrive_several_times_and_at_several_joins(kit: Kit) -> None:
    """A skipped need arrives too: one end may be several arrivals."""
    session = kit.start([*queued("a", "b"), *joins(j1=2, j2=3, j3=4)], total=6)

    moved = kit.run(session, "a", arrivals={"j1": 2, "j2": 2, "j3": 1}, skips=["x"])
    assert moved.ready == ("j1",)
    assert (kit.row(session, "j2")["needs_left"], kit.row(session, "j3")["needs_left"]) == (1, 3)

    moved = kit.run(session, "b", arrivals={"j2": 1, "j3": 3})
    assert sorted(moved.ready) == ["j2", "j3"]
    kit.check(session)


def test_without_resend_nothing_that_follows_is_due_by_itself(kit: Kit) -> None:
    """Whoever drives a session in its own process sends nothing."""
    session = kit.start([*queued("a"), *joins(j=1)], total=3)
    kit.run(session, "a", "b", arrivals={"j": 1}, resend_after=None)

    assert (kit.row(session, "b")["wake_at"], kit.row(session, "j")["wake_at"]) == (None, None)
    assert [step.key.step for step in kit.store.queued_steps(session)] == ["b", "j"]


def test_in_a_session_that_halts_followers_and_joins_are_parked(kit: Kit) -> None:
    """DESIGN 3, cancel and suspend: the output is recorded and nothing is queued."""
    session = kit.start([*queued("a", "b"), *joins(j=1)], total=5)
    claimed = kit.claim(session)
    kit.store.halt(session, Halt.SUSPENDED, "operator")
    moved = kit.end(claimed, "c", arrivals={"j": 1}, skips=["x"])

    assert (moved.halt, moved.ready) == ("suspended", ())
    assert kit.statuses(session) == {"a": "succeeded", "b": "pending", "c": "pending", "j": "pending", "x": "skipped"}
    for step in ("b", "c", "j"):
        row = kit.row(session, step)
        assert (row["needs_left"], row["wake_at"]) == (0, None)
    for step in ("c", "j"):
        row = kit.row(session, step)
        assert (row["sends"], row["queued_at"], row["worker"]) == (0, None, None), step
    kit.check(session)


def zombie(kit: Kit, session: str) -> ClaimedStep:
    """A claim that a recovery took away."""
    claimed = kit.claim(session, token="old")
    assert kit.store.release(kit.orphan(session), error=None)
    return claimed


def test_a_late_writer_is_refused_and_nothing_of_its_half_is_written(kit: Kit) -> None:
    """Rule 2: refused by the database, not by its good manners."""
    session = kit.start([*queued("a"), *joins(j=2)], total=4)
    late = zombie(kit, session)
    before = kit.head(session)

    for _ in range(2):  # while queued again, and while another runs it
        with pytest.raises(ClaimLost):
            kit.end(late, "b", arrivals={"j": 1}, skips=["x"])
        assert kit.head(session) == before
        assert sorted(kit.statuses(session)) == ["a", "j"]
        assert kit.row(session, "j")["needs_left"] == 2
        if kit.row(session)["status"] == "queued":
            kit.claim(session, token="new")
    assert kit.row(session)["token"] == "new"


def test_a_late_writer_is_refused_after_the_session_has_ended(kit: Kit) -> None:
    session = kit.start()
    late = zombie(kit, session)
    kit.run(session)
    kit.complete(session)
    before = kit.head(session)

    with pytest.raises(ClaimLost):
        kit.end(late)
    assert kit.head(session) == before


def test_a_checkpoint_whose_answer_was_lost_is_recognised(kit: Kit) -> None:
    """Rule 2: final, and my token: it was done, go on."""
    session = kit.start([*queued("a"), *joins(j=1)], total=3)
    done = kit.done(kit.claim(session), "b", arrivals={"j": 1})
    first = kit.store.checkpoint(done)
    again = kit.store.checkpoint(done)

    assert again == first
    assert again.ready == ("j",)
    assert kit.head(session)["version"] == 2
    kit.check(session)


def test_a_checkpoint_of_a_session_that_is_gone_is_a_lost_claim(kit: Kit) -> None:
    session = kit.start()
    claimed = kit.claim(session)
    kit.store.delete_session(session)

    with pytest.raises(ClaimLost):
        kit.end(claimed, "b")
    with pytest.raises(ClaimLost):
        kit.fail(claimed)


def test_outputs_of_any_size_and_null_are_kept(kit: Kit) -> None:
    session = kit.start(queued("a", "b", "c"))
    big = '"' + "x" * 1_500_000 + '"'
    kit.run(session, "a", output=big)
    kit.run(session, "b", output="null")
    kit.run(session, "c", output=None, status="skipped")

    found = kit.store.outputs(session, {"a", "b", "c", "d"})
    assert found == {"a": ("succeeded", big), "b": ("succeeded", "null"), "c": ("skipped", None)}
    assert kit.store.outputs(session, set()) == {}


def test_a_step_without_a_call_keeps_none(kit: Kit) -> None:
    session = kit.start(total=2)
    claimed = kit.claim(session)
    done = kit.done(claimed)
    kit.store.checkpoint(replace(done, queued=queued("b", call=None)))
    assert kit.claim(session, "b").call is None
    assert StepKey(session, "b") == kit.orphan(session, "b").key
