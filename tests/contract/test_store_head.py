"""halt, settle, revive: how a session is asked to end, ends, and comes back."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from celery_cascade.errors import SessionNotFound
from celery_cascade.persistence.head import Action
from celery_cascade.persistence.tables import steps
from celery_cascade.states import Halt, SessionStatus, can_move
from contract.kit import NOON, Kit, joins, queued

CANCEL = Action(action="cancel", actor="ann", reason="enough", detail="{}")


# -- halt
def test_a_halt_takes_back_what_is_queued_and_lets_what_runs_end(kit: Kit) -> None:
    """DESIGN 3, cancel and suspend set the head."""
    session = kit.start([*queued("a", "b"), *joins(j=2)])
    claimed = kit.claim(session)

    assert kit.store.halt(session, Halt.CANCELLED, "enough", CANCEL) == "active"
    assert kit.statuses(session) == {"a": "running", "b": "pending", "j": "pending"}
    head = kit.head(session)
    assert (head["status"], head["halt"], head["status_reason"], head["version"]) == (
        "active",
        "cancelled",
        "enough",
        2,
    )
    assert kit.row(session, "b")["version"] == 2
    (action,) = kit.store.actions(session)
    assert (action["action"], action["actor"], action["reason"], action["version"]) == ("cancel", "ann", "enough", 2)
    assert action["done_at"] == NOON

    assert kit.store.settle(session) is None
    assert kit.end(claimed, "c").halt == "cancelled"
    assert kit.store.settle(session) == "cancelled"
    assert kit.statuses(session) == {"a": "succeeded", "b": "cancelled", "c": "cancelled", "j": "cancelled"}
    head = kit.head(session)
    assert (head["open_steps"], head["finished_at"], head["halt"], head["status_reason"]) == (0, NOON, None, "enough")
    assert kit.row(session, "j")["version"] == head["version"]


def test_a_stronger_halt_replaces_a_weaker_and_never_the_other_way(kit: Kit) -> None:
    strengths = [Halt.SUSPENDED, Halt.FAILED, Halt.CANCELLED, Halt.EXPIRED]
    for first in strengths:
        for second in strengths:
            session = kit.start()
            kit.claim(session)
            kit.store.halt(session, first, "operator" if first is Halt.SUSPENDED else "one")
            kit.store.halt(session, second, "operator" if second is Halt.SUSPENDED else "two")
            assert kit.head(session)["halt"] == max(first, second, key=lambda halt: halt.rank), (first, second)


def test_a_halt_that_changes_nothing_makes_no_version(kit: Kit) -> None:
    session = kit.start()
    kit.store.halt(session, Halt.CANCELLED, "enough")
    kit.store.halt(session, Halt.SUSPENDED, "operator")
    assert kit.head(session)["version"] == 2
    kit.store.halt(session, Halt.SUSPENDED, "operator", CANCEL)
    assert kit.head(session)["version"] == 3, "what an operator did is a change"


@pytest.mark.parametrize("end", [Halt.CANCELLED, Halt.EXPIRED, Halt.FAILED, None])
def test_a_final_session_is_left_alone(kit: Kit, end: Halt | None) -> None:
    """R39, R135: refused for final states; only a failed one can still be cancelled."""
    session = kit.start()
    if end is None:
        kit.run(session)
        kit.complete(session)
    else:
        kit.store.halt(session, end, None)
        kit.store.settle(session)
    status, done = kit.head(session)["status"], kit.store.actions(session)
    for halt in Halt:
        if status == "failed" and halt is Halt.CANCELLED:
            continue
        before = kit.head(session)
        assert kit.store.halt(session, halt, "x", CANCEL) == status
        assert kit.store.settle(session, output="null") is None
        assert kit.head(session) == before
    assert kit.store.actions(session) == done


def test_what_the_engine_asks_for_by_itself_is_written_down_once(kit: Kit) -> None:
    """R23, R45: the version at which a session begins to expire is borne by a row, however often that is asked."""
    session = kit.start()
    kit.run(session)
    before = kit.head(session)["version"]
    for _ in range(3):
        kit.store.halt(session, Halt.EXPIRED, None)
    (action,) = kit.store.actions(session)
    assert (action["action"], action["actor"], action["version"]) == ("expire", "celery_cascade", before + 1)
    assert kit.head(session)["version"] == before + 1


def test_a_suspended_or_failed_session_can_be_cancelled(kit: Kit) -> None:
    for first in (Halt.SUSPENDED, Halt.FAILED):
        session = kit.start(queued("a", "b"))
        kit.store.halt(session, first, None)
        kit.store.settle(session)
        assert kit.store.halt(session, Halt.CANCELLED, None) == first.value
        assert kit.store.unsettled() == [session]
        assert kit.store.settle(session) == "cancelled"
        assert kit.statuses(session) == {"a": "cancelled", "b": "cancelled"}


def test_every_move_of_a_status_is_an_allowed_one(kit: Kit) -> None:
    """R39: the store and the table of moves say the same."""
    for old in (None, Halt.SUSPENDED, Halt.FAILED, Halt.CANCELLED, Halt.EXPIRED):
        for asked in Halt:
            session = kit.start()
            if old is not None:
                kit.store.halt(session, old, None)
                kit.store.settle(session)
            before = SessionStatus(kit.head(session)["status"])
            kit.store.halt(session, asked, None)
            kit.store.settle(session)
            after = SessionStatus(kit.head(session)["status"])
            assert after is before or can_move(before, after), (before, asked, after)


def test_a_session_that_is_not_there_is_said_so(kit: Kit) -> None:
    for call in (
        lambda: kit.store.halt("nobody", Halt.CANCELLED, None),
        lambda: kit.store.settle("nobody"),
        lambda: kit.store.revive("nobody"),
        lambda: kit.store.head("nobody"),
        lambda: kit.store.session("nobody"),
    ):
        with pytest.raises(SessionNotFound, match="nobody"):
            call()


# -- settle
def test_a_session_is_completed_once_when_every_step_has_ended(kit: Kit) -> None:
    session = kit.start(total=2)
    kit.run(session, "a", "b")
    assert kit.store.settle(session, output='"early"') is None
    kit.run(session, "b")
    kit.clock.forward(4)

    assert kit.store.settle(session, output='{"sum":7}') == "completed"
    assert kit.store.settle(session, output='"other"') is None
    row = kit.store.session(session)
    assert (row["status"], row["output"], row["error"], row["version"]) == ("completed", '{"sum":7}', None, 4)
    assert row["finished_at"] == kit.clock()
    kit.check(session)


def test_a_session_is_not_completed_by_a_caller_that_has_no_output_yet(kit: Kit) -> None:
    """The last step may end between the caller's look and its settle; the output would be lost."""
    session = kit.start()
    kit.run(session)

    assert kit.store.settle(session) is None
    assert kit.store.unsettled() == [session]
    kit.complete(session)


def test_a_session_whose_output_does_not_render_has_failed(kit: Kit) -> None:
    session = kit.start()
    kit.run(session)
    assert kit.store.settle(session, error='{"message":"no such name"}') == "failed"
    assert kit.store.session(session)["error"] == '{"message":"no such name"}'

    status, again = kit.store.revive(session)
    assert (status, again) == ("failed", [])
    assert kit.store.unsettled() == [session]
    kit.complete(session)


def test_a_suspension_that_finds_everything_ended_is_a_completion(kit: Kit) -> None:
    session = kit.start()
    claimed = kit.claim(session)
    kit.store.halt(session, Halt.SUSPENDED, "operator")
    kit.end(claimed)
    kit.complete(session)
    assert kit.head(session)["status_reason"] is None


def test_a_step_queued_by_a_recovery_that_had_not_seen_the_halt_is_parked_at_the_end(kit: Kit) -> None:
    """Rule 4: a release locks no head, so the end of the session looks once more."""
    session = kit.start(queued("a", "b"))
    kit.store.halt(session, Halt.SUSPENDED, "operator")
    late = update(steps).where(steps.c.session_id == session, steps.c.step == "a").values(status="queued")
    kit.database.transaction(lambda conn: conn.execute(late))

    assert kit.store.settle(session) == "suspended"
    assert kit.statuses(session) == {"a": "pending", "b": "pending"}
    kit.check(session)


def test_parking_such_a_step_while_another_runs_leaves_no_gap_in_the_history(kit: Kit) -> None:
    """R23: found by the crash enumeration; the step's end overwrote the only row that bore the version."""
    session = kit.start(queued("a", "b"))
    runs = kit.claim(session, "b")
    kit.store.halt(session, Halt.CANCELLED, None)
    late = update(steps).where(steps.c.session_id == session, steps.c.step == "a").values(status="queued")
    kit.database.transaction(lambda conn: conn.execute(late))

    assert kit.store.settle(session) is None
    assert kit.statuses(session) == {"a": "pending", "b": "running"}
    kit.end(runs)
    assert kit.store.settle(session) == "cancelled"
    borne = {1, *(row["version"] for row in [*kit.store.actions(session), *kit.rows(session).values()])}
    assert borne == set(range(1, kit.head(session)["version"] + 1))


def test_what_was_not_settled_is_found(kit: Kit) -> None:
    """Rule 3: a crash between commit and publish is healed by recovery."""
    busy, ended, halted = kit.start(), kit.start(), kit.start()
    runs, failed = kit.start(queued("a", "b")), kit.start()
    kit.run(ended)
    kit.store.halt(halted, Halt.CANCELLED, None)
    kit.claim(runs)
    kit.store.halt(runs, Halt.SUSPENDED, "operator")
    kit.fail(kit.claim(failed))

    assert sorted(kit.store.unsettled()) == sorted([ended, halted, failed])
    assert len(kit.store.unsettled(limit=2)) == 2
    for session in kit.store.unsettled():
        kit.store.settle(session, output="null")
    assert kit.store.unsettled() == []
    assert kit.head(busy)["status"] == "active"


def test_sessions_past_their_time_are_found_until_they_are_told(kit: Kit) -> None:
    """R45."""
    late, suspended, final = kit.start(expires_in=10.0), kit.start(expires_in=10.0), kit.start(expires_in=10.0)
    kit.start(expires_in=1000.0), kit.start()
    kit.store.halt(suspended, Halt.SUSPENDED, "operator")
    kit.store.settle(suspended)
    kit.run(final)
    kit.complete(final)
    assert kit.store.past_expiry() == []
    kit.clock.forward(10)

    assert sorted(kit.store.past_expiry()) == sorted([late, suspended])
    kit.claim(late)
    for session in (late, suspended):
        kit.store.halt(session, Halt.EXPIRED, None)
        kit.store.settle(session)
    assert kit.store.past_expiry() == []
    assert kit.head(suspended)["status"] == "expired"
    assert kit.head(late)["halt"] == "expired", "its step still runs"


# -- revive
def test_a_failed_session_goes_on_from_its_last_checkpoint(kit: Kit) -> None:
    session = kit.start([*queued("a", "b", "c"), *joins(j=3)], total=4)
    kit.run(session, "a", arrivals={"j": 1})
    for delay in (0.0, 0.0, None):
        kit.fail(kit.claim(session, "b"), delay, kind="failure")
    assert kit.store.settle(session) == "failed"
    kit.clock.forward(60)

    status, again = kit.store.revive(session, Action(action="resume"), worker="w5", resend_after=60)
    assert status == "failed"
    assert [(step.key.step, step.attempt, step.epoch, step.retries) for step in again] == [
        ("b", 4, 1, 0),
        ("c", 1, 0, 0),
    ]
    b = kit.row(session, "b")
    assert (b["status"], b["failures"], b["retries"], b["error"], b["finished_at"]) == ("queued", 0, 0, None, None)
    assert (b["worker"], b["sends"]) == ("w5", 1)
    head = kit.store.session(session)
    assert (head["status"], head["halt"], head["finished_at"], head["error"]) == ("active", None, None, None)
    assert (head["open_steps"], b["version"]) == (3, head["version"])
    assert kit.statuses(session) == {"a": "succeeded", "b": "queued", "c": "queued", "j": "pending"}
    kit.check(session)

    kit.run(session, "b", arrivals={"j": 1})
    assert kit.run(session, "c", arrivals={"j": 1}).ready == ("j",)
    kit.run(session, "j")
    kit.complete(session)
    kit.check(session)


def test_a_suspended_session_goes_on_with_what_was_parked(kit: Kit) -> None:
    session = kit.start([*queued("a"), *joins(j=1)], total=3)
    claimed = kit.claim(session)
    kit.store.halt(session, Halt.SUSPENDED, "operator")
    kit.end(claimed, "b", arrivals={"j": 1})
    kit.store.settle(session)

    status, again = kit.store.revive(session, resend_after=None)
    assert status == "suspended"
    assert [(step.key.step, step.attempt, step.epoch) for step in again] == [("b", 1, 0), ("j", 1, 0)]
    assert kit.row(session, "j")["wake_at"] is None
    assert kit.head(session)["status_reason"] is None
    kit.check(session)


def test_a_suspension_or_failure_on_its_way_can_be_called_off(kit: Kit) -> None:
    session = kit.start(queued("a", "b", "c"))
    a = kit.claim(session, "a")
    kit.store.halt(session, Halt.SUSPENDED, "operator")
    _, again = kit.store.revive(session)
    assert [step.key.step for step in again] == ["b", "c"]
    assert kit.head(session)["halt"] is None
    kit.fail(a)
    _, again = kit.store.revive(session)
    assert [step.key.step for step in again] == ["a", "b", "c"]
    kit.check(session)


@pytest.mark.parametrize("halt", [Halt.CANCELLED, Halt.EXPIRED])
def test_a_resume_does_not_call_off_an_end_that_was_asked_for(kit: Kit, halt: Halt) -> None:
    for first in (None, Halt.SUSPENDED, Halt.FAILED):
        session = kit.start()
        if first is None:
            kit.claim(session)
        else:
            kit.store.halt(session, first, None)
            kit.store.settle(session)
        kit.store.halt(session, halt, None)
        if kit.head(session)["halt"] is None:
            continue  # a failed session does not expire
        assert kit.store.revive(session, CANCEL) == (SessionStatus(halt), [])
        assert kit.head(session)["halt"] == halt


def test_an_active_or_ended_session_is_not_revived(kit: Kit) -> None:
    active, done = kit.start(), kit.start()
    kit.run(done)
    kit.complete(done)
    before = kit.head(active), kit.head(done)

    assert kit.store.revive(active, CANCEL) == ("active", [])
    assert kit.store.revive(done, CANCEL) == ("completed", [])
    assert (kit.head(active), kit.head(done)) == before
