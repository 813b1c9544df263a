"""setback: an attempt that did not succeed is on record, and the next one is queued or the session fails."""

from __future__ import annotations

from datetime import timedelta

import pytest

from celery_cascade.errors import ClaimLost
from celery_cascade.states import Halt
from contract.kit import NOON, Kit, joins, queued


def test_a_failure_with_a_delay_queues_the_next_attempt_for_then(kit: Kit) -> None:
    session = kit.start()
    moved = kit.fail(kit.claim(session, worker="w1", timeout=9), 30.0)

    assert (moved.version, moved.open_steps, moved.halt) == (2, 1, None)
    row = kit.row(session)
    assert (row["status"], row["attempt"], row["failures"], row["retries"], row["crashes"]) == ("queued", 2, 1, 0, 0)
    assert (row["wake_at"], row["sends"]) == (NOON + timedelta(seconds=30), 0)
    assert (row["worker"], row["runner"], row["deadline"], row["version"]) == ("w2", None, None, 2)
    kit.check(session)


def test_a_retry_without_delay_is_sent_by_the_caller_and_again_if_nobody_claims_it(kit: Kit) -> None:
    session = kit.start()
    kit.fail(kit.claim(session), 0.0, resend_after=60.0)

    row = kit.row(session)
    assert (row["wake_at"], row["sends"]) == (NOON + timedelta(seconds=60), 1)
    kit.fail(kit.claim(session), 0.0, resend_after=None)
    assert kit.row(session)["wake_at"] is None


def test_an_attempt_that_failed_is_on_record_with_who_ran_it(kit: Kit) -> None:
    session = kit.start()
    claimed = kit.claim(session, worker="w1")
    kit.clock.forward(7)
    kit.fail(claimed, 5.0, error='{"message":"no"}', traceback="Traceback …")

    (attempt,) = kit.store.attempts(session)
    assert (attempt["step"], attempt["item"], attempt["attempt"], attempt["kind"]) == ("a", -1, 1, "failure")
    assert (attempt["error"], attempt["traceback"], attempt["worker"]) == ('{"message":"no"}', "Traceback …", "w1")
    assert (attempt["started_at"], attempt["finished_at"]) == (NOON, NOON + timedelta(seconds=7))
    assert attempt["version"] == 2


@pytest.mark.parametrize("kind", ["failure", "retry", "timeout", "requeue", "crash"])
def test_each_kind_of_setback_counts_what_it_is(kit: Kit, kind: str) -> None:
    """DESIGN 3: `attempt` counts claims, `failures` and `retries` what the caller says, a crash only crashes."""
    session = kit.start()
    kit.fail(
        kit.claim(session), 1.0, kind=kind, failures=int(kind in ("failure", "timeout")), retries=int(kind == "retry")
    )

    row = kit.row(session)
    assert row["attempt"] == 2
    assert row["failures"] == int(kind in ("failure", "timeout"))
    assert row["retries"] == int(kind == "retry")
    assert row["crashes"] == int(kind == "crash")
    assert [attempt["kind"] for attempt in kit.store.attempts(session)] == [kind]


def test_a_retry_may_change_the_call(kit: Kit) -> None:
    session = kit.start(queued("a", call='{"args":[1],"kwargs":{}}'))
    kit.fail(kit.claim(session), 0.0, kind="retry", call='{"args":[2],"kwargs":{}}')
    again = kit.claim(session)
    assert again.call == '{"args":[2],"kwargs":{}}'
    kit.fail(again, 0.0)
    assert kit.claim(session).call == '{"args":[2],"kwargs":{}}'


def test_a_final_failure_halts_the_session_and_parks_what_is_queued(kit: Kit) -> None:
    """DESIGN 3: nothing new is queued, what runs finishes and is checkpointed, then the session is failed."""
    session = kit.start([*queued("a", "b", "c"), *joins(j=2)], total=5)
    a, b = kit.claim(session, "a"), kit.claim(session, "b")
    moved = kit.fail(a, error='{"message":"first"}')

    assert (moved.halt, moved.open_steps) == ("failed", 4)
    assert kit.statuses(session) == {"a": "failed", "b": "running", "c": "pending", "j": "pending"}
    row = kit.row(session, "a")
    assert (row["error"], row["failures"], row["attempt"]) == ('{"message":"first"}', 1, 1)
    assert kit.row(session, "c")["version"] == moved.version
    assert kit.store.settle(session) is None, "b still runs"

    assert kit.end(b, "d").halt == "failed"
    assert kit.row(session, "d")["status"] == "pending"
    assert kit.store.settle(session) == "failed"
    head = kit.head(session)
    assert (head["status"], head["halt"], head["finished_at"]) == ("failed", None, NOON)
    assert kit.store.session(session)["error"] == '{"message":"first"}'
    kit.check(session)


def test_the_first_error_of_a_session_is_the_one_it_shows(kit: Kit) -> None:
    session = kit.start(queued("a", "b"))
    a, b = kit.claim(session, "a"), kit.claim(session, "b")
    kit.fail(a, error='{"message":"first"}')
    kit.fail(b, error='{"message":"second"}')

    assert kit.store.session(session)["error"] == '{"message":"first"}'
    assert kit.row(session, "b")["error"] == '{"message":"second"}'


def test_a_retry_in_a_session_that_halts_is_parked(kit: Kit) -> None:
    session = kit.start()
    claimed = kit.claim(session)
    kit.store.halt(session, Halt.SUSPENDED, "operator")
    moved = kit.fail(claimed, 30.0)

    row = kit.row(session)
    assert moved.halt == "suspended"
    assert (row["status"], row["attempt"], row["wake_at"], row["sends"]) == ("pending", 2, None, 0)
    assert kit.store.settle(session) == "suspended"
    kit.check(session)


def test_a_final_failure_outranks_a_suspension_and_not_a_cancellation(kit: Kit) -> None:
    for halt, end, reason in ((Halt.SUSPENDED, "failed", None), (Halt.CANCELLED, "cancelled", "why")):
        session = kit.start()
        claimed = kit.claim(session)
        kit.store.halt(session, halt, "operator" if halt is Halt.SUSPENDED else "why")
        assert kit.fail(claimed).halt == end
        assert kit.store.settle(session) == end
        assert kit.head(session)["status_reason"] == reason


def test_a_late_failure_is_refused_and_leaves_no_trace(kit: Kit) -> None:
    """Rule 2: the token is still on the row of the released step, and that is no proof."""
    for delay in (None, 0.0, 30.0):
        session = kit.start()
        late = kit.claim(session)
        kit.store.release(kit.orphan(session), error=None)
        before = kit.head(session)

        with pytest.raises(ClaimLost):
            kit.fail(late, delay)
        kit.claim(session, token="new")
        with pytest.raises(ClaimLost):
            kit.fail(late, delay)

        assert kit.head(session) == before
        assert [attempt["kind"] for attempt in kit.store.attempts(session)] == ["crash"]


@pytest.mark.parametrize("delay", [None, 0.0, 30.0])
def test_a_failure_whose_answer_was_lost_is_recognised(kit: Kit, delay: float | None) -> None:
    session = kit.start(queued("a", "b"))
    what = kit.setback(kit.claim(session), delay)

    assert kit.store.setback(what) == kit.store.setback(what)
    assert kit.head(session)["version"] == 2
    assert len(kit.store.attempts(session)) == 1
    kit.check(session)


def test_a_failure_after_ones_own_checkpoint_is_refused(kit: Kit) -> None:
    """D11: a checkpointed step stays checkpointed."""
    session = kit.start()
    claimed = kit.claim(session)
    kit.end(claimed)

    for delay in (None, 5.0):
        with pytest.raises(ClaimLost):
            kit.fail(claimed, delay)
    assert kit.statuses(session) == {"a": "succeeded"}
